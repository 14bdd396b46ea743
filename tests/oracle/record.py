"""Records the oracle's numbers: activation patching, one whole forward per cell, on Hugging Face's own models.

It shares no code and no shortcut with Patchboard. Every cell runs the whole base prompt through the
whole model, in float32 with eager attention, with one activation overwritten by a forward hook.

    python record.py --all --gguf SmolLM2-135M-Instruct.Q4_1.gguf
    python record.py --only tiny-            # the cases whose names contain this
"""

import argparse
import json
import math
import sys
from pathlib import Path

import gguf
import tokenizers
import torch
import transformers

HERE = Path(__file__).parent
SITES = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"]
TINY = ["tiny-tied", "tiny-llama3"]
SMOL = "smollm2-135m-instruct-q4_1"
TEMPLATE = (
    "In the following sentence, {entity} exercises power over someone or something else. "
    "TRUE or FALSE? Sentence: {sentence} Answer:"
)

# pair: (entity, source sentence, base sentence), or None for the entity where the sentences are whole prompts
# A name says which prompt has more tokens; `record` insists.
PAIRS = {
    "tiny-tied-equal": ("The king", "The king orders the guards to leave the hall.", "The king sits in the garden of the old house."),
    "tiny-llama3-equal": ("The king", "The king orders the guards to leave the hall.", "The king walks along the river in the morning."),
    "source-longer": ("The captain", "The captain told the crew to stay on the ship.", "The captain sits in the sun."),
    "base-longer": ("The judge", "The judge sends the thief to prison.", "The judge walks along the river and looks at the sea in the morning."),
    "king-equal": ("The king", "The king ordered the guards to leave the hall.", "The king walked along the river in the morning."),
    "maria-equal": ("Maria", "Maria forced her brother to give up the house.", "Maria read a book to her brother at home."),
    "mayor-source-longer": ("The mayor", "The mayor closed the market and fined the owner of every shop.", "The mayor likes the market."),
    "teacher-base-longer": ("The teacher", "The teacher punished the class.", "The teacher walked slowly through the park on her way home."),
    "capitals-equal": (None, "The capital of France is the city of", "The capital of Italy is the city of"),
}  # fmt: skip

# fixture: (model, pair, align, site, answers)
POWER = ("TRUE", "FALSE")
CASES = {
    **{f"{m}-source-longer-pad-{site}": (m, "source-longer", "pad", site, POWER) for m in TINY for site in SITES},
    **{f"{m}-equal-pad-resid_post": (m, f"{m}-equal", "pad", "resid_post", POWER) for m in TINY},
    **{f"{m}-base-longer-pad-resid_post": (m, "base-longer", "pad", "resid_post", POWER) for m in TINY},
    **{f"{m}-{p}-right-resid_post": (m, p, "right", "resid_post", POWER) for m in TINY for p in ["source-longer", "base-longer"]},
    **{
        f"smollm2-{p}-pad-resid_post": (SMOL, p, "pad", "resid_post", POWER)
        for p in ["king-equal", "maria-equal", "mayor-source-longer", "teacher-base-longer"]
    },
    "smollm2-mayor-source-longer-right-resid_post": (SMOL, "mayor-source-longer", "right", "resid_post", POWER),
    "smollm2-capitals-equal-pad-resid_post": (SMOL, "capitals-equal", "pad", "resid_post", ("Paris", "Rome")),
}  # fmt: skip

AWKWARD = [
    "", " ", "  ", "a", " a", "Hello, world!", "  two leading", "trailing  ", "a     b", "tab\tand\t\ttabs", "line\nline",
    "\n", "\n\n\n", " \n \n", "windows\r\nlines\r\n", "1", "12345", "in 1984, 3.14159", "   12", "v1.2.3-rc4", "1,000,000",
    "x = 007 + 0x1F", "I'm you're he'll they've we'd it's don't", "DON'T YOU'RE", "it’s “quoted” — and…", "naïve café résumé",
    "cafe\u0301", "Ångström ÅNGSTRÖM", "你好,世界", "日本語のテキスト", "안녕하세요", "Привет, мир", "مرحبا بالعالم", "🙂", "👩‍👩‍👧‍👦 family 🇫🇷", "٣٤٥ ½ Ⅷ",
    "def f(x):\n    return x ** 2  # square\n", "<div class=\"a\">&nbsp;</div>", "https://example.org/a?b=c&d=%20", "snake_case camelCase SCREAMING_CASE",
    "<|im_start|>user\nHi<|im_end|>\n", "a<|endoftext|>b", "<|not_special|>", "\u00a0nbsp\u200bzero", "\x00\x07 control", "TRUE or FALSE? Sentence: A Answer:",
]  # fmt: skip


# --- models and tokens ------------------------------------------------------------------------------------------------


def load(name, gguf_path):
    """The model in float32, its tokenizer and the token that pads."""
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    if name == SMOL:
        model = transformers.LlamaForCausalLM.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name, **options)
        tokenizer, pad = tokenizer_from_gguf(gguf_path)
    else:
        folder = HERE / "models" / name
        model = transformers.LlamaForCausalLM.from_pretrained(folder, **options)
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        pad = tokenizer.token_to_id(config.get("pad_token") or config["eos_token"])
    return model.eval(), tokenizer, pad


def tokenizer_from_gguf(path):
    """SmolLM's tokenizer. transformers forgets, reading a GGUF, that it takes digits one by one before anything else."""
    fields = {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items() if key.startswith("tokenizer.")}
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert fields["tokenizer.ggml.pre"] == "smollm" and not fields["tokenizer.ggml.add_bos_token"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({token: id for id, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer, fields["tokenizer.ggml.padding_token_id"]


def variants(tokenizer, word):
    """The spellings of an answer that are one token; the others are dropped, by name."""
    spellings = [word.upper(), word[:1].upper() + word[1:].lower(), word.lower()]
    kept, dropped = [], []
    for text in dict.fromkeys([" " + s for s in spellings] + spellings):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) != 1:
            dropped.append(text)
        elif ids[0] not in [k["id"] for k in kept]:
            kept.append({"text": text, "id": ids[0]})
    return {"word": word, "kept": kept, "dropped": dropped}


def start_of_sentence(tokenizer, ids):
    """The first token after the last `Sentence` `:`, or None."""
    texts = [tokenizer.decode([id], skip_special_tokens=False).strip() for id in ids]
    found = [i + 2 for i in range(len(ids) - 1) if texts[i : i + 2] == ["Sentence", ":"]]
    return found[-1] if found else None


def align(tokenizer, pad, source, base, how):
    """The ids as fed to the model, and the first position swept, counted in the base."""
    if how == "pad":
        length = max(len(source), len(base))
        source = [pad] * (length - len(source)) + source
        base = [pad] * (length - len(base)) + base
    shift = len(source) - len(base)  # base position p stands beside source position p + shift
    common = range(max(0, -shift), len(base))
    starts = start_of_sentence(tokenizer, source), start_of_sentence(tokenizer, base)
    if None in starts:
        start = next(p for p in common if base[p] != source[p + shift])
    else:
        start = max(common.start, min(starts[0] - shift, starts[1]))
    return source, base, shift, start


# --- the model, tapped ------------------------------------------------------------------------------------------------


def tap(model, site, layer, edit):
    """Hooks one site: `edit` is given its activations [row, position, d_model], and may return others to take their place."""
    block = model.model.layers[layer]

    def before(_module, args, kwargs):
        if args:
            new = edit(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = edit(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    def after(_module, _args, output):
        if isinstance(output, tuple):
            new = edit(output[0])
            return None if new is None else (new, *output[1:])
        return edit(output)

    if site == "resid_pre":
        return block.register_forward_pre_hook(before, with_kwargs=True)
    if site == "resid_mid":  # to read only: the skip connection does not pass through here
        return block.post_attention_layernorm.register_forward_pre_hook(before, with_kwargs=True)
    module = {"resid_post": block, "attn_out": block.self_attn, "mlp_out": block.mlp}[site]
    return module.register_forward_hook(after)


def forward(model, rows, taps=()):
    """Logits at the last position. No mask: whatever is fed is attended to, at positions 0..S-1."""
    handles = [tap(model, *t) for t in taps]
    try:
        ids = torch.tensor(rows)
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        with torch.inference_mode():
            return model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1).logits[:, -1].double()
    finally:
        for handle in handles:
            handle.remove()


def record(model, ids):
    """One plain run: its logits, and its activations at every (site, layer), each [position, d_model]."""
    seen = {}

    def reader(key):
        return lambda x: seen.__setitem__(key, x[0].clone())

    keys = [(site, layer) for site in SITES for layer in range(model.config.num_hidden_layers)]
    logits = forward(model, [ids], [(*key, reader(key)) for key in keys])
    return logits, seen


def patched(model, base, site, layer, positions, shift, source_seen, base_seen):
    """Logits of the base with the site replaced at (layer, p), one row for each p of `positions`."""
    if site == "resid_mid":  # = resid_pre + attn_out: choose the attn_out that makes it the source's
        target, values = "attn_out", {p: source_seen["resid_mid", layer][p + shift] - base_seen["resid_pre", layer][p] for p in positions}
    else:
        target, values = site, {p: source_seen[site, layer][p + shift] for p in positions}

    def write(x):
        x = x.clone()
        for row, p in enumerate(positions):
            x[row, p] = values[p]
        return x

    return forward(model, [base] * len(positions), [(target, layer, write)])


# --- the experiment ---------------------------------------------------------------------------------------------------


def measure(logits, answers):
    """Of one row of logits: the logit difference, each answer's probability, the top token and its probability."""
    whole = torch.logsumexp(logits, 0)
    true, false = (torch.logsumexp(logits[[k["id"] for k in answers[side]["kept"]]], 0) for side in ("true", "false"))
    top = int(logits.argmax())
    numbers = {"logit_diff": true - false, "p_true": (true - whole).exp(), "p_false": (false - whole).exp()}
    return {**{k: float(v) for k, v in numbers.items()}, "top_token": top, "top_prob": float((logits[top] - whole).exp())}


def experiment(name, model, tokenizer, pad):
    model_name, pair, how, site, words = CASES[name]
    entity, *sentences = PAIRS[pair]
    template = None if entity is None else TEMPLATE
    prompts = [s if template is None else template.format(entity=entity, sentence=s) for s in sentences]
    answers = {"true": variants(tokenizer, words[0]), "false": variants(tokenizer, words[1])}
    source, base = (tokenizer.encode(p).ids for p in prompts)
    longer = "equal" if len(source) == len(base) else "source-longer" if len(source) > len(base) else "base-longer"
    assert pair.endswith(longer), f"{pair}: {len(source)} and {len(base)} tokens"
    source, base, shift, start = align(tokenizer, pad, source, base, how)

    source_logits, source_seen = record(model, source)
    base_logits, base_seen = record(model, base)
    source_baseline, base_baseline = measure(source_logits[0], answers), measure(base_logits[0], answers)

    positions = list(range(start, len(base)))
    layers = model.config.num_hidden_layers
    cells = []
    for layer in range(layers):
        logits = patched(model, base, site, layer, positions, shift, source_seen, base_seen)
        cells.append([measure(row, answers) for row in logits])
        print(f"\r{name}: layer {layer + 1}/{layers}, {len(positions)} positions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    check(source, base, shift, start, site, cells, source_baseline, base_baseline)

    grid = {key: [[cell[key] for cell in row] for row in cells] for key in ("logit_diff", "p_true", "p_false", "top_token")}
    return {
        "model": model_name, "entity": entity, "source_sentence": sentences[0], "base_sentence": sentences[1],
        "source_prompt": prompts[0], "base_prompt": prompts[1], "template": template, "align": how, "site": site,
        "source_ids": source, "base_ids": base, "sentence_start": start, "n_layers": layers, "answers": answers,
        "source_baseline": source_baseline, "base_baseline": base_baseline, **grid, "versions": versions(),
    }  # fmt: skip


def check(source, base, shift, start, site, cells, source_baseline, base_baseline):
    """What holds of every sweep, whatever the model."""

    def near(cell, baseline):
        return math.isclose(cell["logit_diff"], baseline["logit_diff"], rel_tol=0, abs_tol=1e-4)

    if shift == 0:
        first = next(p for p in range(len(base)) if base[p] != source[p])
        assert all(near(cell, base_baseline) for row in cells for cell in row[: max(0, first - start)]), "before a difference"
    if site != "resid_pre":  # which the last layer's attention still reads
        assert all(near(cell, base_baseline) for cell in cells[-1][:-1]), "last layer, before the last position"
    if site == "resid_post":
        assert near(cells[-1][-1], source_baseline), "last layer, last position"


def versions():
    return {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}


def final_logits(model_name, model, tokenizer):
    entity, sentence, _ = PAIRS["king-equal"]
    prompt = TEMPLATE.format(entity=entity, sentence=sentence)
    ids = tokenizer.encode(prompt).ids
    logits = forward(model, [ids])[0]
    top = [{"id": int(id), "logit": float(logits[id])} for id in logits.argsort(descending=True)[:20]]
    whole = float(torch.logsumexp(logits, 0))
    return {"model": model_name, "prompt": prompt, "ids": ids, "top": top, "logsumexp": whole, "versions": versions()}


# --- files ------------------------------------------------------------------------------------------------------------


def rounded(x):
    """Seven significant digits, all that float32 has to say."""
    if isinstance(x, float):
        return float(f"{x:.7g}")
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return [rounded(v) for v in x] if isinstance(x, list) else x


def save(name, document):
    """JSON with a line for each key, and for each row of a list of lists or objects."""

    def compact(x):
        return json.dumps(x, ensure_ascii=False, separators=(",", ":"))

    lines = []
    for key, value in rounded(document).items():
        rows = isinstance(value, list) and value and isinstance(value[0], (list, dict))
        text = "[\n" + ",\n".join(compact(v) for v in value) + "\n]" if rows else compact(value)
        lines.append(f"{compact(key)}: {text}")
    path = HERE / "fixtures" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="record every fixture")
    which.add_argument("--only", metavar="TEXT", help="record the fixtures whose names contain TEXT")
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf, for the smollm2 fixtures")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def wanted(name):
        return args.all or args.only in name

    for model_name in [*TINY, SMOL]:
        short = "smollm2" if model_name == SMOL else model_name
        names = [name for name, case in CASES.items() if case[0] == model_name and wanted(name)]
        logits, strings = wanted(f"logits-{short}"), model_name == SMOL and wanted(f"tokenizer-{short}")
        if not (names or logits or strings):
            continue
        if model_name == SMOL and args.gguf is None:
            parser.error("the smollm2 fixtures need --gguf")
        model, tokenizer, pad = load(model_name, args.gguf)
        if logits:
            save(f"logits-{short}", final_logits(model_name, model, tokenizer))
        if strings:
            texts = [{"text": text, "ids": tokenizer.encode(text).ids} for text in AWKWARD]
            save(f"tokenizer-{short}", {"model": model_name, "strings": texts})
        for name in names:
            save(name, experiment(name, model, tokenizer, pad))


if __name__ == "__main__":
    main()
