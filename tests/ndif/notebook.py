"""What a sweep costs in the notebook's form, a request a cell: some cells of a grid, and all of them worked out.

    python notebook.py HOST ORG/NAME FOLDER RESULT.json N_CELLS
"""

import json
import sys
import time
from pathlib import Path

import nnsight
from nnsight.intervention.backends.remote import RemoteBackend

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "ndif"))
import models  # noqa: E402

nnsight.CONFIG.APP.REMOTE_LOGGING = False
host, repo, folder, result, n_cells = sys.argv[1:6]
document = json.loads(Path(result).read_text())
source = [token["id"] for token in document["source_tokens"]]
base = [token["id"] for token in document["base_tokens"]]
true_ids = [token["id"] for token in document["answers"]["true"]["kept"]]
false_ids = [token["id"] for token in document["answers"]["false"]["kept"]]
grid = document["patching_results"]
start = document["sentence_start"]
assert len(source) == len(base)
model = models.without_weights(folder)
key = "nnsight.modeling.transformers.TransformersModel:" + json.dumps({"repo_id": repo, "revision": None, "task": "text-generation"})
n_sent = n_received = 0


class Counted(RemoteBackend):
    def _serialize(self, tracer):
        global n_sent
        blob = super()._serialize(tracer)
        n_sent += len(blob)
        return blob

    @staticmethod
    def parse(message):
        global n_received
        n_received += len(message)
        return RemoteBackend.parse(message)


def activations(n_layers):
    with model.trace(source, backend=Counted(key, host=host)):
        found = []
        for at in range(n_layers):
            found.append(model.model.layers[at].output[0].clone())
        found.save()
    return found


def cell(layer, position, vector):
    with model.trace(base, backend=Counted(key, host=host)):
        model.model.layers[layer].output[0, position] = vector
        logits = model.lm_head.output[0, -1].float()
        value = (logits[true_ids].logsumexp(-1) - logits[false_ids].logsumexp(-1)).item().save()
    return value


n_layers, n_positions = len(grid), len(grid[0])
seen = activations(n_layers)
step = max(1, n_layers * n_positions // int(n_cells))
chosen = list(range(0, n_layers * n_positions, step))
sent, received, begin, largest = n_sent, n_received, time.time(), 0.0
for number in chosen:
    layer, column = divmod(number, n_positions)
    value = cell(layer, start + column, seen[layer][start + column].clone())
    largest = max(largest, abs(value - grid[layer][column]))
secs, n = time.time() - begin, len(chosen)
whole = n_layers * n_positions
print(f"a request a cell: {n} of {whole} cells in {secs:.1f} s, largest difference {largest:.1e}; all of them would be "
      f"{whole} requests, {secs / n * whole:.0f} s, {(n_sent - sent) / n * whole / 1e3:.0f} kB sent and "
      f"{(n_received - received) / n * whole / 1e3:.0f} kB received")  # fmt: skip
assert largest < 1e-4
