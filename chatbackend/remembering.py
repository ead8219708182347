"""Memory's part in one turn: what was answered before is offered as tier zero, what was accepted is kept.

Whatever goes wrong here, the turn goes on without memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from accounts.money import ZERO, Money
from accounts.tenancy import in_db
from cascade import context, remembered
from cascade.context import Built
from cascade.conversations import OpenTurn, TurnResult
from cascade.material import Material
from cascade.memory import checking, scope
from cascade.memory.judge import Question, probability
from cascade.memory.recall import Memory
from cascade.memory.scope import Scope
from cascade.models import MemoryUse, Turn
from cascade.providers.remembered import MEMORY, tier
from cascade.remembered import Candidate, Keep, Place
from cascade.runner import Engine
from cascade.values import Attempt, Outcome, Strategy
from chatbackend.lookup import Asked
from chatbackend.reporting import report


@dataclass(frozen=True, slots=True)
class Recalled:
    """An answer that is sure enough to be given again."""

    candidate: Candidate
    confidence: float
    checking: bool  # it is not given: this time the models answer, to see whether it is right


class Remembering:
    """Of one turn."""

    def __init__(self, memory: Memory, turn: OpenTurn, material: Material, built: Built, asked: Asked) -> None:
        self._memory, self._turn, self._material, self._built = memory, turn, material, built
        # None: it was not read in time, so nothing is recalled or kept
        self._asked = memory.judge.question(asked.text, asked.reading) if asked.reading else None
        self._recalled: Recalled | None = None

    async def offer(self, engine: Engine) -> tuple[Engine, Strategy]:
        """The engine and the strategy of the turn, with tier zero in front where memory has an answer."""
        strategy = self._material.strategy
        try:
            self._recalled = await self._recall()
        except Exception as problem:
            report(problem)
        if self._recalled is None or self._recalled.checking:
            return engine, strategy
        strictest = max(each.threshold for each in strategy.tiers)
        with_memory = replace(strategy, tiers=(tier(strictest), *strategy.tiers))
        return engine.remembering(self._recalled.candidate.answer), with_memory

    @property
    def spared(self) -> Money:
        """What the dearest model would have cost for the answer that is offered, as it did when it was made."""
        return Money(self._recalled.candidate.dearest_micros) if self._recalled else ZERO

    async def close(self, result: TurnResult) -> None:
        """What came of the offer is noted, and what was accepted kept. After the turn is on record."""
        try:
            if self._recalled:
                outcome = await self._outcome(self._recalled, result)
                noting = in_db(remembered.note)
                await noting(self._place(), self._turn.id, self._recalled.candidate, outcome, self._recalled.confidence)
            if self._asked and (answer := _fresh(result)) and not context.stale_notice(self._built.report):
                await self._keep(self._asked, answer)
        except Exception as problem:  # the turn is over, and none the worse
            report(problem)

    # --- before -------------------------------------------------------------------------------

    async def _recall(self) -> Recalled | None:
        known, setting = self._built.context, self._material.remembering
        assert setting is not None
        if self._asked is None:
            return None
        place = self._place()
        shown = {passage.source_id for passage in known.passages}
        found = await in_db(remembered.candidates)(place, self._asked.vector.tolist(), shown)
        checks = await in_db(remembered.checked)(place) if found else []
        chosen = self._memory.choose(self._asked, found, checks, setting.wrong_hits)
        if chosen is None:
            return None
        return Recalled(*chosen, checking=random.random() < setting.check_share)  # noqa: S311  (guards nothing)

    def _place(self) -> Place:
        known, setting, told = self._built.context, self._material.remembering, self._material.instructions
        assert setting is not None
        return Place(
            tenant_id=self._turn.tenant_id,
            chatbot_id=self._turn.chatbot_id,
            strategy_id=setting.strategy_id,
            customer_id=self._turn.customer_id,
            segment=scope.segment(known),
            basis=scope.basis(known, told, Scope.EVERYBODY),
            own_basis=scope.basis(known, told, Scope.CUSTOMER),
        )

    # --- after --------------------------------------------------------------------------------

    async def _outcome(self, recalled: Recalled, result: TurnResult) -> str:
        if not recalled.checking:
            served = any(of == Outcome.ACCEPTED and by.model == MEMORY for by, of in _outcomes(result))
            return MemoryUse.Outcome.SERVED if served else MemoryUse.Outcome.REFUSED
        if (fresh := _fresh(result)) is None:
            return MemoryUse.Outcome.UNCLEAR
        vectors = [await self._memory.read(text) for text in (recalled.candidate.answer, fresh)]
        if vectors[0] is None or vectors[1] is None:
            return MemoryUse.Outcome.UNCLEAR
        close = float(vectors[0].vector @ vectors[1].vector)
        right = checking.say_the_same(recalled.candidate.answer, fresh, close)
        return MemoryUse.Outcome.RIGHT if right else MemoryUse.Outcome.WRONG

    async def _keep(self, asked: Question, answer: str) -> None:
        if read := await self._memory.read(answer):
            await in_db(remembered.keep)(self._place(), self._kept(asked, answer, read.vector.tolist()))

    def _kept(self, asked: Question, answer: str, answer_vector: Sequence[float]) -> Keep:
        known, told = self._built.context, self._material.instructions
        return Keep(
            turn_id=self._turn.id,
            scope=scope.scope(known, asked.text, answer, probability(asked.general), told),
            question=asked.text,
            vector=asked.vector.tolist(),
            answer=answer,
            answer_vector=answer_vector,
            general=asked.general,
            passages=known.passages,
            knowledge=scope.knowledge(known.passages),
            knowledge_version=self._material.knowledge_version,
        )


def _outcomes(result: TurnResult) -> list[tuple[Attempt, str]]:
    return list(zip(result.attempts, result.outcomes, strict=True))


def _fresh(result: TurnResult) -> str | None:
    """The accepted answer of a model; None: there is none, or it was not whole."""
    if result.state != Turn.State.ANSWERED or result.problem:
        return None
    return next((by.text for by, of in _outcomes(result) if of == Outcome.ACCEPTED and by.model != MEMORY), None)
