"""One sweep by Patchboard and by other libraries: seconds a cell in interleaved rounds, and whether the values agree.

    python compare.py --model FOLDER --binary PATCHBOARD [--device cuda:0 --dtype bf16]
    python compare.py --model FOLDER --recorded FIXTURE.json     # no Patchboard: against a fixture of tests/oracle
    python compare.py --model FOLDER --tokens FIXTURE.json       # likewise of another model: against hf-hooks

A cell costs every peer the same wherever it is, so each measures some cells, and the whole grid is worked out from them:
seconds to prepare + seconds a cell x cells. Patchboard always sweeps the whole grid.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import report as reports
import task as tasks
import torch
from methods import METHODS, HfHooks

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# A value v may differ by this times max(1, |v|). bf16 has 8 bits of precision, so that there only gross mistakes show.
BOUNDS = {"f32": 1e-4, "bf16": 0.25}
LIBRARIES = ["torch", "transformers", "nnsight", "transformer-lens"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder in Hugging Face's layout")
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--binary", help="the patchboard to compare with")
    against.add_argument("--recorded", help="a fixture of tests/oracle: its tokens and values")
    against.add_argument("--tokens", help="a fixture of tests/oracle: only its tokens; the values are those of hf-hooks")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--dtype", default="f32", choices=DTYPES)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured; the best counts")
    parser.add_argument("--cells", type=int, default=24, help="cells a round; whole layers where a layer is a batch")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every program on the CPU")
    names = [method.name for method in METHODS]
    parser.add_argument("--methods", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--out", type=Path, default="peers.json")
    parser.add_argument("--figure", type=Path, default="peers.svg")
    return parser.parse_args()


def chosen(task, n_cells, by_layer):
    """Cells spread over the grid: about so many, or the fewest whole layers with at least so many."""
    positions = list(task.positions)
    if by_layer:
        n = min(math.ceil(n_cells / len(positions)), task.n_layers)
        layers = [(2 * i + 1) * task.n_layers // (2 * n) for i in range(n)]
        return [(layer, position) for layer in layers for position in positions]
    # Layers in even steps, columns by the golden ratio, so that neither repeats with the other.
    cells = []
    for i in range(n_cells):
        column = int(i * 0.618034 % 1 * len(positions))
        cells.append(((2 * i + 1) * task.n_layers // (2 * n_cells), positions[column]))
    return list(dict.fromkeys(cells))


def loaded(args, task):
    """The methods whose libraries are there, and the names of the others."""
    found, missing = [], {}
    for method in METHODS:
        if method.name not in args.methods:
            continue
        try:
            found.append(method(task, args.model, args.device, DTYPES[args.dtype]))
        except ModuleNotFoundError as error:
            if error.name != method.library:
                raise
            missing[method.name] = method.library
    return found, missing


def timed(args, work, *arguments):
    if args.device != "cpu":
        torch.cuda.synchronize(args.device)
    begin = time.perf_counter()
    result = work(*arguments)
    if args.device != "cpu":
        torch.cuda.synchronize(args.device)
    return time.perf_counter() - begin, result


def measured(args, task, methods, patchboard):
    """Of each method and of Patchboard, what every round took, and each method's values."""
    cells = {method: chosen(task, args.cells, method.by_layer) for method in methods}
    rounds = {method: [] for method in methods}
    values, ours = {}, []
    for method in methods:  # to warm up
        method.prepare()
        method.run(cells[method][: len(task.positions) if method.by_layer else 2])
    for i in range(args.rounds):
        for method in methods:
            prepare_secs, _ = timed(args, method.prepare)
            run_secs, found = timed(args, method.run, cells[method])
            rounds[method].append({"prepare_secs": prepare_secs, "run_secs": run_secs})
            values[method] = dict(zip(cells[method], found.tolist(), strict=True))
            note(f"round {i + 1}: {method.name}, {run_secs / len(cells[method]) * 1e3:.2f} ms a cell")
        if patchboard:
            bench = patchboard.bench()
            document, command_secs = patchboard.sweep()
            assert (bench["n_layers"], bench["n_columns"]) == (task.n_layers, len(task.positions)), bench
            sweep_secs = document["provenance"]["wall_secs"]
            ours.append({"bench": bench, "sweep_secs": sweep_secs, "command_secs": command_secs})
            note(f"round {i + 1}: patchboard, {bench['wavefront_secs']:.3f} s for the grid")
    return rounds, values, ours


def note(text):
    print(text, file=sys.stderr, flush=True)


def peer(args, task, method, rounds, values, reference):
    secs_per_cell = min(each["run_secs"] for each in rounds) / len(values)
    prepare_secs = min(each["prepare_secs"] for each in rounds)
    bound = {cell: BOUNDS[args.dtype] * max(1, abs(reference[cell])) for cell in values}
    # A difference that is no number agrees with nothing.
    agrees = all(abs(value - reference[cell]) <= bound[cell] for cell, value in values.items())
    return {
        "name": method.name,
        "what": method.__doc__,
        "secs_per_cell": secs_per_cell,
        "grid_secs": prepare_secs + secs_per_cell * len(task.cells),
        "n_cells_measured": len(values),
        "max_abs_diff": max(abs(value - reference[cell]) for cell, value in values.items()),
        "agrees": agrees,
        "rounds": rounds,
        "values": [[*cell, value] for cell, value in values.items()],
    }


def patchboard_rows(task, ours):
    """Patchboard's own rows: its wavefront, and its engine run once a cell."""
    n_cells = len(task.cells)
    grid_secs = min(each["bench"]["wavefront_secs"] for each in ours)
    rows = [{"name": "patchboard", "what": "Patchboard, the whole grid in one pass", "secs_per_cell": grid_secs / n_cells,
             "grid_secs": grid_secs, "n_cells_measured": n_cells}]  # fmt: skip
    naive = [each["bench"]["naive_secs_per_cell"] for each in ours]
    if naive[0] is not None:
        rows.append({"name": "patchboard-naive", "what": "Patchboard's engine, a run a cell", "secs_per_cell": min(naive),
                     "grid_secs": min(naive) * n_cells, "n_cells_measured": min(tasks.N_NAIVE_CELLS, n_cells)})  # fmt: skip
    return rows


def machine(args):
    name = platform.processor() or platform.machine()
    if args.device != "cpu":
        name = torch.cuda.get_device_name(args.device)
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    return name


def version(library):
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def main():
    args = arguments()
    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads)
    patchboard, versions = None, {library: version(library) for library in LIBRARIES}
    if args.binary:
        patchboard = tasks.Patchboard(args.binary, args.model, args.device, args.dtype, args.threads)
        document, _ = patchboard.sweep()
        task = tasks.of_document(document)
        versions["patchboard"] = document["provenance"]["engine"].removeprefix("patchboard ")
    else:
        task = tasks.of_recorded(args.recorded or args.tokens)
    methods, missing = loaded(args, task)
    rounds, values, ours = measured(args, task, methods, patchboard)
    reference = task.values
    if args.tokens:
        cells = sorted({cell for found in values.values() for cell in found})
        method = HfHooks(task, args.model, args.device, DTYPES[args.dtype])
        method.prepare()
        reference = dict(zip(cells, method.run(cells).tolist(), strict=True))

    rows = [peer(args, task, method, rounds[method], values[method], reference) for method in methods]
    if ours:
        rows = patchboard_rows(task, ours) + rows
        for row in rows:
            row["factor"] = row["grid_secs"] / rows[0]["grid_secs"]
    report = {
        "model": Path(args.model).name,
        "machine": machine(args),
        "device": args.device,
        "dtype": args.dtype,
        "n_threads": args.threads,
        "n_tokens": len(task.base),
        "n_layers": task.n_layers,
        "n_columns": len(task.positions),
        "n_rounds": args.rounds,
        "versions": {name: number for name, number in versions.items() if number},
        "left_out": missing,
        "rows": rows,
        "patchboard_rounds": ours,
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(reports.table(report))
    print(f"\nevery number: {args.out}")
    if ours:
        reports.draw(report, args.figure)
        print(f"figure: {args.figure}")
    failed = [row["name"] for row in rows if not row.get("agrees", True)]
    if failed:
        sys.exit(f"error: values differ by more than {BOUNDS[args.dtype]} x max(1, |value|): {', '.join(failed)}")


main()
