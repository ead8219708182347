"""GPTCache with SQLite and FAISS, measured in a virtual environment of its own: run by `bench.cache`, not imported.

In: a folder with stored.npy and asked.npy (rows of unit vectors). Out: one JSON object: milliseconds of each look-up,
and which stored row each found.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    from gptcache.manager import CacheBase, VectorBase, get_data_manager

    folder = Path(sys.argv[1])
    stored, asked = np.load(folder / "stored.npy"), np.load(folder / "asked.npy")
    scalars = CacheBase("sqlite", sql_url=f"sqlite:///{folder / 'gptcache.db'}")
    vectors = VectorBase("faiss", dimension=stored.shape[1], index_path=str(folder / "gptcache.index"))
    manager = get_data_manager(scalars, vectors, max_size=10**7)
    manager.import_data(
        [str(i) for i in range(len(stored))],
        [f"answer {i}" for i in range(len(stored))],
        list(stored),
        [None] * len(stored),
    )
    took, found = [], []
    for vector in asked:
        started = time.perf_counter()
        [hit] = manager.search(vector, top_k=1)
        answer = manager.get_scalar_data(hit)
        took.append(1000 * (time.perf_counter() - started))
        found.append(int(answer.question if isinstance(answer.question, str) else answer.question.content))
    print(json.dumps({"milliseconds": took, "found": found}))


if __name__ == "__main__":
    main()
