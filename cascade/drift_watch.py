"""Watches each chatbot's weeks: a measure that left its band is an event (`DriftReading.out_of_band`).

Once a week is over, with a day for its labels to come in, it is read beside the four weeks before it, for all customers
and for each segment (`cascade.learning.drift` says how). Only turns of one strategy and one scorer are compared:
another strategy changes what is accepted and what it costs, as it should.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import structlog
from django.db.models import F, Q
from django.utils import timezone

from accounts import webhooks
from accounts.models import Tenant
from accounts.tenancy import in_tenant
from cascade.learning import drift
from cascade.material import segment_of
from cascade.models import Chatbot, DriftReading, Message, ModelCall
from cascade.providers.remembered import MEMORY
from cascade.values import Outcome

WEEKS = 4  # before the one that is judged
LABEL_TIME = timedelta(days=1)  # a label that comes later does not count: older turns had more time
MOST_CALLS = 60_000  # of the five weeks, the newest
MOST_SEGMENTS = 8  # those with the most turns
Measure = DriftReading.Measure
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn as the measures see it."""

    week: date
    customer: UUID
    segment: str
    score: float | None  # of the first answer; None: it has none
    accepted: bool  # the first answer was
    cost: float
    labelled: bool | None  # None: nothing was shown

    def value(self, measure: str) -> float | None:
        of = {
            Measure.SCORES: self.score,
            Measure.ACCEPTED: self.accepted,
            Measure.COST: self.cost,
            Measure.LABELLED: self.labelled,
        }
        found = of[Measure(measure)]
        return None if found is None else float(found)


def watch(tenant_id: UUID) -> int:
    """Read the last week of each chatbot that nobody has read yet; how many events there were."""
    with in_tenant(tenant_id):
        zone = ZoneInfo(Tenant.objects.get(id=tenant_id).time_zone)
        chatbots = list(Chatbot.objects.all())
    week = monday((timezone.now() - LABEL_TIME).astimezone(zone).date()) - timedelta(days=7)
    return sum(_watch(chatbot, week, zone) for chatbot in chatbots)


def monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _watch(chatbot: Chatbot, week: date, zone: ZoneInfo) -> int:
    with in_tenant(chatbot.tenant_id):
        Chatbot.objects.select_for_update(no_key=True).get(id=chatbot.id)  # a week is read once
        if DriftReading.objects.filter(chatbot=chatbot, week=week).exists():
            return 0
        turns = _turns(chatbot, week, zone)
        rows = [
            DriftReading(tenant_id=chatbot.tenant_id, chatbot=chatbot, week=week, **told)
            for told in readings(turns, week)
        ]
        DriftReading.objects.bulk_create(rows)
        events = [row for row in rows if row.out_of_band]
        for row in events:
            _tell(row)
    return len(events)


def _tell(row: DriftReading) -> None:
    """In the log, and to the tenant's webhooks."""
    told = {"segment": row.segment, "measure": row.measure, "week": str(row.week), "chatbot_id": str(row.chatbot_id)}
    log.warning("drift", tenant_id=str(row.tenant_id), **told)
    band = {"value": row.value, "low": row.low, "high": row.high, "turns": row.turns}
    webhooks.tell(row.tenant_id, "drift.detected", told | band)


def readings(turns: Sequence[_Turn], week: date) -> list[dict[str, object]]:
    """Columns of a `DriftReading` for each measure of all customers and of each segment, where turns are enough."""
    often = Counter(turn.segment for turn in turns if turn.segment and turn.week == week)
    segments = ["", *(name for name, _ in often.most_common(MOST_SEGMENTS))]
    tests = len(segments) * len(Measure)
    found = []
    for segment in segments:
        its = [turn for turn in turns if not segment or turn.segment == segment]
        for measure in Measure:
            reading = _reading(its, measure, week, tests)
            if reading is not None:
                told = {name: getattr(reading, name) for name in drift.Reading.__slots__}
                found.append({"segment": segment, "measure": measure} | told)
    return found


def _reading(turns: Sequence[_Turn], measure: str, week: date, tests: int) -> drift.Reading | None:
    known = [(turn, value) for turn in turns if (value := turn.value(measure)) is not None]
    numbers: dict[tuple[UUID, date], int] = {}
    bundle = [numbers.setdefault((turn.customer, turn.week), len(numbers)) for turn, _ in known]
    return drift.read(
        np.array([value for _, value in known], float),
        np.array(bundle, int),
        np.array([turn.week == week for turn, _ in known], bool),
        tests=tests,
        distance=measure == Measure.SCORES,
    )


# --- the rows --------------------------------------------------------------------------------

COLUMNS = (
    *("turn_id", "number", "outcome", "score", "cost_micros", "scorer_version", "turn__created_at"),
    *("turn__strategy_id", "turn__conversation__customer_id", "turn__conversation__customer__attributes"),
)


def _turns(chatbot: Chatbot, week: date, zone: ZoneInfo) -> list[_Turn]:
    """Of the week and the WEEKS before, those of the newest turn's strategy and scorer. In `in_tenant`."""
    since, until = (_midnight(day, zone) for day in (week - timedelta(weeks=WEEKS), week + timedelta(days=7)))
    calls = ModelCall.objects.filter(turn__created_at__gte=since, turn__created_at__lt=until)
    calls = calls.filter(turn__conversation__chatbot=chatbot, turn__state__in=("answered", "handed_over"))
    calls = calls.exclude(outcome=Outcome.EXPLORED).exclude(model=MEMORY).order_by("-turn__created_at", "number")
    rows = list(calls.values_list(*COLUMNS)[:MOST_CALLS])
    labelled = _labelled(chatbot, since, until)
    by_turn: dict[UUID, list[tuple]] = {}
    for row in rows:
        by_turn.setdefault(row[0], []).append(row)
    newest = (rows[0][7], rows[0][5]) if rows else None
    return [_turn(its, labelled, zone) for its in by_turn.values() if (its[0][7], its[0][5]) == newest]


def _turn(calls: list[tuple], labelled: set[UUID], zone: ZoneInfo) -> _Turn:
    turn_id, _, outcome, score, _, _, created_at, _, customer, attributes = calls[0]
    answered = any(call[2] == Outcome.ACCEPTED for call in calls)
    return _Turn(
        week=monday(created_at.astimezone(zone).date()),
        customer=customer,
        segment=segment_of(attributes),
        score=score,
        accepted=outcome == Outcome.ACCEPTED,
        cost=sum(call[4] or 0 for call in calls),
        labelled=turn_id in labelled if answered else None,
    )


def _labelled(chatbot: Chatbot, since: datetime, until: datetime) -> set[UUID]:
    """Turns whose reply a customer rated or staff corrected within LABEL_TIME."""
    replies = Message.objects.filter(
        conversation__chatbot=chatbot,
        role=Message.Role.ASSISTANT,
        turn__created_at__gte=since,
        turn__created_at__lt=until,
    )
    soon = F("turn__created_at") + LABEL_TIME
    judged = replies.filter(Q(feedback__created_at__lte=soon) | Q(corrections__created_at__lte=soon))
    return set(judged.values_list("turn_id", flat=True))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
