"""The scorer's own process: `python -m cascade.scorer.worker WEIGHTS_DIR`, spoken to over its pipes.

In: frames of 4 bytes length and a pickle of (number, Context, answer), from the parent alone. Out: frames of
`worker_protocol.REPLY`: number and score, NaN where there is none. What waits at once is scored in one batch. It may
crash or hang: the parent (`serving`) kills and restarts it.
"""

from __future__ import annotations

import math
import os
import pickle
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cascade.scorer import head
from cascade.scorer import model as network
from cascade.scorer.manifest import read
from cascade.scorer.worker_protocol import READY, REPLY

MOST_AT_ONCE = 16


class Judge:
    """Weights, tokenizer and calibration, loaded once."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read(folder)
        self.model, self.tokenizer = network.load(folder)
        self.model = _fastest(self.model)
        self.head = head.load(folder)

    def scores(self, asked: list[tuple[Any, str]]) -> list[float]:
        """A probability for each (context, answer); NaN for one that could not be read."""
        readings, kept, found = [], [], [math.nan] * len(asked)
        for position, (context, answer) in enumerate(asked):
            try:
                budget, window = self.manifest.budget, self.manifest.window
                readings.append(network.reading(self.tokenizer, context, answer, budget, window))
                kept.append(position)
            except Exception as error:  # whatever stands in it, it is one answer that is not scored
                print(f"scorer: an answer could not be read: {error!r}"[:500], file=sys.stderr, flush=True)
        for position, logit in zip(kept, head.logits(self.model, self.head, readings), strict=True):
            found[position] = self.manifest.calibration.probability(logit)
        return found


def _fastest(model: Any) -> Any:
    """The same weights in the number format that this processor is faster with."""
    probe = [[101, *range(2_000, 2_190), 102]]
    took = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = model.to(dtype)
        network.logits(model, probe)
        started = time.perf_counter()
        network.logits(model, probe)
        network.logits(model, probe)
        took[dtype] = time.perf_counter() - started
    return model.to(min(took, key=lambda dtype: took[dtype]))


def _read_frames(stream: BinaryIO, waiting: queue.SimpleQueue[tuple[int, Any, str] | None]) -> None:
    """Runs beside the scoring, so that what arrives meanwhile makes the next batch."""
    while (head := stream.read(4)) and len(head) == 4:
        waiting.put(pickle.loads(stream.read(int.from_bytes(head, "little"))))  # noqa: S301  (the parent's own values)
    waiting.put(None)


def main() -> None:
    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not look like a score
    judge = Judge(Path(sys.argv[1]))
    replies.write(REPLY.pack(READY, math.nan))
    waiting: queue.SimpleQueue[tuple[int, Any, str] | None] = queue.SimpleQueue()
    threading.Thread(target=_read_frames, args=(sys.stdin.buffer, waiting), daemon=True).start()
    while (first := waiting.get()) is not None:
        asked = [first]
        while len(asked) < MOST_AT_ONCE and not waiting.empty():
            following = waiting.get()
            if following is None:
                return
            asked.append(following)
        scores = judge.scores([(context, answer) for _, context, answer in asked])
        for (number, _, _), score in zip(asked, scores, strict=True):
            replies.write(REPLY.pack(number, score))


if __name__ == "__main__":
    main()
