"""Writes some of the small models as GGUF files into tests/oracle/models/, as llama.cpp's converter would.

Names of tensors come from the `gguf` package's own maps from Hugging Face's; keys are written by its writer. What the
converter does to numbers is repeated here: llama's queries and keys are permuted, GPT-2's matrices turned round,
GPT-NeoX's fused matrix sorted into queries, keys and values, Gemma's norms get their one. Where transformers reads the
architecture from GGUF, its logits must be those of the original folder.

    python make_tiny_gguf.py [NAME ...]
"""

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from make_tiny_families import MODELS, OUT, VOCAB

# model: (architecture, does transformers read it back?)
GGUFS = {
    "fam-llama-bias": ("llama", False),  # it forgets the biases
    "fam-llama-linear": ("llama", False),  # and the scaling
    "fam-qwen2": ("qwen2", True),
    "fam-qwen3": ("qwen3", False),  # it takes heads to be 128 wide
    "fam-gemma": ("gemma", False),
    "fam-gemma2": ("gemma2", False),  # GGUF leaves the scale of scores to the width of a head
    "fam-gemma3": ("gemma3", False),
    "fam-phi3": ("phi3", True),
    "fam-phi3-longrope": ("phi3", False),
    "fam-olmo2": ("olmo2", False),
    "fam-gpt2": ("gpt2", False),  # it takes contexts to be 1024 long
    "fam-gpt-neox": ("gptneox", False),
    "fam-gpt-neox-serial": ("gptneox", False),
}


def permuted(weights, n_heads):
    """`LlamaModel.permute` of llama.cpp's converter."""
    return weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def sorted_qkv(weights, n_heads):
    """What the converter makes of GPT-NeoX's fused matrix: all queries, then all keys, then all values."""
    by_head = weights.reshape(n_heads, 3, -1, *weights.shape[1:])
    return np.concatenate([by_head[:, i].reshape(-1, *weights.shape[1:]) for i in range(3)])


def converted(arch, config, name, weights):
    n_heads = config.num_attention_heads
    if arch == "llama" and ".q_proj." in name:
        return permuted(weights, n_heads)
    if arch == "llama" and ".k_proj." in name:
        return permuted(weights, config.num_key_value_heads)
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return weights + 1
    if arch == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return weights.T
    if arch == "gptneox" and ".query_key_value." in name:
        return sorted_qkv(weights, n_heads)
    return weights


def write_metadata(writer, arch, config):
    rope = getattr(config, "rope_parameters", None) or {}
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if arch == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    if arch == "gptneox":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_rope_dimension_count(int(d_head * rope["partial_rotary_factor"]))
        writer.add_parallel_residual(config.use_parallel_residual)
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    full = rope.get("full_attention", rope)
    writer.add_rope_freq_base(full["rope_theta"])
    if arch not in ("llama", "phi3", "qwen2", "olmo2"):
        writer.add_key_length(d_head)
        writer.add_value_length(d_head)
    if arch == "llama":
        writer.add_rope_dimension_count(d_head)
    if full["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if arch == "gemma3":
        writer.add_sliding_window_pattern(3)
    if arch == "phi3":
        n_rotated = int(d_head * rope.get("partial_rotary_factor", 1.0))
        original = config.original_max_position_embeddings
        writer.add_rope_dimension_count(n_rotated)
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_sliding_window(config.sliding_window or 0)
        if rope["rope_type"] == "longrope":
            scale = config.max_position_embeddings / original
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
            for which in ("long", "short"):
                factors = np.array(rope[f"{which}_factor"], dtype=np.float32)
                writer.add_tensor(f"rope_factors_{which}.weight", factors)


def write_tokenizer(writer):
    """A vocabulary of as many tokens as the models have; the numbers are tested, not the words."""
    alphabet = [*(chr(ord("!") + i) for i in range(VOCAB - 2)), "AB"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<|endoftext|>", *alphabet])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * len(alphabet))
    writer.add_token_merges(["A B"])
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)


def write(name, arch, path):
    model = MODELS[name][0].from_pretrained(OUT / name, dtype=torch.float32, attn_implementation="eager").eval()
    writer = gguf.GGUFWriter(path, arch)
    write_metadata(writer, arch, model.config)
    write_tokenizer(writer)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], model.config.num_hidden_layers)
    tied = model.config.tie_word_embeddings
    for hf_name, tensor in model.state_dict().items():
        if tied and hf_name.startswith("lm_head"):
            continue
        gguf_name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        assert gguf_name, f"{name}: no GGUF name for {hf_name}"
        weights = np.ascontiguousarray(converted(arch, model.config, hf_name, tensor.numpy()))
        # Matrices as the folders have them, the rest in float32, as the converter does.
        exact = weights.ndim > 1 and np.array_equal(weights.astype(np.float16).astype(np.float32), weights)
        writer.add_tensor(gguf_name, weights.astype(np.float16) if exact else weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def check(model, path):
    """transformers reads the file and finds the same model in it."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / path.name
        link.symlink_to(path)
        again = type(model).from_pretrained(folder, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    model.config.sliding_window = None  # which transformers does not read from GGUF
    ids = torch.tensor([[5, 9, 33, 40, 7, 8, 51, 30, 17, 44, 29, 6]])
    with torch.inference_mode():
        difference = (model(ids).logits - again(ids).logits).abs().max()
    assert difference < 1e-5, f"{path.name}: transformers reads it otherwise, by {difference}"
    return difference


def main():
    for name in sys.argv[1:] or GGUFS:
        arch, readable = GGUFS[name]
        path = OUT / f"{name}.gguf"
        model = write(name, arch, path)
        checked = f", transformers agrees within {check(model, path):.0e}" if readable else ""
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB{checked}")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
