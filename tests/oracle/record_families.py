"""Records logits and activation-patching sweeps of the small models of every family, one whole forward a cell.

Like record.py, it shares no code and no shortcut with Patchboard: Hugging Face transformers, float32, eager attention,
and a forward hook that overwrites one activation. Prompts are token ids, so no tokenizer is needed.

    python record_families.py [NAME ...]
"""

import json
import sys
from pathlib import Path

import torch
import transformers

from make_tiny_families import MODELS, VOCAB
from record import rounded, versions

HERE = Path(__file__).parent
PAD, TRUE, FALSE = 0, [11, 12, 13], [21, 22]

# Ten to twelve tokens: longer than every window. They share a beginning and part of what follows.
SOURCE = [5, 9, 33, 40, 7, 8, 51, 30, 17, 44, 29, 6]
EQUAL = [5, 9, 33, 41, 7, 19, 51, 31, 17, 45, 29, 6]
SHORTER = [5, 9, 33, 42, 18, 52, 28, 17, 29, 6]
START = 2

SITES = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
# (source, base, alignment, sites)
CASES = [
    (SOURCE, EQUAL, "pad", SITES),
    (SOURCE, SHORTER, "pad", ["resid_post"]),
    (SHORTER, SOURCE, "pad", ["attn_out", "resid_post"]),
    (SOURCE, SHORTER, "right", ["resid_post"]),
    (SHORTER, SOURCE, "right", ["resid_pre", "resid_post"]),
]

# The modules of a block whose outputs are what attention and the MLP add to the residual stream: after the norm that
# follows them, where there is one.
MODULES = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("attn", "mlp"),
    "gptj": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "opt": ("self_attn", "fc2"),
}

# Queries, keys and values of heads as they leave their projection, before norm and rotation, and what the output
# projection reads. Of attention's modules, those that project to q, k and v and the one that projects z.
HEAD_SITES = ["q", "k", "v", "z"]
PROJECTIONS = {
    "gpt2": (["c_attn"], "c_proj"),
    "gpt_neox": (["query_key_value"], "dense"),
    "phi3": (["qkv_proj"], "o_proj"),
    "gptj": (["q_proj", "k_proj", "v_proj"], "out_proj"),
    "opt": (["q_proj", "k_proj", "v_proj"], "out_proj"),
}


def blocks(model):
    return {
        "gpt2": lambda: model.transformer.h,
        "gptj": lambda: model.transformer.h,
        "gpt_neox": lambda: model.gpt_neox.layers,
        "opt": lambda: model.model.decoder.layers,
    }.get(model.config.model_type, lambda: model.model.layers)()


def is_parallel(config):
    return config.model_type == "gptj" or (config.model_type == "gpt_neox" and config.use_parallel_residual)


def n_heads_of(config, site):
    """How many heads a site has; none if it is of the residual stream."""
    if site not in HEAD_SITES:
        return None
    n_heads = config.num_attention_heads
    return n_heads if site in "qz" else getattr(config, "num_key_value_heads", None) or n_heads


def head_columns(config, site):
    """The columns of every head [head, d_head] in the projection's output, or for z in its input."""
    n_heads, n = config.num_attention_heads, n_heads_of(config, site)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    columns = torch.arange(n * d_head).reshape(n, d_head)
    if site == "z" or len(PROJECTIONS.get(config.model_type, ("qkv",))[0]) == 3:
        return columns
    part = "qkv".index(site)
    if config.model_type == "gpt_neox":  # q, k and v of one head, then those of the next
        return columns + (torch.arange(n)[:, None] * 2 + part) * d_head
    return columns + [0, n_heads, n_heads + n][part] * d_head  # all of q, all of k, all of v


def head_module(model, site, layer):
    """The module of which a head site is the input (z) or the output, whole or in part."""
    names = {"gpt2": "attn", "gptj": "attn", "gpt_neox": "attention"}
    attention = getattr(blocks(model)[layer], names.get(model.config.model_type, "self_attn"))
    inputs, output = PROJECTIONS.get(model.config.model_type, (["q_proj", "k_proj", "v_proj"], "o_proj"))
    name = output if site == "z" else inputs["qkv".index(site) % len(inputs)]
    return getattr(attention, name)


def tap(model, site, layer, edit):
    """Hooks one site; `edit` is given its activations [position, d_model] or [position, head, d_head] and may return
    others to take their place."""
    block = blocks(model)[layer]
    attn, mlp = MODULES.get(model.config.model_type, ("self_attn", "mlp"))
    columns = head_columns(model.config, site) if site in HEAD_SITES else None

    def edited(x):
        if columns is not None:
            new = edit(x[0][:, columns])
            if new is None:
                return None
            x = x.clone()
            x[0][:, columns] = new
            return x
        new = edit(x.reshape(-1, x.shape[-1]))  # OPT flattens the batch in its MLP
        return None if new is None else new.reshape(x.shape)

    def before(_module, args, kwargs):
        if args:
            new = edited(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = edited(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    def after(_module, _args, output):
        if isinstance(output, tuple):
            new = edited(output[0])
            return None if new is None else (new, *output[1:])
        return edited(output)

    if site in HEAD_SITES:
        module = head_module(model, site, layer)
        return module.register_forward_pre_hook(before, with_kwargs=True) if site == "z" else module.register_forward_hook(after)
    if site == "resid_pre":
        return block.register_forward_pre_hook(before, with_kwargs=True)
    module = {"resid_post": block, "attn_out": getattr(block, attn), "mlp_out": getattr(block, mlp)}[site]
    return module.register_forward_hook(after)


def forward(model, ids, taps=()):
    """All logits at the last position. No mask: whatever is fed is attended to, at positions 0..S-1."""
    handles = [tap(model, *t) for t in taps]
    try:
        row = torch.tensor([ids])
        positions = torch.arange(len(ids))[None]
        with torch.inference_mode():
            return model(input_ids=row, position_ids=positions, use_cache=False).logits[0, -1].double()
    finally:
        for handle in handles:
            handle.remove()


def activations(model, ids):
    """Every (site, layer) of a plain run, [position, d_model]; resid_mid is the sum that no module computes."""
    seen = {}

    def reader(key):
        return lambda x: seen.__setitem__(key, x.clone())

    layers = range(model.config.num_hidden_layers)
    keys = [(site, layer) for site in SITES if site != "resid_mid" for layer in layers]
    logits = forward(model, ids, [(*key, reader(key)) for key in keys])
    for layer in layers:
        seen["resid_mid", layer] = seen["resid_pre", layer] + seen["attn_out", layer]
    return logits, seen


def patched(model, base, site, layer, position, value, base_seen):
    """Logits of the base with one activation replaced. resid_mid is set by way of what attention adds."""
    if site == "resid_mid":
        site, value = "attn_out", value - base_seen["resid_pre", layer][position]

    def write(x):
        x = x.clone()
        x[position] = value
        return x

    return forward(model, base, [(site, layer, write)])


def logit_diff(logits):
    return float(torch.logsumexp(logits[TRUE], 0) - torch.logsumexp(logits[FALSE], 0))


def p_true(logits):
    return float((torch.logsumexp(logits[TRUE], 0) - torch.logsumexp(logits, 0)).exp())


def sweep(model, source, base, align, site, start):
    if align == "pad":
        length = max(len(source), len(base))
        source = [PAD] * (length - len(source)) + source
        base = [PAD] * (length - len(base)) + base
    shift = len(source) - len(base)
    source_logits, source_seen = activations(model, source)
    base_logits, base_seen = activations(model, base)
    grid = [
        [
            patched(model, base, site, layer, p, source_seen[site, layer][p + shift], base_seen)
            for p in range(start, len(base))
        ]
        for layer in range(model.config.num_hidden_layers)
    ]
    return {
        "align": align, "site": site, "start": start, "source_logits": source_logits.tolist(), "base_logits": base_logits.tolist(),
        "logit_diff": [[logit_diff(cell) for cell in row] for row in grid],
        "p_true": [[p_true(cell) for cell in row] for row in grid],
    }  # fmt: skip


def first_swept(source, base, align):
    """From the earlier of the two sentences' first tokens, counted from the right."""
    from_end = max(len(source) - START, len(base) - START)
    if align == "pad":
        return max(len(source), len(base)) - from_end
    return len(base) - min(from_end, len(base), len(source))


def record(name):
    model = MODELS[name][0].from_pretrained(HERE / "models" / name, dtype=torch.float32, attn_implementation="eager").eval()
    sweeps = []
    for source, base, align, sites in CASES:
        for site in sites:
            if site == "resid_mid" and is_parallel(model.config):
                continue
            start = first_swept(source, base, align)
            sweeps.append({"source": source, "base": base, **sweep(model, source, base, align, site, start)})
    moved = max(abs(c - r[0]) for s in sweeps for r in s["logit_diff"] for c in r)
    print(f"{name}: {len(sweeps)} sweeps, cells differ by up to {moved:.2f}")
    return {"model": name, "pad": PAD, "true_ids": TRUE, "false_ids": FALSE, "source_start": START, "base_start": START,
            "sweeps": sweeps, "versions": versions()}  # fmt: skip


def write(fixture, document, rows):
    """A fixture with a line for each key, and for each of what its key `rows` lists."""
    document = rounded(document)
    lines = [f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in document.items() if key != rows]
    listed = ",\n".join(json.dumps(row, separators=(",", ":")) for row in document[rows])
    text = "{\n" + ",\n".join(lines) + f',\n"{rows}": [\n' + listed + "\n]\n}\n"
    (HERE / "fixtures" / f"{fixture}.json").write_text(text)


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        write(name, record(name), "sweeps")


if __name__ == "__main__":
    assert max(SOURCE) < VOCAB
    main()
