"""How a turn ended: its result, with all that goes on record and is still to be told."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from accounts import ledger
from accounts.budgets import BudgetExceeded
from cascade.citations import cited
from cascade.compute import Beside
from cascade.context import Built, CutReport, stale_notice
from cascade.conversations import OpenTurn, TurnResult
from cascade.errors import UnknownPrice
from cascade.material import Material
from cascade.models import Turn
from cascade.runner import Accepted, BrokenOff, Event, HandedOver, Run
from chatbackend import chunks
from chatbackend.recording import DATABASE_GONE
from chatbackend.reporting import report
from chatbackend.saved import Given
from chatbackend.telling import Telling

REPORT: TypeAdapter[CutReport] = TypeAdapter(CutReport)


class DiskFull(Exception):
    """A turn that ended without a database could not be kept; nothing was asked."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Of a turn, by what it has got so far."""

    turn: OpenTurn
    telling: Telling
    built: Built | None  # None: nothing was put before a model
    run: Run | None  # None: no model was asked
    saved: Given | None  # None: no saved reply was given
    used: Beside

    def of(self, asking: asyncio.Task[Event | Given]) -> TurnResult:
        result = TurnResult(
            tenant_id=self.turn.tenant_id,
            turn_id=self.turn.id,
            conversation_id=self.turn.conversation_id,
            chatbot_id=self.turn.chatbot_id,
            state=Turn.State.ANSWERED,
            attempts=self.run.attempts if self.run else (),
            outcomes=self.run.outcomes if self.run else (),
            context_report=self._report(self.turn.material) if self.built else {},
            context=self.built.context if self.built else None,
            used=self.used,
        )
        if asking.cancelled():
            cancelled = replace(result, state=Turn.State.CANCELLED)
            return self.telling.ended(cancelled, self.telling.told, chunks.abort())
        match asking.exception() or asking.result():
            case Accepted(attempt):
                return self._answered(result, attempt.text)
            case Given(match=match):
                return self._answered(result, match.text)
            case BrokenOff(attempt):
                broken = replace(result, problem=attempt.error or "cut")
                return self.telling.ended(broken, self._warned(attempt.text), chunks.error("interrupted"))
            case HandedOver(reason):
                return replace(result, state=Turn.State.HANDED_OVER, problem=reason, hand_over=True)
            case BudgetExceeded(refusal=refusal):
                refused = replace(result, state=Turn.State.REFUSED, problem="budget_exceeded")
                return self.telling.ended(refused, refusal, chunks.finish("stop"))
            case problem:
                assert isinstance(problem, Exception)
                return self._refused(result, problem)

    def _answered(self, result: TurnResult, text: str) -> TurnResult:
        assert self.built
        sources = cited(text, self.built.context)
        report = result.context_report | {"sources": [passage.source_id for passage in sources]}
        named = [chunks.source_document(passage.source_id, passage.title) for passage in sources]
        told = self._warned(text)
        return self.telling.ended(replace(result, context_report=report), told, *named, chunks.finish("stop"))

    def _refused(self, result: TurnResult, problem: Exception) -> TurnResult:
        match problem:
            case ledger.InsufficientFunds():
                code = "insufficient_funds"
            case UnknownPrice():
                code = "unknown_price"
            case DiskFull():
                code = "disk_full"
            case _:
                report(problem)
                code = "temporarily_unavailable" if isinstance(problem, DATABASE_GONE) else "internal_error"
        return self.telling.failed(replace(result, state=Turn.State.REFUSED, problem=code), code)

    def _warned(self, text: str) -> str:
        assert self.built
        return warned(text, self.built)

    def _report(self, material: Material | None) -> dict[str, Any]:
        assert self.built
        report: dict[str, Any] = REPORT.dump_python(self.built.report, mode="json")
        if material and material.strictness:
            odds = f"the odds asked of an answer are {math.exp(material.strictness):.1f} times the chatbot's"
            report["stricter_for_this_customer"] = f"{odds}: accepted answers have disappointed"
        if self.saved:
            score = "not scored" if self.saved.score is None else f"score {self.saved.score:.3f}"
            report["saved_reply"] = f"{self.saved.match.name} ({score})"
        return report


def warned(text: str, built: Built) -> str:
    """A reply as the customer reads it: a warning first where a record behind it is out of date."""
    notice = stale_notice(built.report)
    return f"{notice} {text.lstrip()}" if notice else text.lstrip()
