"""The embedder's own process: `python -m cascade.embedder.worker MODEL_DIR`, kept by `serving`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cascade.embedder import SIZE
from cascade.embedder.encoder import AT_ONCE, Encoder
from cascade.embedder.serving import REPLY_BYTES, Question
from cascade.kept_worker import Pipes

NONE = np.full(2 * SIZE, np.nan, np.float32).tobytes()


def main() -> None:
    torch.set_num_threads(1)
    pipes: Pipes[Question, list[int]] = Pipes(REPLY_BYTES)
    encoder = Encoder(Path(sys.argv[1]))
    encoder.encode(["warm"])

    def replies(read: Sequence[list[int] | None]) -> list[bytes]:
        """A vector for each; NaN where it came too late."""
        vectors = iter(encoder.vectors([pieces for pieces in read if pieces])) if any(read) else iter(())
        return [next(vectors).tobytes() if pieces else NONE for pieces in read]

    pipes.serve(lambda question: encoder.pieces(question.text), replies, AT_ONCE)


if __name__ == "__main__":
    main()
