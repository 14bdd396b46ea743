"""Records experiments beyond one activation at one position: heads, windows of layers, sets of positions, both
directions, ablations, causal tracing, and what the whole vocabulary says of a cell.

As in record_families.py, whose hooks it uses, every cell is one whole forward pass, of Hugging Face transformers in
float32 with eager attention. An experiment's `settings` are in the words that Patchboard's have; what they mean is
written out here.

    python record_experiments.py [NAME ...]
"""

import sys
from itertools import product
from pathlib import Path

import torch
import transformers

from noise import noise
from record import versions
from record_families import EQUAL, FALSE, HEAD_SITES, PAD, SHORTER, SOURCE, START, TRUE
from record_families import first_swept, forward, logit_diff, n_heads_of, p_true, write

HERE = Path(__file__).parent

# Grouped queries with a norm of each head; the same with windows, soft caps and norms after; one norm over all heads;
# several heads as one matrix, in three orders, one of them transposed; heads rotated in part; grouped queries alone.
NAMES = ["fam-qwen3", "fam-gemma2", "fam-olmo2", "fam-gpt2", "fam-gpt-neox", "fam-phi3", "fam-llama-bias"]

SPANS = {
    "equal": {"differing": ([3, 5, 7, 9], [3, 5, 7, 9]), "all": (range(2, 12), range(2, 12))},
    # Positions of base and source, not in order.
    "source-longer": {"entity": ([6, 3], [5, 8, 7]), "all": (range(0, 10), range(2, 12))},
    "noised": {"entity": ([3, 4, 6], [3, 4, 6]), "all": (range(2, 12), range(2, 12))},
}
# (source, base, spans)
PAIRS = {
    "equal": (SOURCE, EQUAL),
    "source-longer": (SOURCE, SHORTER),
    "base-longer": (SHORTER, SOURCE),
    # The base is the source with noise on the entity.
    "noised": (SOURCE, SOURCE),
}
HEADS = {"site": HEAD_SITES}
EVERY = {**HEADS, "by": "position"}
NOISE = {"noise": "entity", "noise_scale": 1.5, "noise_seeds": 2}

# (pair, settings, whether the whole vocabulary is recorded)
EXPERIMENTS = [
    ("equal", HEADS, True),
    ("equal", EVERY, False),
    ("source-longer", {**HEADS, "align": "right"}, False),
    ("base-longer", {**EVERY, "align": "right"}, False),
    ("equal", {"site": ["attn_out", "mlp_out"], "window": 3}, False),
    ("equal", {"site": ["z", "v"], "window": 2}, False),
    ("equal", {"site": ["resid_post", "attn_out", "k"], "positions": ["differing", "all"]}, True),
    ("source-longer", {"site": ["z", "mlp_out"], "positions": ["entity", "all"], "align": "right", "direction": "both"}, False),
    ("base-longer", {"site": ["q", "attn_out"], "align": "right", "direction": "both"}, True),
    ("equal", {"site": ["z", "mlp_out"], "write": "zero"}, True),
    ("source-longer", {"site": ["v", "attn_out"], "write": "zero", "align": "pad"}, False),
    ("equal", {"site": ["z", "k", "mlp_out"], "write": "mean"}, False),
    ("noised", {"site": ["resid_pre", "resid_post", "attn_out"], **NOISE}, True),
    ("noised", {"site": ["mlp_out"], "window": 3, **NOISE, "noise_scale": 3, "noise_seeds": 3}, False),
    ("noised", {"site": ["z", "mlp_out"], "positions": ["entity", "all"], **NOISE}, False),
]

# The rows over which means are taken: tokens, the first position and the one after the last.
MEAN_OVER = [(SOURCE, 2, 12), (EQUAL, 2, 12), (SHORTER, 1, 9)]


def activations(model, ids, sites):
    """Of every (site, layer): [position, width] or [position, head, d_head]."""
    seen = {}

    def reader(key):
        return lambda x: seen.__setitem__(key, x.clone())

    keys = list(product(sites, range(model.config.num_hidden_layers)))
    logits = forward(model, ids, [(*key, reader(key)) for key in keys])
    return logits, seen


def means(model, sites):
    """The mean of every (site, layer) over MEAN_OVER."""
    rows = {}
    for ids, start, end in MEAN_OVER:
        for key, x in activations(model, ids, sites)[1].items():
            rows.setdefault(key, []).append(x[start:end])
    return {key: torch.cat(parts).mean(0) for key, parts in rows.items()}


def corruptions(model, pair, settings):
    """The hooks that put noise on the embeddings: one list of them for each seed, or one without any. The unit is the
    standard deviation of the numbers of all tokens' embeddings, as the model scales them."""
    if "noise" not in settings:
        return [[]]
    positions, embeddings = SPANS[pair][settings["noise"]][0], model.get_input_embeddings()
    with torch.inference_mode():
        std = embeddings(torch.arange(embeddings.num_embeddings)).double().std(correction=0)

    def adder(seed):
        def add(x):
            x, width = x.clone(), x.shape[1]
            for position in positions:
                x[position] += settings["noise_scale"] * std * torch.tensor(noise(seed, position, width))
            return x

        return add

    return [[("resid_pre", 0, adder(seed))] for seed in range(settings["noise_seeds"])]


def mean_of(numbers):
    numbers = list(numbers)
    return None if None in numbers else sum(numbers) / len(numbers)


def divergence(of, to):
    """KL(of || to) of two vectors of logits, in nats."""
    of, to = of.log_softmax(0), to.log_softmax(0)
    return float((of.exp() * (of - to)).sum())


def rank(logits, ids):
    """How many tokens are more probable than the best of `ids`, plus 1; none where another is too near to call."""
    best = logits[ids].max()
    others = torch.tensor([i not in ids for i in range(len(logits))])
    if ((logits - best).abs()[others] < 1e-4).any():
        return None
    return int((logits > best).sum()) + 1


def grid(model, settings, site, into, spans):
    """How many layers, heads and positions there are; and for every cell, in this order, the logits of each run that
    receives."""
    receiver, corrupted, supplied, shift, swept, mean = into
    n_layers, n_heads = model.config.num_hidden_layers, n_heads_of(model.config, site)
    if spans:
        columns = spans
    elif n_heads and settings.get("by") != "position":
        columns = None
    else:
        columns = [[p] for p in swept]
    window = settings.get("window", 1)
    axes = [n_layers, n_heads, columns and len(columns)]

    def value(layer, positions):
        match settings.get("write"):
            case None:
                return supplied[site, layer][[p + shift for p in positions]]
            case "zero":
                return torch.zeros_like(supplied[site, layer][positions])
            case "mean":
                return mean[site, layer].expand(len(positions), *mean[site, layer].shape)

    def cell(layer, head, positions):
        def at(layer):
            def put(x):
                x, new = x.clone(), value(layer, positions)
                for i, position in enumerate(positions):
                    x[(position, head) if n_heads else position] = new[i, head] if n_heads else new[i]
                return x

            return put

        # ROME's window: the layer in the middle, cut off at the ends of the model.
        first, end = max(0, layer - window // 2), min(n_layers, layer - window // 2 + window)
        patches = [(site, each, at(each)) for each in range(first, end)]
        return [forward(model, receiver, [*hooks, *patches]) for hooks in corrupted]

    cells = product(range(n_layers), range(n_heads or 1), columns or [list(swept)])
    return [n for n in axes if n is not None], [cell(*each) for each in cells]


def record_one(model, pair, settings, is_whole, mean):
    source, base = PAIRS[pair]
    align = settings.get("align", "pad")
    start = first_swept(source, base, align)
    if align == "pad":
        length = max(len(source), len(base))
        source, base = ([PAD] * (length - len(ids)) + ids for ids in (source, base))
    shift = len(source) - len(base)
    source_logits, source_seen = activations(model, source, settings["site"])
    base_seen = activations(model, base, settings["site"])[1]
    corrupted = corruptions(model, pair, settings)
    base_logits = [forward(model, base, hooks) for hooks in corrupted]
    spans = [SPANS[pair][name] for name in settings.get("positions", [])]
    ways = {
        "denoising": ((base, corrupted, source_seen, shift, range(start, len(base)), mean), [list(s[0]) for s in spans]),
        "noising": ((source, [[]], base_seen, -shift, range(start + shift, len(source)), mean), [list(s[1]) for s in spans]),
    }
    grids = []
    for direction in ["denoising", "noising"] if settings.get("direction") == "both" else ["denoising"]:
        for site in settings["site"]:
            shape, cells = grid(model, settings, site, *ways[direction])
            recorded = {
                "site": site, "direction": direction, "shape": shape,
                "logit_diff": [mean_of(map(logit_diff, cell)) for cell in cells],
                "p_true": [mean_of(map(p_true, cell)) for cell in cells],
            }  # fmt: skip
            if is_whole:
                # From the runs that receive and the one that supplies.
                received, supplied = [(base_logits, source_logits), ([source_logits], base_logits[0])][direction == "noising"]
                recorded["kl_base"] = [mean_of(map(divergence, received, cell)) for cell in cells]
                recorded["kl_source"] = [mean_of(divergence(supplied, run) for run in cell) for cell in cells]
                recorded["rank_true"] = [mean_of(rank(run, TRUE) for run in cell) for cell in cells]
                recorded["rank_false"] = [mean_of(rank(run, FALSE) for run in cell) for cell in cells]
            grids.append(recorded)
    return {
        "source": PAIRS[pair][0], "base": PAIRS[pair][1], "settings": settings,
        "spans": [{"span": name, "base": list(SPANS[pair][name][0]), "source": list(SPANS[pair][name][1])}
                  for name in settings.get("positions", [])],
        **({"noised": list(SPANS[pair][settings["noise"]][0])} if "noise" in settings else {}),
        "start": start, "source_logit_diff": logit_diff(source_logits),
        "base_logit_diff": mean_of(map(logit_diff, base_logits)), "grids": grids,
    }  # fmt: skip


def record(name):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        HERE / "models" / name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    mean = means(model, [*HEAD_SITES, "attn_out", "mlp_out"])
    experiments = [record_one(model, *experiment, mean) for experiment in EXPERIMENTS]
    n_cells = sum(len(grid["logit_diff"]) for e in experiments for grid in e["grids"])
    moved = max(abs(x - e["base_logit_diff"]) for e in experiments for grid in e["grids"] for x in grid["logit_diff"])
    print(f"{name}: {len(experiments)} experiments, {n_cells} cells, which differ from the base by up to {moved:.2f}")
    mean_over = [{"tokens": ids, "start": start, "end": end} for ids, start, end in MEAN_OVER]
    return {"model": name, "pad": PAD, "true_ids": TRUE, "false_ids": FALSE, "source_start": START, "base_start": START,
            "mean_over": mean_over, "versions": versions(), "experiments": experiments}  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:] or NAMES:
        write(f"experiments-{each}", record(each), "experiments")
