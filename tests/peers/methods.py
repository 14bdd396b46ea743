"""Six ways to sweep a grid with other libraries.

Each has `prepare()`, what is done once a grid, and `run(cells)`, the logit difference of each cell as a tensor. All run
without gradients, with their library's default attention, on the same weights in the same type.
"""

import copy
import functools
import itertools
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "ndif"))
# Older versions of transformers have no other name for it.
warnings.filterwarnings("ignore", "`past_key_values` is deprecated")


@functools.cache
def hugging_face(folder, device, dtype):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()


def path_of_blocks(model):
    """Where a Hugging Face model keeps its blocks, e.g. `model.layers`."""
    n_layers = model.config.num_hidden_layers
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList))
    return next(name for name, module in lists if len(module) == n_layers)


def by_layer(cells):
    """(layer, positions) for each run of cells of the same layer."""
    for layer, group in itertools.groupby(cells, key=lambda cell: cell[0]):
        yield layer, [position for _, position in group]


class Method:
    # Whether a whole layer's positions go together.
    by_layer = False

    def __init__(self, task, folder, device, dtype):
        self.task = task
        self.source = torch.tensor([task.source], device=device)  # [1, tokens]
        self.base = torch.tensor([task.base], device=device)  # [1, tokens]
        self.answers = [torch.tensor(ids, device=device) for ids in (task.true_ids, task.false_ids)]
        self.load(folder, device, dtype)

    def logit_diff(self, logits):
        """Of logits [..., d_vocab]: log P(TRUE) - log P(FALSE), each over all spellings of the answer."""
        true, false = (logits[..., ids].float().logsumexp(-1) for ids in self.answers)
        return true - false


# --- transformers -----------------------------------------------------------------------------------------------------


class HfHooks(Method):
    """transformers with a hook, a run a cell"""

    name, library = "hf-hooks", "transformers"
    n_cached = 0

    def load(self, folder, device, dtype):
        self.model = hugging_face(folder, device, dtype)
        self.blocks = self.model.get_submodule(path_of_blocks(self.model))

    def prepare(self):
        self.seen = []  # of each layer [tokens, d_model]
        handles = [block.register_forward_hook(self.read) for block in self.blocks]
        self.model(input_ids=self.source, use_cache=False, logits_to_keep=1)
        for handle in handles:
            handle.remove()

    def read(self, _module, _args, output):
        self.seen.append(hidden_of(output)[0].clone())

    def run(self, cells):
        return torch.cat([self.patched(layer, [position]) for layer, position in cells])

    def patched(self, layer, positions):
        """The base once for each position, with this position replaced at the layer. [positions]"""
        vectors = [self.seen[layer][self.task.positions[position]] for position in positions]

        def write(_module, _args, output):
            for row, (position, vector) in enumerate(zip(positions, vectors)):
                hidden_of(output)[row, position - self.n_cached] = vector

        handle = self.blocks[layer].register_forward_hook(write)
        logits = self.forward(len(positions)).logits[:, -1]
        handle.remove()
        return self.logit_diff(logits)

    def forward(self, n_rows):
        return self.model(input_ids=self.base.expand(n_rows, -1), use_cache=False, logits_to_keep=1)


def hidden_of(output):
    """A block's output [rows, tokens, d_model]; some families return it in a tuple."""
    return output[0] if isinstance(output, tuple) else output


class HfBatched(HfHooks):
    """transformers with a hook, a batch a layer"""

    name, by_layer = "hf-batched", True

    def run(self, cells):
        return torch.cat([self.patched(layer, positions) for layer, positions in by_layer(cells)])


class HfCached(HfBatched):
    """transformers with a hook, a batch a layer on a cached prefix"""

    name = "hf-cached"

    def prepare(self):
        from transformers import DynamicCache

        super().prepare()
        self.n_cached = min(self.task.positions)
        self.prefix = DynamicCache(config=self.model.config)
        if self.n_cached:
            self.model(input_ids=self.base[:, : self.n_cached], past_key_values=self.prefix, logits_to_keep=1)

    def forward(self, n_rows):
        cache = copy.deepcopy(self.prefix)
        if self.n_cached:
            cache.batch_repeat_interleave(n_rows)
        rest = self.base[:, self.n_cached :].expand(n_rows, -1)
        return self.model(input_ids=rest, past_key_values=cache, logits_to_keep=1)


# --- nnsight ----------------------------------------------------------------------------------------------------------


@functools.cache
def nnsight_model(folder, device, dtype):
    import models
    from nnsight import TransformersModel

    options = {"tokenizer": models.no_tokenizer(), "dtype": dtype, "device_map": device, "dispatch": True}
    return TransformersModel(folder, task="text-generation", **options)


class NNsight(Method):
    """nnsight, a trace a cell, as in the notebook"""

    name, library = "nnsight", "nnsight"

    def load(self, folder, device, dtype):
        self.model = nnsight_model(folder, device, dtype)
        path = path_of_blocks(self.model._module).split(".")
        self.blocks = functools.reduce(getattr, path, self.model)

    def prepare(self):
        with self.model.trace({"input_ids": self.source}):
            found = []
            for block in self.blocks:
                found.append(block.output[0].clone())
            found.save()
        self.seen = found

    def run(self, cells):
        values = []
        for layer, position in cells:
            vector = self.seen[layer][self.task.positions[position]]
            with self.model.trace({"input_ids": self.base}):
                self.blocks[layer].output[0, position] = vector
                value = self.logit_diff(self.model.output.logits[0, -1]).save()
            values.append(value)
        return torch.stack(values)


class NNsightBatched(NNsight):
    """nnsight, a trace a layer with an invoke a position"""

    name, by_layer = "nnsight-batched", True

    def run(self, cells):
        values = []
        for layer, positions in by_layer(cells):
            seen = self.seen[layer]
            with self.model.trace() as tracer:
                found = list().save()
                for position in positions:
                    with tracer.invoke({"input_ids": self.base}):
                        self.blocks[layer].output[0, position] = seen[self.task.positions[position]]
                        found.append(self.logit_diff(self.model.output.logits[0, -1]))
            values += found
        return torch.stack(values)


# --- TransformerLens --------------------------------------------------------------------------------------------------


class TransformerLens(Method):
    """TransformerLens, a hooked run a cell"""

    name, library = "transformer-lens", "transformer_lens"

    def load(self, folder, device, dtype):
        import models
        from transformer_lens.model_bridge import TransformerBridge

        # The weights as they are: nothing is folded or centred unless compatibility mode is switched on.
        options = {"device": device, "dtype": dtype, "tokenizer": models.no_tokenizer()}
        self.model = TransformerBridge.boot_transformers(folder, **options).eval()

    def prepare(self):
        self.names = [f"blocks.{layer}.hook_out" for layer in range(self.task.n_layers)]  # resid_post
        _, self.seen = self.model.run_with_cache(self.source, names_filter=self.names)

    def run(self, cells):
        values = []
        for layer, position in cells:
            name = self.names[layer]
            vector = self.seen[name][0, self.task.positions[position]]

            def write(resid, hook):
                resid[:, position] = vector
                return resid

            logits = self.model.run_with_hooks(self.base, fwd_hooks=[(name, write)])
            values.append(self.logit_diff(logits[0, -1]))
        return torch.stack(values)


METHODS = [NNsight, NNsightBatched, TransformerLens, HfHooks, HfBatched, HfCached]
