"""The largest difference of any cell between two folders of results of the same table.

    python compare.py ONE OTHER [MOST]
"""

import json
import sys
from pathlib import Path

NUMBERS = ["logit_diff", "p_true", "p_false", "kl_base", "kl_source"]


def results(folder):
    documents = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return {document["entity"]: document for document in documents}


def main():
    one, other = results(sys.argv[1]), results(sys.argv[2])
    most = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-4
    assert one and one.keys() == other.keys(), (one.keys(), other.keys())
    largest, n_cells, n_top = dict.fromkeys(NUMBERS, 0.0), 0, 0
    for entity in one:
        assert len(one[entity]["grids"]) == len(other[entity]["grids"])
        for a, b in zip(one[entity]["grids"], other[entity]["grids"]):
            assert (a["site"], a["direction"], a["axes"]) == (b["site"], b["direction"], b["axes"])
            n_cells += len(a["logit_diff"])
            n_top += sum(x[0]["id"] != y[0]["id"] for x, y in zip(a["top"], b["top"]))
            for name in NUMBERS:
                for x, y in zip(a[name], b[name], strict=True):
                    largest[name] = max(largest[name], abs(x - y))
    differences = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
    print(f"{len(one)} pairs, {n_cells} cells; largest differences: {differences}; {n_top} cells with another top token")
    assert max(largest.values()) <= most and n_top == 0


main()
