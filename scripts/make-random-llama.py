#!/usr/bin/env python3
"""Makes a folder with a llama of real dimensions and random bf16 weights, to measure how it streams.

    scripts/make-random-llama.py 8b /tmp/random-8b              # 16 GB
    scripts/make-random-llama.py 70b /tmp/random-70b --layers 4 # 11 GB
"""

import argparse
import json
import os
import shutil
from pathlib import Path

VOCABULARY = 128256
SIZES = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70b": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
}
COMMON = {
    "model_type": "llama", "hidden_act": "silu", "num_key_value_heads": 8, "vocab_size": VOCABULARY,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1, "torch_dtype": "bfloat16",
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}  # fmt: skip
ONE = bytes([0x80, 0x3F])
BLOCK = 64 << 20


def random_block():
    """Numbers of either sign from 0.008 to 0.031: the sign and the exponent are in the second byte."""
    block = bytearray(BLOCK)
    block[0::2] = os.urandom(BLOCK // 2)
    signs = bytes(0x3C if byte < 128 else 0xBC for byte in range(256))
    block[1::2] = os.urandom(BLOCK // 2).translate(signs)
    return memoryview(bytes(block) * 2)


def layer_tensors(layer, config):
    d, mlp = config["hidden_size"], config["intermediate_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    name = f"model.layers.{layer}."
    return {
        name + "input_layernorm.weight": [d],
        name + "self_attn.q_proj.weight": [d, d],
        name + "self_attn.k_proj.weight": [kv, d],
        name + "self_attn.v_proj.weight": [kv, d],
        name + "self_attn.o_proj.weight": [d, d],
        name + "post_attention_layernorm.weight": [d],
        name + "mlp.gate_proj.weight": [mlp, d],
        name + "mlp.up_proj.weight": [mlp, d],
        name + "mlp.down_proj.weight": [d, mlp],
    }


def write_shard(path, tensors, block):
    header, at = {}, 0
    for name, shape in tensors.items():
        n = 2
        for dim in shape:
            n *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for i, (name, shape) in enumerate(tensors.items()):
            if len(shape) == 1:
                file.write(ONE * shape[0])
                continue
            left = shape[0] * shape[1] * 2
            offset = (i * 7919 + hash(name)) % BLOCK // 2 * 2
            while left:
                n = min(left, BLOCK)
                file.write(block[offset : offset + n])
                left -= n


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, help="fewer layers than the real model has")
    args = parser.parse_args()
    config = {**COMMON, **SIZES[args.size]}
    config["num_hidden_layers"] = args.layers or config["num_hidden_layers"]
    args.folder.mkdir(parents=True)
    (args.folder / "config.json").write_text(json.dumps(config, indent=2))
    # Any tokenizer will do whose tokens are within the vocabulary.
    models = Path(__file__).parent.parent / "tests/oracle/models"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models / "tiny-tied" / name, args.folder)
    d = config["hidden_size"]
    shards = [
        {"model.embed_tokens.weight": [VOCABULARY, d]},
        *(layer_tensors(layer, config) for layer in range(config["num_hidden_layers"])),
        {"model.norm.weight": [d], "lm_head.weight": [VOCABULARY, d]},
    ]
    block, weight_map = random_block(), {}
    for i, tensors in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(args.folder / name, tensors, block)
        weight_map.update({tensor: name for tensor in tensors})
        print(f"{i + 1}/{len(shards)} {name}")
    index = {"metadata": {}, "weight_map": weight_map}
    (args.folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
