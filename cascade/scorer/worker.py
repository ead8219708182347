"""The scorer's own process: `python -m cascade.scorer.worker WEIGHTS_DIR`, kept by `serving`.

Takes `worker_protocol.Question`s and replies with a score to each, NaN where there is none.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from cascade.kept_worker import Pipes
from cascade.scorer import engines, head
from cascade.scorer import model as network
from cascade.scorer.manifest import read
from cascade.scorer.model import Reading
from cascade.scorer.worker_protocol import REPLY, SCORE, Question


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
            found = network.reading(self.tokenizer, question.context, question.answer, self.manifest.window)
            return found if question.whole else found.begun()
        except Exception as error:
            print(f"scorer: an answer could not be read: {error!r}"[:500], file=sys.stderr, flush=True)
            return None

    def replies(self, readings: Sequence[Reading | None]) -> list[bytes]:
        return [SCORE.pack(score) for score in self.scores(readings)]

    def scores(self, readings: Sequence[Reading | None]) -> list[float]:
        """A probability for each, NaN where there is nothing to read."""
        logits = iter(head.logits(self.engine, self.head, [each for each in readings if each]))
        return [self.manifest.calibration.probability(next(logits)) if each else math.nan for each in readings]


def main() -> None:
    torch.set_num_threads(1)
    pipes: Pipes[Question, Reading] = Pipes(REPLY.size)
    judge = Judge(Path(sys.argv[1]))
    print(f"scorer: {judge.engine.name}, {judge.engine.at_once} at once", file=sys.stderr, flush=True)
    pipes.serve(judge.reading, judge.replies, judge.engine.at_once)


if __name__ == "__main__":
    main()
