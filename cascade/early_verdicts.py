"""Judges a draft at its sentence ends while it is still being written, so that one that is lost is not paid for whole.

Runs beside the stream and never holds it up: one prefix at a time, and none while the scorer has other work. Below
which score a draft is lost is measured for each set of weights (`bench.early_verdicts`); the whole answer is always
judged anew. What becomes of a draft that is given up is the runner's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from cascade.values import Context

LONGEST_SENTENCE = 2_000  # characters; what runs on without an end is left to the final verdict
_END = re.compile(r"(?:[.!?…][\"'”’)\]*_]{0,3}(?=\s)|(?=\n))\s+")


@runtime_checkable
class EarlyScorer(Protocol):
    async def early(self, context: Context, draft: str, threshold: float) -> float | None:
        """The score of a draft that is lost already, 0..1; None: it may become good, or there was no time to look.

        `threshold`: what the whole answer must reach to be accepted.
        """
        ...


def sentence_ends(draft: str) -> list[int]:
    """Where sentences and lines end, each after the blanks that follow: they must have come."""
    return [found.end() for found in _END.finditer(draft)]


class Watch:
    """One growing draft. `judge`: as `EarlyScorer.early`, of this turn's context. Needs a running loop; stop it."""

    def __init__(self, judge: Callable[[str], Awaitable[float | None]]) -> None:
        self._judge = judge
        self._whole = list[str]()  # up to the last sentence end
        self._open = ""  # since then
        self._task: asyncio.Task[float | None] | None = None

    def lost(self, piece: str) -> float | None:
        """Takes the next piece in; the score of a draft that is lost, as soon as it is known."""
        verdict = self._verdict()
        self._open += piece
        if ends := sentence_ends(self._open):
            self._whole.append(self._open[: ends[-1]])
            self._open = self._open[ends[-1] :]
            if self._task is None and verdict is None:
                self._task = asyncio.create_task(_quietly(self._judge, "".join(self._whole)))
        elif len(self._open) > LONGEST_SENTENCE:
            self._whole.append(self._open)
            self._open = ""
        return verdict

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    def _verdict(self) -> float | None:
        if self._task is None or not self._task.done():
            return None
        done, self._task = self._task, None
        return done.result()


async def _quietly(judge: Callable[[str], Awaitable[float | None]], draft: str) -> float | None:
    """No early verdict where looking fails: the whole answer is judged all the same."""
    try:
        return await judge(draft)
    except Exception:
        return None
