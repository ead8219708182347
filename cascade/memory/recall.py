"""The memory of a process: the embedder, and who judges whether a remembered answer fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from cascade.embedder.serving import Reading, Vector
from cascade.memory import bound
from cascade.memory.checking import say_the_same
from cascade.memory.judge import Judge, Question, surest

EMBED_SECONDS = 0.5  # a turn waits no longer for a vector; then it goes on without memory


class Embeds(Protocol):
    async def read(self, text: str, *, deadline_seconds: float) -> Reading | None: ...


class Stored(Protocol):
    """A remembered answer, as far as it bears on the decision."""

    @property
    def question(self) -> str: ...
    @property
    def vector(self) -> Vector: ...
    @property
    def general(self) -> float:
        """Log odds that the question is nobody's own."""
        ...

    @property
    def answer(self) -> str: ...
    @property
    def answer_vector(self) -> Vector: ...
    @property
    def personal(self) -> bool: ...


S = TypeVar("S", bound=Stored)


@dataclass(frozen=True, slots=True)
class Memory:
    embedder: Embeds
    judge: Judge

    async def read(self, text: str) -> Question | None:
        """None: there is no vector in time."""
        reading = await self.embedder.read(text, deadline_seconds=EMBED_SECONDS)
        return None if reading is None else self.judge.question(text, reading)

    def choose(
        self, asked: Question, stored: Sequence[S], checks: Iterable[tuple[float, bool]], tolerated: float
    ) -> tuple[S, float] | None:
        """The surest of `stored` that is sure enough, and how sure it is; None: none is.

        `checks`: hits of this chatbot that were checked, confidence and whether wrong.
        """
        kinds = ([each for each in stored if each.personal], [each for each in stored if not each.personal])
        found = [self._surest(asked, kind, list(checks), tolerated) for kind in kinds if kind]
        return max((each for each in found if each), key=lambda each: each[1], default=None)

    def _surest(
        self, asked: Question, stored: Sequence[S], checks: Sequence[tuple[float, bool]], tolerated: float
    ) -> tuple[S, float] | None:
        """Of a customer's own, or of those that several may be given."""
        judge, own = self.judge, stored[0].personal
        vectors = np.array([each.vector for each in stored], np.float64)
        read = zip(stored, vectors, judge.around(vectors), strict=True)
        known = [Question(each.question, vector, each.general, around) for each, vector, around in read]

        def alike(i: int, j: int) -> bool:
            return _alike(stored[i], stored[j])

        if own:
            best, confidence = surest([judge.ask_the_same(each, asked) for each in known], alike)
        else:
            best, confidence = judge.surest(asked, known, alike)
        least = judge.threshold_own(tolerated) if own else judge.threshold(tolerated)
        return (stored[best], confidence) if confidence >= bound.raised(checks, tolerated, least) else None


def _alike(one: Stored, other: Stored) -> bool:
    close = float(np.dot(one.answer_vector, other.answer_vector))
    return say_the_same(one.answer, other.answer, close)
