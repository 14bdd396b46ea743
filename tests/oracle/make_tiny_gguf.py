"""Writes some of the small models as GGUF files into tests/oracle/models/, with llama.cpp's own converter.

Only the vocabulary is not the converter's: the models have none, and it refuses those that it does not know. Where
transformers reads the architecture from GGUF, its logits must be those of the original folder.

    python make_tiny_gguf.py LLAMA_CPP [NAME ...]
"""

import json
import logging
import sys
import tempfile
from pathlib import Path

LLAMA_CPP = Path(sys.argv[1])
sys.path[:0] = [str(LLAMA_CPP / "gguf-py"), str(LLAMA_CPP)]

import gguf
import torch
import transformers
from conversion import get_model_class

from make_tiny_families import MODELS, OUT
from safetensors.torch import load_file, save_file

# model: does transformers read it back?
GGUFS = {
    "tiny-llama3": False,  # it forgets the scaling
    "fam-llama-bias": False,  # it forgets the biases
    "fam-llama-linear": False,  # and the scaling
    "fam-qwen2": True,
    "fam-qwen3": False,  # it takes heads to be 128 wide
    "fam-gemma": False,
    "fam-gemma2": False,  # GGUF leaves the scale of scores to the width of a head
    "fam-gemma3": False,
    "fam-phi3": True,
    "fam-phi3-longrope": False,
    "fam-olmo2": False,
    "fam-gpt2": False,  # it takes contexts to be 1024 long
    "fam-gpt-neox": False,
    "fam-gpt-neox-serial": False,
}


def write_vocabulary(converter):
    """A vocabulary of as many tokens as the models have; the numbers are tested, not the words."""
    alphabet = [*(chr(ord("!") + i) for i in range(converter.hparams["vocab_size"] - 2)), "AB"]
    writer = converter.gguf_writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<|endoftext|>", *alphabet])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * len(alphabet))
    writer.add_token_merges(["A B"])
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    if "gemma3" in converter.hparams["model_type"]:
        writer.add_sliding_window_pattern(3)  # llama.cpp reads it, and takes 6 where it is missing


def write(folder, path):
    config = json.loads((folder / "config.json").read_text())
    kind = get_model_class(config["architectures"][0])
    kind.set_vocab = write_vocabulary
    with tempfile.TemporaryDirectory() as published:
        published = Path(published)
        (published / "config.json").write_text(json.dumps(config))
        weights = {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
        is_bf16 = torch.bfloat16 in {tensor.dtype for tensor in weights.values()}
        # In float16 the converter would add Gemma's one to the norms in float16.
        save_file({k: v.float() for k, v in weights.items()}, published / "model.safetensors")
        # What the published models have beside, and the converter reads.
        words = {"model": {"vocab": {str(i): i for i in range(config["vocab_size"])}}, "added_tokens": []}
        (published / "tokenizer.json").write_text(json.dumps(words))
        # Matrices as the folders have them, the rest in float32.
        dtype = gguf.LlamaFileType.MOSTLY_BF16 if is_bf16 else gguf.LlamaFileType.MOSTLY_F16
        converter = kind(published, dtype, path, model_name=folder.name)
        # It reads the configuration by way of transformers, which drops what it has other names for.
        for key, value in [*config.items(), ("n_ctx", config.get("n_positions"))]:
            converter.hparams.setdefault(key, value)
        converter.write()


def check(name, path):
    """transformers reads the file and finds the same model in it."""
    kind = MODELS[name][0]
    read = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = kind.from_pretrained(OUT / name, **read).eval()
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / path.name
        link.symlink_to(path)
        again = kind.from_pretrained(folder, gguf_file=path.name, **read).eval()
    model.config.sliding_window = None  # which transformers does not read from GGUF
    ids = torch.tensor([[5, 9, 33, 40, 7, 8, 51, 30, 17, 44, 29, 6]])
    with torch.inference_mode():
        difference = (model(ids).logits - again(ids).logits).abs().max()
    assert difference < 1e-5, f"{path.name}: transformers reads it otherwise, by {difference}"
    return difference


def main():
    for name in sys.argv[2:] or GGUFS:
        path = OUT / f"{name}.gguf"
        with torch.inference_mode():
            write(OUT / name, path)
        checked = f", transformers agrees within {check(name, path):.0e}" if GGUFS[name] else ""
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB{checked}")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    logging.disable(logging.INFO)
    main()
