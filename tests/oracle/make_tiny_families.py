"""Writes one small random model of every family into tests/oracle/models/, in Hugging Face layout, without a tokenizer.

The sizes are chosen so that what is particular to a family shows: windows are shorter than the prompts, soft caps are
near the scores, only a part of a head is rotated, heads are wider or narrower than their share of the stream, and all
norms and biases are random. Weights are float16, which float32 holds exactly.
Everything follows from fixed seeds; a second run writes the same bytes.

    python make_tiny_families.py [NAME ...]
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers as t

OUT = Path(__file__).parent / "models"
VOCAB = 64

SMALL = {"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT = {"vocab_size": VOCAB, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64}


def rope(theta=10000.0, **more):
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.5, 2.5], "long_factor": [4.0, 5.0, 6.0], "original_max_position_embeddings": 32,
}  # fmt: skip

# name: (model class, config)
MODELS = {
    "fam-llama-bias": (t.LlamaForCausalLM, t.LlamaConfig(**GROUPED, **rope(), attention_bias=True, mlp_bias=True)),
    "fam-llama-linear": (t.LlamaForCausalLM, t.LlamaConfig(**GROUPED, **rope(rope_type="linear", factor=2.0))),
    "fam-mistral": (t.MistralForCausalLM, t.MistralConfig(**GROUPED, **rope(), head_dim=6, sliding_window=5)),
    "fam-qwen2": (t.Qwen2ForCausalLM, t.Qwen2Config(**GROUPED, **rope(1e6), tie_word_embeddings=True)),
    "fam-qwen2-window": (
        t.Qwen2ForCausalLM,
        t.Qwen2Config(**GROUPED, **rope(1e6), use_sliding_window=True, sliding_window=4, max_window_layers=1),
    ),
    "fam-qwen3": (t.Qwen3ForCausalLM, t.Qwen3Config(**GROUPED, **rope(1e6), head_dim=8)),
    "fam-gemma": (t.GemmaForCausalLM, t.GemmaConfig(**GROUPED, **rope(), head_dim=8)),
    "fam-gemma2": (
        t.Gemma2ForCausalLM,
        t.Gemma2Config(
            **GROUPED, **rope(), head_dim=8, sliding_window=4, query_pre_attn_scalar=12,
            attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
        ),
    ),
    "fam-gemma3": (
        t.Gemma3ForCausalLM,
        t.Gemma3TextConfig(
            **{**GROUPED, "num_hidden_layers": 4}, head_dim=8, sliding_window=4, sliding_window_pattern=3, query_pre_attn_scalar=12,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    ),
    "fam-phi3": (t.Phi3ForCausalLM, t.Phi3Config(**GROUPED, **rope(), sliding_window=6, pad_token_id=0)),
    "fam-phi3-longrope": (
        t.Phi3ForCausalLM,
        t.Phi3Config(
            **{**GROUPED, "hidden_size": 32}, rope_parameters=LONGROPE, original_max_position_embeddings=32, pad_token_id=0,
            tie_word_embeddings=True,
        ),
    ),
    "fam-olmo2": (t.Olmo2ForCausalLM, t.Olmo2Config(**GROUPED, **rope(500000.0))),
    "fam-gpt2": (t.GPT2LMHeadModel, t.GPT2Config(**GPT)),
    "fam-gpt2-by-layer": (
        t.GPT2LMHeadModel,
        t.GPT2Config(**GPT, n_inner=20, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    ),
    "fam-gptj": (t.GPTJForCausalLM, t.GPTJConfig(**{**GPT, "n_embd": 32}, rotary_dim=4)),
    "fam-gpt-neox": (
        t.GPTNeoXForCausalLM,
        t.GPTNeoXConfig(**{**SMALL, "hidden_size": 32}, **rope(partial_rotary_factor=0.5), max_position_embeddings=64),
    ),
    "fam-gpt-neox-serial": (
        t.GPTNeoXForCausalLM,
        t.GPTNeoXConfig(
            **{**SMALL, "hidden_size": 32}, **rope(partial_rotary_factor=0.25), max_position_embeddings=64, use_parallel_residual=False
        ),
    ),
    "fam-opt": (
        t.OPTForCausalLM,
        t.OPTConfig(
            vocab_size=VOCAB, hidden_size=16, ffn_dim=24, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64,
            word_embed_proj_dim=16,
        ),
    ),
}  # fmt: skip


def randomise(model, seed):
    """Fills the weights in name order from numpy's frozen generator, which no release changes."""
    random = np.random.RandomState(seed)
    offset = "gemma" in model.config.model_type  # whose norms multiply by one plus the weight
    for name, weight in sorted(model.named_parameters()):
        is_norm = "norm" in name or ".ln_" in name
        values = random.randn(*weight.shape)
        if is_norm and name.endswith("weight"):
            values = (0.0 if offset else 1.0) + 0.3 * values
        elif name.endswith("bias"):
            values = 0.3 * values
        elif any(part in name for part in ["embed", "wte", "wpe", "lm_head"]):
            values = 0.5 * values
        else:
            values = 0.35 * values  # attention that looks somewhere in particular
        weight.data.copy_(torch.from_numpy(values))


def as_on_the_hub(name, config):
    """Some configurations in the form that the published models have, which transformers reads, too."""
    rope = config.pop("rope_parameters", None)
    if name == "fam-gemma3":
        config["rope_theta"] = rope["full_attention"].pop("rope_theta")
        config["rope_local_base_freq"] = rope["sliding_attention"].pop("rope_theta")
        config["rope_scaling"] = rope["full_attention"]
        config["sliding_window_pattern"] = 3
        config.pop("layer_types")
    elif name.startswith("fam-gpt-neox"):
        config["rotary_emb_base"], config["rotary_pct"] = rope["rope_theta"], rope["partial_rotary_factor"]
    elif name == "fam-phi3-longrope":
        config["rope_theta"], config["partial_rotary_factor"] = rope.pop("rope_theta"), rope.pop("partial_rotary_factor")
        rope.pop("original_max_position_embeddings")
        rope["type"] = rope.pop("rope_type")
        config["rope_scaling"] = rope
    elif rope is not None:
        config["rope_parameters"] = rope
    return config


def main():
    wanted = sys.argv[1:] or MODELS
    for seed, (name, (model_class, config)) in enumerate(MODELS.items()):
        if name not in wanted:
            continue
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        model = model_class(config)
        randomise(model, 100 + seed)
        model.to(torch.float16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        path = folder / "config.json"
        path.write_text(json.dumps(as_on_the_hub(name, json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")
        for file in folder.iterdir():
            file.chmod(0o644)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
