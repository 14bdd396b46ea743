"""Small tokenizers of every kind that GGUF files declare, and what they make of awkward strings.

The real ones are not to be had without the hub. These are trained on a few sentences with each kind's own pattern, so
they test the rule of splitting, normalising and merging, and not a published vocabulary.
SentencePiece is written out here in its plain form: of all neighbouring pieces, those with the best score become one.
"""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from make_tiny_models import SENTENCES
from record import AWKWARD

HERE = Path(__file__).parent
SPACE = "\u2581"

END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CAPITAL, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA3 = END + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{CAPITAL}*{SMALL}+END|[^\r\n\p{{L}}\p{{N}}]?{CAPITAL}+{SMALL}*END|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = CASED.replace("END", END + "?").replace("DIGITS", r"\p{N}{1,3}")
TEKKEN = CASED.replace("END", "").replace("DIGITS", r"\p{N}")

# pre-tokenizer: (pattern, begins with bos, words that are tokens are taken whole, composed first)
BYTE_LEVEL = {
    "gpt-2": (None, False, False, False),
    "smollm": ("digits", False, False, False),
    "llama-bpe": (LLAMA3, True, True, False),
    "dbrx": (LLAMA3, False, False, False),
    "qwen2": (QWEN2, False, False, True),
    "tekken": (TEKKEN, True, True, False),
    "gpt-4o": (GPT4O, False, False, False),
}

# What gives the merges something to differ in.
CORPUS = [*SENTENCES, *AWKWARD, "camelCaseWords NASA's HTMLParser", "100 1000 2024 31415", "they'll we'd"] * 2


def byte_level(pre):
    pattern, adds_bos, ignores_merges, composes = BYTE_LEVEL[pre]
    tok = Tokenizer(models.BPE(ignore_merges=ignores_merges))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if composes:
        tok.normalizer = normalizers.NFC()
    if pattern is None:
        tok.pre_tokenizer = whole
    elif pattern == "digits":
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        tok.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in specials],
    )  # fmt: skip
    tok.train_from_iterator(CORPUS, trainer)
    model = json.loads(tok.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    metadata = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "merges": [" ".join(m) for m in model["merges"]],
        "types": [3 if t in specials else 1 for t in tokens], "bos": 0, "eos": 0,
    }  # fmt: skip
    begin = [0] if adds_bos else []
    return metadata, lambda text: begin + tok.encode(text, add_special_tokens=False).ids


def sentence_piece(prefix):
    """Pieces and scores of the kind that SentencePiece trains, with a byte for what has no piece."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.Replace(" ", SPACE)
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=260, show_progress=False, limit_alphabet=90)
    tok.train_from_iterator(CORPUS, trainer)
    model = json.loads(tok.to_str())["model"]
    merged = ["".join(m) for m in model["merges"]]
    single = [t for t in sorted(model["vocab"], key=model["vocab"].get) if t not in set(merged)]
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *dict.fromkeys(merged), *single]
    n = 3 + len(bytes_)
    scores = [0.0] * n + [-float(i) for i in range(len(tokens) - n)]
    metadata = {
        "model": "llama", "pre": "default", "tokens": tokens, "scores": scores, "bos": 1, "eos": 2, "unk": 0,
        "types": [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - n), "add_space_prefix": prefix,
    }  # fmt: skip
    ids, score = {t: i for i, t in enumerate(tokens)}, dict(zip(tokens, scores))

    def encode(text):
        pieces = list((SPACE if prefix and text else "") + text.replace(" ", SPACE))
        while True:
            pairs = [(score[a + b], -i) for i, (a, b) in enumerate(zip(pieces, pieces[1:])) if a + b in ids and ids[a + b] >= n]
            if not pairs:
                break
            i = -max(pairs)[1]
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
        encoded = [[ids[p]] if p in ids else [ids[f"<0x{b:02X}>"] for b in p.encode()] for p in pieces]
        return [1] + [id for piece in encoded for id in piece]

    return metadata, encode


def all_tokenizers():
    yield from ((pre, *byte_level(pre)) for pre in BYTE_LEVEL)
    yield from ((f"sentencepiece{'-prefix' if prefix else ''}", *sentence_piece(prefix)) for prefix in (False, True))


def main():
    for name, metadata, encode in all_tokenizers():
        # SentencePiece's special tokens are not in the strings; an empty prompt is only its beginning.
        strings = [{"text": text, "ids": encode(text)} for text in [*AWKWARD, *CORPUS[-3:], SENTENCES[0]] if text]
        lines = [f'"{key}": {json.dumps(value, ensure_ascii=False, separators=(",", ":"))}' for key, value in metadata.items()]
        rows = ",\n".join(json.dumps(s, ensure_ascii=False, separators=(",", ":")) for s in strings)
        text = "{\n" + ",\n".join(lines) + ',\n"strings": [\n' + rows + "\n]\n}\n"
        (HERE / "fixtures" / f"split-{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {len(metadata['tokens'])} tokens, {len(strings)} strings")


if __name__ == "__main__":
    print(tokenizers.__version__)
    main()
