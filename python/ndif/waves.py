"""Waves of patches in one request.

The base enters a trace as the only row of its batch. Where a cell's patch goes in, a copy of the base's row joins the
batch, and only the layers above run for it. The block travels to the server as text, with the values that it reads, so
it is written out in one piece: no functions of ours, no comprehensions (a variable of one that comes again in a later
trace of a session goes stale), and no comments before its last trace (`remote="local"` counts lines without them).
Results are printed line by line, which reaches us while the rest still runs. Activations are reshaped to rows because
OPT has no batch within its MLP.
"""

import inspect
import json

import torch

from models import paths

MARK = "patchboard-wave "


def entry(cell):
    """The step at which a cell's row joins the batch: the end of this layer; -1 is the embedding."""
    if cell["site"] == "resid_post":
        return cell["layer"]
    return cell["layer"] - 1


def steps(wave):
    """What is done to a wave's batch, in the order in which the model comes by, and the row of each cell."""
    cells = wave["cells"]
    order = sorted(range(len(cells)), key=lambda at: entry(cells[at]))
    row_of = {at: row + 1 for row, at in enumerate(order)}
    found = {}

    def step(layer, site):
        place = (layer, ["resid_pre", "attn_out", "mlp_out", "resid_post"].index(site))
        empty = {"layer": layer, "site": site, "n_new": 0, "rows": [], "positions": [], "values": []}
        return found.setdefault(place, empty)

    for at, cell in enumerate(cells):
        entered = entry(cell)
        joins = step(0, "resid_pre") if entered < 0 else step(entered, "resid_post")
        joins["n_new"] += 1
        writes = step(cell["layer"], cell["site"])
        for position, run, origin in cell["writes"]:
            writes["rows"].append(row_of[at])
            writes["positions"].append(position)
            writes["values"].append([run, origin])
    return [found[place] for place in sorted(found)], [row_of[at] for at in range(len(cells))]


def prepared(pair):
    """A pair as the traced block reads it."""
    waves, needed = [], [set(), set()]
    for wave in pair["waves"]:
        done, rows = steps(wave)
        for step in done:
            for run, _ in step["values"]:
                needed[run].add((step["layer"], step["site"]))
        cells = [cell["cell"] for cell in wave["cells"]]
        waves.append({"base": wave["base"], "steps": done, "rows": rows, "cells": cells})
    order = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
    in_order = [sorted(of_run, key=lambda place: (place[0], order.index(place[1]))) for of_run in needed]
    return {"pair": pair["pair"], "runs": pair["runs"], "needed": in_order, "waves": waves,
            "true_ids": pair["true_ids"], "false_ids": pair["false_ids"]}  # fmt: skip


def say_dtype(model, backend):
    """Prints the type of the residual stream, by way of a request of one token."""
    blocks_path, _ = paths(model.config)
    mark = MARK
    with model.session(backend=backend):
        first = model
        for part in blocks_path:
            first = getattr(first, part)
        with model.trace([0]):
            found = first[0].output
            if isinstance(found, tuple):
                found = found[0]
            print(mark + json.dumps(str(found.dtype)))


def run(model, how, pairs, n_top):
    """Runs all waves of `pairs` in one session, which is one request on a server."""
    blocks_path, (attention, mlp) = paths(model.config)
    pairs = [prepared(pair) for pair in pairs]
    keep = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model._module.forward).parameters else {}
    mark = MARK
    with model.session(**how):
        blocks = model
        for part in blocks_path:
            blocks = getattr(blocks, part)
        for pair in pairs:
            seen = {}
            ends = []
            for run_number in (0, 1):
                with model.trace(pair["runs"][run_number], **keep):
                    for layer, site in pair["needed"][run_number]:
                        if site == "resid_pre":
                            found = blocks[layer].input
                        elif site == "attn_out":
                            found = getattr(blocks[layer], attention).output
                        elif site == "mlp_out":
                            found = getattr(blocks[layer], mlp).output
                        else:
                            found = blocks[layer].output
                        if isinstance(found, tuple):
                            found = found[0]
                        seen[run_number, layer, site] = found.reshape(-1, found.shape[-1]).clone()
                    ends.append(model.output.logits[:, -1].float())
            references = torch.cat(ends).log_softmax(-1)
            for wave in [None, *pair["waves"]]:
                if wave is None:
                    logits = torch.cat(ends)
                else:
                    read = []
                    tokens = pair["runs"][wave["base"]]
                    with model.trace(tokens, **keep):
                        for step in wave["steps"]:
                            block = blocks[step["layer"]]
                            if step["site"] == "resid_pre":
                                whole = block.input
                            elif step["site"] == "attn_out":
                                whole = getattr(block, attention).output
                            elif step["site"] == "mlp_out":
                                whole = getattr(block, mlp).output
                            else:
                                whole = block.output
                            x = whole[0] if isinstance(whole, tuple) else whole
                            shape = x.shape
                            x = x.reshape(-1, len(tokens), shape[-1])
                            x = torch.cat([x, x[0:1].expand(step["n_new"], -1, -1)])
                            if step["rows"]:
                                values = []
                                for from_run, origin in step["values"]:
                                    values.append(seen[from_run, step["layer"], step["site"]][origin])
                                x[step["rows"], step["positions"]] = torch.stack(values)
                            if step["n_new"] == 0:
                                x = x.reshape(shape)
                            if isinstance(whole, tuple):
                                x = (x, *whole[1:])
                            if step["site"] == "resid_pre":
                                block.input = x
                            elif step["site"] == "attn_out":
                                getattr(block, attention).output = x
                            elif step["site"] == "mlp_out":
                                getattr(block, mlp).output = x
                            else:
                                block.output = x
                        read.append(model.output.logits[wave["rows"], -1].float())
                    logits = read[0]
                of_true = logits[:, pair["true_ids"]]
                of_false = logits[:, pair["false_ids"]]
                log_all = logits.logsumexp(-1)
                log_p = logits - log_all[:, None]
                columns = [of_true.logsumexp(-1), of_false.logsumexp(-1), log_all]
                for reference in references:
                    columns.append((reference.exp() * (reference - log_p)).sum(-1))
                above_true = (logits > of_true.amax(-1, keepdim=True)).sum(-1)
                above_false = (logits > of_false.amax(-1, keepdim=True)).sum(-1)
                top = logits.topk(n_top)
                message = {
                    "pair": pair["pair"],
                    "values": torch.stack(columns).double().round(decimals=7).tolist(),
                    "above": [above_true.tolist(), above_false.tolist()],
                    "top": top.indices.tolist(),
                    "top_logits": top.values.double().round(decimals=7).tolist(),
                }
                if wave is not None:
                    message["cells"] = wave["cells"]
                print(mark + json.dumps(message))
