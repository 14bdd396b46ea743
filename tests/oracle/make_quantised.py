"""Writes tests/oracle/models/quantised.gguf: a tensor of every quantised type, and what the `gguf` package makes of it.

Tensor `Q4_K` holds random blocks of that type, and `Q4_K.f32` the same numbers as the reference in Python reads them.

    python make_quantised.py
"""

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

OUT = Path(__file__).parent / "models/quantised.gguf"
# type: where a block has its scales, float16, which must be sane; anything else may be any bytes.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}  # fmt: skip
N_ROWS, N_COLUMNS = 2, 512


def main():
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(OUT, "none")
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        n_numbers, n_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (N_ROWS * N_COLUMNS // n_numbers, n_bytes), dtype=np.uint8)
        for at in scales:
            scale = random.uniform(-1, 1, len(blocks)).astype("<f2")
            blocks[:, at : at + 2] = scale.view(np.uint8).reshape(-1, 2)
        rows = blocks.reshape(N_ROWS, -1)
        writer.add_tensor(name, rows, raw_dtype=kind)
        writer.add_tensor(f"{name}.f32", dequantize(rows, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{OUT.name}: {OUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
