"""What every method is asked to compute, and what Patchboard computes: tokens, answers, cells."""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# The pair of `patchboard bench`, in the default template.
ENTITY = "The general"
PAIR = (
    "The general ordered the tired soldiers to march through the snow.",
    "The general watched the tired soldiers come home through the snow.",
)


# How many cells `patchboard bench` also runs one by one, on the CPU.
N_NAIVE_CELLS = 4


@dataclass
class Task:
    """A sweep of `resid_post`. A cell is (layer, base position)."""

    source: list[int]
    base: list[int]
    true_ids: list[int]
    false_ids: list[int]
    n_layers: int
    # The swept base positions, and for each the source position whose activation is copied there.
    positions: dict[int, int]
    values: dict[tuple[int, int], float]

    @property
    def cells(self):
        return [(layer, position) for layer in range(self.n_layers) for position in self.positions]


def of_document(document):
    """From a result of `patchboard sweep`."""
    source, base = ([token["id"] for token in document[f"{run}_tokens"]] for run in ("source", "base"))
    # A document that names no partners aligns the ends of both prompts.
    partners = document["source_positions"] or partners_by_end(source, base, document["sentence_start"])
    return of_grid(source, base, document, document["patching_results"], partners)


def of_recorded(path):
    """From a fixture of tests/oracle, with the values recorded there."""
    recorded = json.loads(Path(path).read_text())
    assert recorded["site"] == "resid_post", recorded["site"]
    source, base = recorded["source_ids"], recorded["base_ids"]
    partners = partners_by_end(source, base, recorded["sentence_start"])
    return of_grid(source, base, recorded, recorded["logit_diff"], partners)


def partners_by_end(source, base, start):
    """For each swept base position the source position as far from the end."""
    return [position + len(source) - len(base) for position in range(start, len(base))]


def of_grid(source, base, document, grid, partners):
    start = document["sentence_start"]
    true_ids, false_ids = ([token["id"] for token in document["answers"][side]["kept"]] for side in ("true", "false"))
    positions = {start + column: partner for column, partner in enumerate(partners) if partner is not None}
    values = {(layer, at): row[at - start] for layer, row in enumerate(grid) for at in positions}
    return Task(source, base, true_ids, false_ids, len(grid), positions, values)


class Patchboard:
    """The program, run as a user runs it."""

    def __init__(self, binary, folder, device, dtype, n_threads):
        self.binary = binary
        self.options = ["--model", folder, "--device", device, "--dtype", dtype]
        self.n_naive_cells = N_NAIVE_CELLS if device == "cpu" else 0
        self.environment = {**os.environ, "RAYON_NUM_THREADS": str(n_threads)}

    def run(self, *arguments):
        command = [self.binary, *arguments, *self.options]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def sweep(self):
        """The result document, and the seconds of the whole command: start, reading the model, sweep, files."""
        with tempfile.TemporaryDirectory() as out:
            begin = time.perf_counter()
            self.run("sweep", "--pair", *PAIR, "--entity", ENTITY, "--format", "json", "--quiet", "--out", out)
            secs = time.perf_counter() - begin
            (path,) = Path(out).glob("*.json")
            return json.loads(path.read_text()), secs

    def bench(self):
        """What `patchboard bench` measures; the better of two rounds, so that the first warms up."""
        return json.loads(self.run("bench", "--rounds", "2", "--naive-cells", str(self.n_naive_cells), "--json"))
