"""The evaluation table of a chatbot's own turns: what each model said, what it cost, and how good it was.

How good an answer was, the first of these that there is: what the customer or staff said of it; whether it names the
same facts as an answer that they called right; whether it names those of the reference model, which counts as right;
else its score, which is calibrated and so stands as the expected quality. How many answers were judged by which is
counted: a table that rests on scores alone says what the scorer believes, not what customers thought.

A call that failed while exploring counts as not made. Only scores of one set of weights are compared: turns that other
weights judged are left out and counted. Everything is read inside `in_tenant`, in short transactions, the newest turns
first, no more than asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import numpy as np
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.tenancy import in_tenant
from cascade import material, scorer_labels
from cascade.learning.sampling import Mask, strata, weights
from cascade.learning.table import UNUSABLE, BadTable, EvaluationTable, Numbers
from cascade.models import Chatbot, ModelCall, Turn
from cascade.providers.remembered import MEMORY
from cascade.scorer.own_rows import Label
from cascade.scorer.rows import CONTEXT
from cascade.strategy_check import can_name
from cascade.values import Context, FinishReason, Outcome

MOST_TURNS = 5_000
AT_ONCE = 200  # turns read in one transaction
NAN = float("nan")
KINDS = {
    "people": "what customers and staff said of it",
    "facts": "the same facts as an answer that people called right",
    "reference": "the same facts as the reference model's answer",
    "score": "its score, as the expected quality",
    "unusable": "no answer that could be shown",
}


class Cell(NamedTuple):
    """One model's answer to one turn, its retries included."""

    score: float  # UNUSABLE: it may not be shown
    quality: float  # NaN: nobody judged it, and it has no score
    cost_micros: float
    seconds: float
    explored: bool
    kind: str  # of KINDS; "": unjudged


@dataclass(frozen=True, slots=True)
class Row:
    turn_id: UUID
    segment: str
    chance: float  # of having been drawn for exploring; NaN: nobody looked
    weights_version: str  # of the scorer
    shown: str  # the model whose answer was shown; "": a person had to answer
    cells: dict[str, Cell]


@dataclass(frozen=True, eq=False)
class Recorded:
    """One entry a turn. `table` has NaN where a model was not asked; its weights are ones."""

    table: EvaluationTable
    explored: Mask  # (turns, models): asked after the reply, to learn
    chance: Numbers
    cost_micros: Numbers  # what the turn did cost, without what was explored
    quality: Numbers  # of what was shown; 0: a person had to answer, NaN: nobody judged it
    handed_over: Mask
    judged_by: Counter[str] = field(default_factory=Counter)  # answers, by the keys of KINDS
    other_weights: int = 0  # turns that another scorer judged, left out

    @property
    def asked(self) -> list[str]:
        """The models that answered any of the turns."""
        answered = np.asarray((~np.isnan(self.table.score)).any(axis=0))
        return [model for model, some in zip(self.table.models, answered, strict=True) if some]

    @property
    def live(self) -> EvaluationTable:
        """Without what was explored."""

        def alone(values: Numbers) -> Numbers:
            return np.where(self.explored, NAN, values)

        table = self.table
        return replace(
            table,
            score=alone(table.score),
            quality=alone(table.quality),
            cost_micros=alone(table.cost_micros),
            seconds=alone(table.seconds),
        )

    def learnable(self, models: Sequence[str]) -> EvaluationTable:
        """The turns that are known of all these models, weighted for all. Raises BadTable: too little is known.

        A segment of customers keeps its name where exploring tells enough of it (`sampling.strata`).
        """
        everything, live = self.table.columns(models), self.live.columns(models)
        asked = ~np.isnan(everything.score).any(axis=1)
        unjudged = asked & ~everything.recorded.all(axis=1)
        population = np.asarray(~unjudged)
        known, free = (np.asarray(each.recorded.all(axis=1))[population] for each in (everything, live))
        part = everything.rows(population)
        stratum = strata([name if can_name(name) else "" for name in part.segment], free, known)
        found = weights(free, known, self.chance[population], stratum)
        if not free.all() and not (known & ~free).any():
            raise BadTable(
                f"of {len(free)} turns {int((~free).sum())} stopped before every model was asked, and none of them was"
                " explored: set a share of turns to explore on the chatbot's page, and come back when some were"
            )
        return replace(part, weight=np.where(found > 0, found, 1.0), segment=stratum).rows(found > 0)


def read(
    chatbot: Chatbot, since: datetime, until: datetime, most: int = MOST_TURNS, *, by_reference: bool = True
) -> Recorded:
    """The chatbot's answered turns of a period, the newest `most`; an empty table where there are none.

    `by_reference`: an answer that nobody judged counts by whether it agrees with the reference model's.
    """
    reference = chatbot.reference_model if by_reference else ""
    rows, other = _of_one_scorer(list(_rows(chatbot, _ids(chatbot, since, until, most), reference)))
    models = _models(chatbot, rows)
    return Recorded(
        table=_table(rows, models),
        explored=np.array([[m in r.cells and r.cells[m].explored for m in models] for r in rows], bool).reshape(
            len(rows), len(models)
        ),
        chance=np.array([row.chance for row in rows], float),
        cost_micros=np.array([_live_cost(row) for row in rows], float),
        quality=np.array([row.cells[row.shown].quality if row.shown else 0.0 for row in rows], float),
        handed_over=np.array([not row.shown for row in rows], bool),
        judged_by=Counter(cell.kind for row in rows for cell in row.cells.values() if cell.kind),
        other_weights=other,
    )


def turns(chatbot: Chatbot, since: datetime, until: datetime) -> QuerySet[Turn]:
    """Those that models answered, or tried to, and memory did not. In `in_tenant`."""
    ended = (Turn.State.ANSWERED, Turn.State.HANDED_OVER)
    found = Turn.objects.filter(conversation__chatbot=chatbot, created_at__gte=since, created_at__lt=until)
    broken_off = Q(state=Turn.State.ANSWERED, problem__gt="")
    asked = Exists(
        ModelCall.objects.filter(turn=OuterRef("pk")).exclude(model=MEMORY).exclude(outcome=Outcome.EXPLORED)
    )
    return found.filter(~broken_off, asked, ~from_memory(), state__in=ended)


def from_memory() -> Exists:
    """Whether a turn got a remembered answer again: no strategy was asked then, whichever it is."""
    return Exists(ModelCall.objects.filter(turn=OuterRef("pk"), model=MEMORY, outcome=Outcome.ACCEPTED))


def _ids(chatbot: Chatbot, since: datetime, until: datetime, most: int) -> list[UUID]:
    with in_tenant(chatbot.tenant_id):
        return list(turns(chatbot, since, until).order_by("-created_at").values_list("id", flat=True)[:most])


def _rows(chatbot: Chatbot, ids: Sequence[UUID], reference: str) -> Iterator[Row]:
    for start in range(0, len(ids), AT_ONCE):
        with in_tenant(chatbot.tenant_id):
            found = scorer_labels.read(ids[start : start + AT_ONCE])
            for turn in found.select_related("conversation__customer", "context", "exploration"):
                yield _row(turn, reference)


def _of_one_scorer(rows: list[Row]) -> tuple[list[Row], int]:
    """The turns that the newest turn's scorer judged, and how many others there are."""
    kept = [row for row in rows if row.weights_version == rows[0].weights_version]
    return kept, len(rows) - len(kept)


def _models(chatbot: Chatbot, rows: Sequence[Row]) -> list[str]:
    """All that answered anything, the live strategy's first."""
    live = [tier["model"] for tier in chatbot.live_strategy.tiers] if chatbot.live_strategy else []
    answered = {model for row in rows for model in row.cells}
    return [*dict.fromkeys([*live, *sorted(answered)])]


def _table(rows: Sequence[Row], models: Sequence[str]) -> EvaluationTable:
    nothing = Cell(NAN, NAN, NAN, NAN, False, "")
    cells = [[row.cells.get(model, nothing) for model in models] for row in rows]

    def array(place: int) -> Numbers:
        return np.array([[cell[place] for cell in row] for row in cells], float).reshape(len(rows), len(models))

    return EvaluationTable(
        questions=tuple(str(row.turn_id) for row in rows),
        models=tuple(models),
        score=array(0),
        quality=array(1),
        cost_micros=array(2),
        seconds=array(3),
        weight=np.ones(len(rows)),
        segment=tuple(row.segment for row in rows),
    )


def _live_cost(row: Row) -> float:
    return sum(cell.cost_micros for cell in row.cells.values() if not cell.explored)


# --- one turn -------------------------------------------------------------------------------


def _row(turn: Turn, reference: str) -> Row:
    calls: defaultdict[str, list[ModelCall]] = defaultdict(list)
    for call in sorted(turn.calls.all(), key=lambda call: call.number):
        failed = call.outcome == Outcome.EXPLORED and call.error  # while exploring: it counts as not asked
        if call.model != MEMORY and not failed:
            calls[call.model].append(call)
    verdicts = _verdicts(turn, {model: made[-1] for model, made in calls.items()}, reference)
    shown = next((model for model, made in calls.items() if made[-1].outcome == Outcome.ACCEPTED), "")
    explored = getattr(turn, "exploration", None)
    return Row(
        turn_id=turn.id,
        segment=_segment(turn),
        chance=explored.chance if explored else NAN,
        weights_version=next(iter(calls.values()))[0].scorer_version,
        shown=shown,
        cells={model: _cell(made, verdicts.get(model)) for model, made in calls.items()},
    )


def _segment(turn: Turn) -> str:
    """Of the customer when the turn was asked; today's, where what was known then was not kept."""
    then = turn.context.context["customer"].get("attributes") if hasattr(turn, "context") else None
    return material.segment_of(then or turn.conversation.customer.attributes)


def _cell(calls: Sequence[ModelCall], verdict: tuple[bool, str] | None) -> Cell:
    last = calls[-1]
    score = last.score if last.score is not None else 0.0 if last.outcome == Outcome.ACCEPTED else UNUSABLE
    cost = float(sum(NAN if call.cost_micros is None else call.cost_micros for call in calls))
    seconds, explored = float(sum(call.seconds or 0.0 for call in calls)), last.outcome == Outcome.EXPLORED
    if not _whole(last) or score == UNUSABLE:
        score, quality, kind = UNUSABLE, 0.0, "unusable"
    elif verdict is not None:
        quality, kind = float(verdict[0]), verdict[1]
    else:
        quality, kind = (NAN, "") if last.score is None else (last.score, "score")
    return Cell(score, quality, cost, seconds, explored, kind)


def _whole(call: ModelCall) -> bool:
    return not call.error and call.finish_reason == FinishReason.STOP and bool(call.text.strip())


def _verdicts(turn: Turn, last: dict[str, ModelCall], reference: str) -> dict[str, tuple[bool, str]]:
    """By model, what is known of its answer, and from whom."""
    if not hasattr(turn, "context"):
        return {}
    labels = list(scorer_labels.of_turn(turn))
    found = {
        model: (label.good, "people") for model, call in last.items() for label in labels if _is_of(label, turn, call)
    }
    right = next((label.answer for label in labels if label.good), None)
    truth, kind = (right, "facts") if right is not None else (_answer_of(last.get(reference)), "reference")
    if truth is None:
        return found
    context: Context = CONTEXT.validate_python(turn.context.context)
    for model, call in last.items():
        if model not in found and (agreed := scorer_labels.agrees(call.text, truth, context)) is not None:
            found[model] = (agreed, kind)
    return found


def _is_of(label: Label, turn: Turn, call: ModelCall) -> bool:
    shown = label.kind == "reply" and call.outcome == Outcome.ACCEPTED
    return shown or label.id == f"{turn.id}-{call.number}"


def _answer_of(call: ModelCall | None) -> str | None:
    return call.text if call is not None and _whole(call) else None
