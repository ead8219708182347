"""Scores for the web process, which never imports torch: a child process gives them (`cascade.kept_process`).

Whatever happens there ends within the deadline in None, which means "not scored" and is never accepted.
"""

from __future__ import annotations

import math
from pathlib import Path

from cascade.kept_process import KeptProcess
from cascade.scorer.legible import judgeable
from cascade.scorer.manifest import read
from cascade.scorer.worker_protocol import REPLY, Question
from cascade.values import Context

EARLY_SECONDS = 1.0  # for the beginning of an answer; later the verdict is of no use


class Scorer(KeptProcess):
    """One child process with one folder of weights. Raises UnfitWeights when the folder must not be served."""

    def __init__(self, weights: Path) -> None:
        super().__init__("scorer", "cascade.scorer.worker", str(weights.resolve()), REPLY.size)
        self.weights = weights
        manifest = read(weights)
        self.version = manifest.version
        self._abort_below, self._abort_from = manifest.abort_below, manifest.abort_from

    async def score(
        self, context: Context, answer: str, *, deadline_seconds: float = 2.0, whole: bool = True
    ) -> float | None:
        """The probability that the answer is good for this customer; None: not scored.

        At once where so many wait that its turn would come too late, at the deadline otherwise. Not `whole`: it is the
        beginning of an answer, which need not be to the point yet.
        """
        if not judgeable(context.question, answer):
            self._mishap("unreadable")
            return None
        reply = await self.ask(lambda number, until: Question(number, context, answer, until, whole), deadline_seconds)
        if reply is None:
            return None
        score: float = REPLY.unpack(reply)[1]
        if math.isnan(score):
            self._mishap("not_a_number")
            return None
        self.counts["scored"] += 1
        return score

    async def early(self, context: Context, draft: str, threshold: float) -> float | None:
        """The score of a draft that is lost already; None: it may become good, or the scorer has other work.

        Never of an answer that is accepted at a lower `threshold` than those for which losses were measured.
        """
        if not self._abort_below or threshold < self._abort_from:
            return None
        if not self.ready or self._inside or self._owed:
            return None
        score = await self.score(context, draft, deadline_seconds=EARLY_SECONDS, whole=False)
        return score if score is not None and score < self._abort_below else None
