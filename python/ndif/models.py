"""Models as nnsight sees them, and where a family keeps its blocks."""

from helper import Failure

# The modules that lead to the list of blocks.
BLOCKS = {
    "gpt2": ["transformer", "h"],
    "gptj": ["transformer", "h"],
    "gpt_neox": ["gpt_neox", "layers"],
    "opt": ["model", "decoder", "layers"],
}
# The modules of a block whose outputs attention and the MLP add to the residual stream: the norm that follows them,
# where there is one.
ADDED = {
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma3_text": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("attn", "mlp"),
    "gptj": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "opt": ("self_attn", "fc2"),
}
# Those of which nothing else is known to be otherwise.
LIKE_LLAMA = {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"}


def paths(config):
    """Where the blocks of a model are, and in each what attention and the MLP add."""
    family = config.model_type
    if family not in LIKE_LLAMA | BLOCKS.keys() | ADDED.keys():
        known = ", ".join(sorted(LIKE_LLAMA | BLOCKS.keys() | ADDED.keys()))
        raise Failure("unsupported", f"found a model of the family `{family}`, expected one of {known}")
    return BLOCKS.get(family, ["model", "layers"]), ADDED.get(family, ("self_attn", "mlp"))


def no_tokenizer():
    """Prompts come as tokens; nnsight wants a tokenizer all the same."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0}, unk_token="[PAD]"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[PAD]")


def without_weights(folder):
    """The model's modules, whose weights are on the server."""
    from nnsight import TransformersModel

    return TransformersModel(folder, task="text-generation", tokenizer=no_tokenizer())


def whole(folder):
    """The model with its weights, in f32."""
    import torch
    from nnsight import TransformersModel

    return TransformersModel(folder, task="text-generation", tokenizer=no_tokenizer(), dtype=torch.float32, dispatch=True)
