"""Answers like the helper for NDIF, with made-up numbers, or as a hostile or broken one would.

    fake_ndif_helper.py MODE LOG ANYTHING

MODE `open REASON` fails when the model is opened. While there is a file LOG.held, only the first wave of a request
comes.
"""

import json
import os
import sys
import time
import zlib

MODE, LOG = sys.argv[1:3]
# Of the tiny model.
N_LAYERS = 4


def say(kind, **fields):
    sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


def number(*key):
    """The same for the same key, between 0 and 1."""
    return zlib.crc32(repr(key).encode()) / 2**32


def numbers(keys, n_top):
    return {
        "log_true": [number("true", key) for key in keys],
        "log_false": [number("false", key) for key in keys],
        "log_all": [2.0 for _ in keys],
        "above_true": [1 for _ in keys],
        "above_false": [2 for _ in keys],
        "divergence": [[0.25 for _ in keys], [0.5 for _ in keys]],
        "top": [list(range(5, 5 + n_top)) for _ in keys],
        "top_logits": [[1.5] * n_top for _ in keys],
    }


def key(pair, base, cell):
    """What decides a cell's numbers: of a control, the run that it must equal."""
    own, other = pair["runs"][base], pair["runs"][1 - base]
    if all(run == base and position == origin for position, run, origin in cell["writes"]):
        return own
    whole = [len(own) - 1, 1 - base, len(other) - 1]
    if (cell["site"], cell["layer"]) == ("resid_post", N_LAYERS - 1) and cell["writes"] == [whole]:
        return other
    return [own, cell["site"], cell["layer"], cell["writes"]]


def waves(ask):
    n = 0
    for pair in ask["pairs"]:
        if MODE != "no runs":
            say("runs", pair=pair["pair"], numbers=numbers(pair["runs"], ask["n_top"]))
        for wave in pair["waves"]:
            n += 1
            cells = [cell["cell"] for cell in wave["cells"]]
            keys = [key(pair, wave["base"], cell) for cell in wave["cells"]]
            yield n, pair["pair"], cells, keys, numbers(keys, ask["n_top"])


def sweep(ask, n_asked):
    n_cells = sum(len(wave["cells"]) for pair in ask["pairs"] for wave in pair["waves"])
    with open(LOG, "a") as log:
        log.write(f"{n_cells}\n")
    say("said", text="RUNNING: Your job has started running.")
    if MODE in ("key", "model", "unsupported"):
        return say("failed", reason=MODE, message=f"no {MODE}")
    if MODE == "unreachable" and n_asked < 3:
        return say("failed", reason="unreachable", message="\x1b[31mnobody there")
    if MODE == "gone":
        return say("failed", reason="unreachable", message="nobody there")
    if MODE == "too large" and n_cells > 40:
        return say("failed", reason="too_large", message="There was an error parsing the body")
    if MODE == "memory" and max(len(wave["cells"]) for pair in ask["pairs"] for wave in pair["waves"]) > 40:
        return say("failed", reason="memory", message="CUDA out of memory")
    for n, pair, cells, keys, found in waves(ask):
        while n > 1 and os.path.exists(LOG + ".held"):
            time.sleep(0.01)
        if MODE == "leaks" and n == 2:
            say("said", text=f"the key is {os.environ['NDIF_API_KEY']}")
            sys.stderr.write(f"NDIF_API_KEY={os.environ['NDIF_API_KEY']}\n")
            sys.exit(1)
        if MODE == "short":
            found["log_true"].pop()
        if MODE == "nan":
            found["log_true"][0] = float("nan")
        if MODE == "infinite":
            found["log_all"][0] = 1e39
        if MODE == "token":
            found["top"][0][0] = 1_000_000
        if MODE == "above all":
            found["log_true"][0] = 3.0
        if MODE == "negative":
            found["divergence"][0][0] = -1.0
        if MODE == "tops":
            found["top"][0].append(5)
        if MODE == "foreign":
            cells[0] += 1
        if MODE == "foreign pair":
            pair += 100
        if MODE == "control" or (MODE == "control once" and n_asked == 1 and n == 1):
            found["log_true"] = [value + 0.5 for value in found["log_true"]]
        if MODE == "dies" and n == 2:
            sys.stderr.write("Segmentation\x1b[31m fault\n")
            sys.exit(1)
        if MODE == "garbage":
            print("<html>502 Bad Gateway</html>", flush=True)
        if MODE == "cut":
            sys.stdout.write('{"kind": "wave", "pair": 0')
            sys.exit(0)
        if MODE == "hangs":
            time.sleep(600)
        if MODE == "lost" and n == 1:
            continue
        if MODE == "time out" and n == 2 and n_cells > 60:
            return say("failed", reason="time_out", message="exceeded the execution timeout of 25.0s")
        if MODE == "slow" and n_cells > 4:
            return say("failed", reason="time_out", message="exceeded the execution timeout of 25.0s")
        if MODE == "too slow":
            return say("failed", reason="time_out", message="exceeded the execution timeout of 25.0s")
        say("wave", pair=pair, cells=cells, numbers=found)
        if MODE == "twice":
            say("wave", pair=pair, cells=cells, numbers=found)
    say("done", n_sent=100, n_received=1000)


def main():
    n_asked = 0
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["kind"] == "open":
            say("said", text="QUEUED: Added to Queue at position 1.")
            say("alive")
            if MODE.startswith("open "):
                say("failed", reason=MODE.removeprefix("open "), message="closed")
                continue
            say("opened", host="ndif.example", nnsight="0.8.0", server_nnsight="0.8.0", ndif="0.1.2", state="running",
                dtype="bfloat16" if MODE == "bf16" else "float32", time_limit_secs=25.0, is_trusted=False)  # fmt: skip
        else:
            n_asked += 1
            sweep(ask, n_asked)


main()
