"""Writes two tiny random llama models, in Hugging Face layout, into tests/oracle/models/.

`tiny-tied`    tied embeddings, as many key heads as query heads, one float32 file,
               a tokenizer that adds nothing and has a pad token.
`tiny-llama3`  grouped queries, heads * head_dim != hidden size, untied, Llama 3's rotary scaling,
               bfloat16 shards, a tokenizer that adds its bos and has no pad token.

Random, but not featureless: the matrices are large enough for every cell of a sweep to move the logits.
Everything follows from fixed seeds; a second run writes the same bytes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).parent / "models"

TEMPLATE = (
    "In the following sentence, {entity} exercises power over someone or something else. "
    "TRUE or FALSE? Sentence: {sentence} Answer:"
)

SENTENCES = """
The king orders the guards to leave the hall.
The king walks along the river in the morning.
Maria forces her brother to give up the house.
Maria reads a book in her garden.
The judge sends the thief to prison.
The judge sits in the old house.
The teacher makes the children stay after school because they were late.
The teacher walks to school.
The captain told the crew to stay on the ship.
The captain sits on the ship and looks at the sea.
The mayor closed the market and fined the owner of every shop.
The mayor was at the market with the owner of a small shop.
The doctor ordered the nurse to leave the room.
The nurse left the room because it was late.
Anna asked her sister for a book about the sea.
Anna took the keys from her sister and locked the door.
The general sends the soldiers over the river.
The soldiers walk over the river and look at the sky.
The owner of the house told the children to leave the garden.
The children play in the garden of the old house.
The queen made the thief give the ring to the guards.
The queen wore the ring in the hall.
The company fired the workers without a word.
The workers had a long lunch in the sun.
Everyone in the village does what the mayor orders.
Everyone in the village likes the river in the summer.
Someone else has the power to close the school.
Nothing else happened in the morning.
""".strip().splitlines()


def corpus(bare_answers: bool):
    """What the tokenizers are trained on; `bare_answers` also makes the answers frequent without a space before them."""
    for sentence in SENTENCES:
        entity = " ".join(sentence.split()[:2]) if sentence.startswith("The ") else sentence.split()[0]
        yield TEMPLATE.format(entity=entity, sentence=sentence)
        yield sentence
    for word in ["TRUE", "FALSE", "True", "False"]:
        yield f"the {word}" if word[1].isupper() else f"it is {word}"
        for _ in range(60):
            yield f" {word}"
            if bare_answers:
                yield word
    for word in [" Sentence:", " Answer:"]:
        yield from [word] * 40


def tokenizer(vocab_size: int, specials: list[str], bare_answers: bool, bos: str | None) -> Tokenizer:
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(corpus(bare_answers), trainer)
    if bos is None:
        tok.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        begin = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tok.token_to_id(bos))]
        )
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    return tok


def randomise(model: LlamaForCausalLM, seed: int):
    """Fills the weights in name order from numpy's frozen generator, which no release changes."""
    random = np.random.RandomState(seed)
    for name, weight in sorted(model.named_parameters()):
        if "norm" in name:
            values = 1.0 + 0.2 * random.randn(*weight.shape)
        elif "q_proj" in name or "k_proj" in name:
            values = 0.3 * random.randn(*weight.shape)  # attention that looks somewhere in particular
        elif "embed_tokens" in name or "lm_head" in name:
            values = 0.25 * random.randn(*weight.shape)
        else:
            values = 0.2 * random.randn(*weight.shape)
        weight.data.copy_(torch.from_numpy(values))


def write(name, config, seed, dtype, shard, tok, tokenizer_config, classic_config):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model = LlamaForCausalLM(config)
    randomise(model, seed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")
    if classic_config:
        path = folder / "config.json"
        path.write_text(json.dumps(as_on_the_hub(json.loads(path.read_text())), indent=2) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{name}: {tok.get_vocab_size()} tokens, {size / 1024:.0f} KiB, {sorted(f.name for f in folder.iterdir())}")


def as_on_the_hub(config: dict) -> dict:
    """Llama 3.1's form of config.json: rope_theta and rope_scaling at top level, torch_dtype."""
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    return dict(sorted(config.items()))


def main():
    tok = tokenizer(448, ["<|endoftext|>", "<pad>"], bare_answers=False, bos=None)
    write(
        "tiny-tied",
        LlamaConfig(
            vocab_size=tok.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True, max_position_embeddings=128,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=None, eos_token_id=0, pad_token_id=1,
        ),
        seed=1, dtype=torch.float32, shard="5GB", tok=tok, classic_config=False,
        tokenizer_config={
            "bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<pad>", "unk_token": None,
            "clean_up_tokenization_spaces": False, "model_max_length": 128,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )  # fmt: skip

    tok = tokenizer(480, ["<|begin_of_text|>", "<|end_of_text|>"], bare_answers=True, bos="<|begin_of_text|>")
    write(
        "tiny-llama3",
        LlamaConfig(
            vocab_size=tok.get_vocab_size(), hidden_size=48, intermediate_size=80, num_hidden_layers=4,
            num_attention_heads=6, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
            rms_norm_eps=1e-5, max_position_embeddings=128,
            # An original context of 16 puts the scaling to work at the lengths of our prompts.
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            },
            bos_token_id=0, eos_token_id=1, pad_token_id=None,
        ),
        seed=2, dtype=torch.bfloat16, shard="110KB", tok=tok, classic_config=True,
        tokenizer_config={
            "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
            "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": 128, "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
