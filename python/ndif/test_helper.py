"""The helper against recorded numbers of the small models of every family, in its own process: no server, no network.

    python test_helper.py
"""

import json
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORACLE = HERE.parent.parent / "tests" / "oracle"
SITES = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
# Recorded from float32 by way of another order of operations.
CLOSE = 1e-4


class Helper:
    def __init__(self, **variables):
        import os

        environment = {**os.environ, **variables}
        self.process = subprocess.Popen([sys.executable, HERE / "helper.py"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)  # fmt: skip

    def ask(self, **ask):
        """The answers, the last of which is the end."""
        self.process.stdin.write(json.dumps(ask) + "\n")
        self.process.stdin.flush()
        answers = []
        while not answers or answers[-1]["kind"] not in ("opened", "done", "failed"):
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(self.process.stderr.read())
            answers.append(json.loads(line))
        return answers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def padded(sweep, pad):
    source, base = sweep["source"], sweep["base"]
    if sweep["align"] == "pad":
        n = max(len(source), len(base))
        return [pad] * (n - len(source)) + source, [pad] * (n - len(base)) + base
    return source, base


def asked(pair, sweep, recorded):
    """A recorded sweep as it is asked for: two waves, with a control each."""
    source, base = padded(sweep, recorded["pad"])
    shift = len(source) - len(base)
    n_layers = len(sweep["logit_diff"])
    cells = [
        {"site": sweep["site"], "layer": layer, "writes": [[position, 1, position + shift]]}
        for layer in range(n_layers)
        for position in range(sweep["start"], len(base))
    ]
    half = len(cells) // 2
    whole = {"site": "resid_post", "layer": n_layers - 1, "writes": [[len(base) - 1, 1, len(source) - 1]]}
    nothing = {"site": sweep["site"], "layer": 1, "writes": [[sweep["start"], 0, sweep["start"]]]}
    waves = [[*cells[:half], nothing, whole], [*cells[half:], nothing, whole]]
    numbered = [[{"cell": number, **cell} for number, cell in enumerate(wave)] for wave in waves]
    return {"pair": pair, "runs": [base, source], "true_ids": recorded["true_ids"], "false_ids": recorded["false_ids"],
            "waves": [{"base": 0, "cells": wave} for wave in numbered]}  # fmt: skip


def logit_diff(numbers):
    return [true - false for true, false in zip(numbers["log_true"], numbers["log_false"])]


class Families(unittest.TestCase):
    def check(self, name):
        recorded = json.loads((ORACLE / "fixtures" / f"{name}.json").read_text())
        sweeps = [sweep for sweep in recorded["sweeps"] if sweep["site"] in SITES]
        with Helper() as helper:
            opened = helper.ask(kind="open", host="local", model=name, folder=str(ORACLE / "models" / name))
            self.assertEqual(opened[-1]["kind"], "opened", opened[-1])
            pairs = [asked(pair, sweep, recorded) for pair, sweep in enumerate(sweeps)]
            answers = helper.ask(kind="sweep", pairs=pairs, n_top=2)
        self.assertEqual(answers[-1]["kind"], "done", answers[-1])
        for pair, sweep in enumerate(sweeps):
            what = (name, sweep["site"], sweep["align"])
            runs, *waves = [a["numbers"] for a in answers if a.get("pair") == pair]
            base, source = logit_diff(runs)
            found = []
            for wave in waves:
                *values, nothing, whole = logit_diff(wave)
                found += values
                self.assertLess(abs(nothing - base), CLOSE, what)
                self.assertLess(abs(whole - source), CLOSE, what)
            expected = [value for row in sweep["logit_diff"] for value in row]
            self.assertEqual(len(found), len(expected), what)
            largest = max(abs(one - other) for one, other in zip(found, expected))
            self.assertLess(largest, CLOSE, what)
            self.assertTrue(all(len(top) == 2 for wave in waves for top in wave["top"]))
            self.assertLess(max(abs(runs["divergence"][run][run]) for run in (0, 1)), CLOSE)

    def test_of_every_family_the_recorded_cells_come_out(self):
        names = sorted(path.stem for path in (ORACLE / "fixtures").glob("fam-*.json"))
        self.assertGreater(len(names), 15)
        for name in names:
            with self.subTest(name):
                self.check(name)


class Failures(unittest.TestCase):
    def test_of_a_server_that_is_not_there_is_said_and_the_key_is_not(self):
        folder = str(ORACLE / "models" / "tiny-tied")
        with Helper(NDIF_API_KEY="somebodys-secret") as helper:
            for host in ("http://127.0.0.1:9", "http://somebodys-secret.invalid", "http://me:password@127.0.0.1:9", "nonsense"):
                answer = helper.ask(kind="open", host=host, model="org/name", folder=folder)[-1]
                self.assertEqual((answer["kind"], answer["reason"]), ("failed", "unreachable"), answer)
                for secret in ("somebodys-secret", "password"):
                    self.assertNotIn(secret, json.dumps(answer))

    def test_what_is_no_model_is_a_failure(self):
        with Helper() as helper:
            answer = helper.ask(kind="open", host="local", model="none", folder="/nonexistent")[-1]
            self.assertEqual(answer["kind"], "failed", answer)


if __name__ == "__main__":
    unittest.main()
