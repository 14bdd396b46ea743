"""A GGUF as a model of the hub, in float32 and laid out as the hub's cache: NDIF loads nothing else.

    python make_model.py FILE.gguf ORG/NAME HF_HOME
"""

import sys
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "oracle"))
from record import tokenizer_from_gguf  # noqa: E402

COMMIT = "0" * 39 + "1"


def main():
    gguf, repo, home = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    folder = home / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    if (folder / "refs" / "main").exists():
        return
    read = transformers.LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers does not save what it has read of a GGUF.
    config = read.config
    del config.quantization_config
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(snapshot)
    tokenizer, pad = tokenizer_from_gguf(gguf)
    text = tokenizer.id_to_token(pad)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=text).save_pretrained(snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)


main()
