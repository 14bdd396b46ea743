#!/usr/bin/env python3
"""Measures what viewers cost a running sweep: the same pairs without viewers, and with 200 open
event streams and 50 requests a second, in turns, on one server each.

    scripts/measure-server.py PATCHBOARD [--model PATH] [--pairs N] [--streams N] [--rate N]

Python's standard library is all it needs. Prints times, the share by which the sweep is slower,
errors, latencies and memory. The clients run on the same machine and take their part of it.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import tempfile
import time


async def request(address, method, path, body=b""):
    reader, writer = await asyncio.open_connection(*address)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def listen(address, counts):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    counts["open"] += 1
    try:
        while chunk := await reader.read(1 << 16):
            counts["events"] += chunk.count(b"event: ")
    finally:
        counts["closed"] += 1
        writer.close()


async def ask(address, rate, errors, latencies):
    paths = ["/api/experiments?q=king", "/api/jobs", "/api/server", "/data/index.json", "/healthz"]
    tasks, n, begin = set(), 0, time.monotonic()

    async def one(path):
        at = time.monotonic()
        try:
            status, _ = await request(address, "GET", path)
            latencies.append(time.monotonic() - at)
            if status != 200:
                errors.append((path, status))
        except OSError as error:
            errors.append((path, str(error)))

    while True:
        await asyncio.sleep(max(0, begin + n / rate - time.monotonic()))
        task = asyncio.create_task(one(paths[n % len(paths)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        n += 1


def memory_mib(pid):
    status = open(f"/proc/{pid}/status").read()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def cpu_secs(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(args, loaded):
    with tempfile.TemporaryDirectory() as data:
        command = [args.program, "serve", "--port", "0", "--data", data]
        command += ["--model", args.model] if args.model else []
        server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        while b"http://" not in (line := await server.stdout.readline()):
            pass
        host, port = re.search(rb"http://([^:]+):(\d+)", line).groups()
        address = (host.decode(), int(port))
        counts = {"open": 0, "closed": 0, "events": 0}
        errors, latencies, tasks = [], [], []
        if loaded:
            tasks = [asyncio.create_task(listen(address, counts)) for _ in range(args.streams)]
            tasks.append(asyncio.create_task(ask(address, args.rate, errors, latencies)))
            await asyncio.sleep(1)
        pair = lambda i: {
            "entity": "The king",
            "source": f"The king orders guard number {i} to leave the gate and go home.",
            "base": f"The king watches guard number {i} asleep at the gate at home.",
        }
        body = json.dumps({"pairs": [pair(i) for i in range(args.pairs)]}).encode()
        begin, begin_cpu = time.monotonic(), cpu_secs(server.pid)
        status, answer = await request(address, "POST", "/api/jobs", body)
        assert status == 201, answer
        job = json.loads(answer)["job"]["id"]
        while True:
            _, answer = await request(address, "GET", f"/api/jobs/{job}")
            if json.loads(answer)["job"]["state"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.2)
        secs, cpu = time.monotonic() - begin, cpu_secs(server.pid) - begin_cpu
        assert json.loads(answer)["job"]["n_done"] == args.pairs, answer
        ended_early = counts["closed"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        peak = memory_mib(server.pid)
        os.kill(server.pid, signal.SIGTERM)
        await server.wait()
        if loaded:
            print(
                f"  {secs:.2f} s, {cpu:.2f} s of processor, peak {peak:.0f} MiB; {counts['open']} streams, {ended_early} ended "
                f"early, {counts['events']} events; {len(latencies)} requests, {len(errors)} errors, "
                f"median {1e3 * statistics.median(latencies):.1f} ms, "
                f"99 % {1e3 * statistics.quantiles(latencies, n=100)[98]:.1f} ms"
            )
            assert not errors and not ended_early, errors[:5]
        else:
            print(f"  {secs:.2f} s, {cpu:.2f} s of processor, peak {peak:.0f} MiB")
        return secs, cpu


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--model")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    alone, loaded = [], []
    for _ in range(args.rounds):
        print("alone")
        alone.append(await run(args, False))
        print("with viewers")
        loaded.append(await run(args, True))
    for i, what in enumerate(["time", "processor time"]):
        more = min(run[i] for run in loaded) / min(run[i] for run in alone) - 1
        print(f"{100 * more:+.1f} % {what} (best of {args.rounds} each)")


asyncio.run(main())
