"""The scorer's own process: `python -m cascade.scorer.worker WEIGHTS_DIR`, spoken to over its pipes.

In: frames of 4 bytes length and a pickle of `worker_protocol.Question`, from the parent alone. Out: one frame of
`worker_protocol.REPLY` for each: number and score, NaN where there is none. One thread reads questions and writes out
their texts while the other computes. It may crash or hang: the parent (`serving`) kills and restarts it.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from cascade.scorer import engines, head
from cascade.scorer import model as network
from cascade.scorer.manifest import read
from cascade.scorer.model import Reading
from cascade.scorer.worker_protocol import READY, REPLY, Question

Read = tuple[Question, Reading | None]  # None: not scored
Waiting = queue.SimpleQueue[Read | None]  # None: the parent is gone


class Judge:
    """Weights, tokenizer and calibration, loaded once."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read(folder)
        self.engine = engines.fastest(folder)
        self.tokenizer = network.tokenizer_of(folder / "tokenizer.json")
        self.head = head.load(folder)

    def reading(self, question: Question) -> Reading | None:
        """What the network is given; None for an answer that cannot be read, whatever stands in it."""
        try:
            budget, window = self.manifest.budget, self.manifest.window
            return network.reading(self.tokenizer, question.context, question.answer, budget, window)
        except Exception as error:
            print(f"scorer: an answer could not be read: {error!r}"[:500], file=sys.stderr, flush=True)
            return None

    def scores(self, readings: Sequence[Reading | None]) -> list[float]:
        """A probability for each, NaN where there is nothing to read."""
        logits = iter(head.logits(self.engine, self.head, [each for each in readings if each]))  # type: ignore[arg-type]
        return [self.manifest.calibration.probability(next(logits)) if each else math.nan for each in readings]


def _read_questions(stream: BinaryIO, judge: Judge, waiting: Waiting) -> None:
    """Runs beside the scoring, so that the engine never waits for a text."""
    while len(size := stream.read(4)) == 4:
        question: Question = pickle.loads(stream.read(int.from_bytes(size, "little")))  # noqa: S301  (the parent's own)
        waiting.put((question, judge.reading(question) if _in_time(question) else None))
    waiting.put(None)


def _in_time(question: Question) -> bool:
    return time.monotonic() < question.until


def _next(waiting: Waiting, at_most: int) -> list[Read]:
    """What waits now, `at_most` so many, at least one; empty: the parent is gone."""
    found: list[Read] = []
    while not found or (len(found) < at_most and not waiting.empty()):
        if (each := waiting.get()) is None:
            return []
        found.append(each)
    return found


def main() -> None:
    torch.set_num_threads(1)
    sys.setswitchinterval(0.001)  # seconds: the scoring thread gets its turn between two texts
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not look like a score
    judge = Judge(Path(sys.argv[1]))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what loading and measuring took goes back to the system
    print(f"scorer: {judge.engine.name}, {judge.engine.at_once} at once", file=sys.stderr, flush=True)
    replies.write(REPLY.pack(READY, math.nan))
    waiting: Waiting = queue.SimpleQueue()
    threading.Thread(target=_read_questions, args=(sys.stdin.buffer, judge, waiting), daemon=True).start()
    while asked := _next(waiting, judge.engine.at_once):
        scores = judge.scores([reading if _in_time(question) else None for question, reading in asked])
        replies.write(b"".join(REPLY.pack(asked[n][0].number, score) for n, score in enumerate(scores)))


if __name__ == "__main__":
    main()
