"""How good the answers were, week by week: the trend on the overview, with a table behind it. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Avg, Case, Count, FloatField, Q, QuerySet, Value, When
from django.db.models.functions import TruncWeek

from accounts.models import Tenant
from cascade.models import Feedback, ModelCall, Turn
from cascade.values import Outcome

WEEKS = 8
WIDTH, HEIGHT = 700, 100  # of the chart, in its own units
LINES = {  # what is drawn, and what it is called
    "answered": "answered without a person",
    "liked": "liked, of the replies that were rated",
    "score": "mean score of the answers shown",
}


@dataclass(frozen=True, slots=True)
class Week:
    """Shares from 0 to 1; None: nothing to tell it by."""

    starts: date  # a Monday, where the tenant is
    turns: int = 0
    answered: float | None = None
    liked: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    key: str
    name: str
    path: str  # of an SVG
    last: float | None  # the latest that is known


def weeks(tenant: Tenant) -> list[Week]:
    """The last weeks, the one that runs last. In the tenant's transaction; three queries."""
    zone, today = ZoneInfo(tenant.time_zone), tenant.midnight()
    monday = today - timedelta(days=today.weekday() + 7 * (WEEKS - 1))

    def by_week(rows: QuerySet, when: str, **told: object) -> dict[date, dict]:
        week = TruncWeek(when, tzinfo=zone)
        found = rows.filter(**{f"{when}__gte": monday}).annotate(week=week).values("week").annotate(**told).order_by()
        return {row["week"].date(): row for row in found}

    met = Q(state__in=(Turn.State.ANSWERED, Turn.State.HANDED_OVER))
    turns = by_week(Turn.objects.filter(met), "created_at", turns=Count("id"), answered=_share(state="answered"))
    liked = by_week(Feedback.objects.all(), "created_at", liked=_share(rating__gt=0))
    shown = ModelCall.objects.filter(outcome=Outcome.ACCEPTED, score__isnull=False)
    scores = by_week(shown, "created_at", mean=Avg("score"))
    return [
        Week(
            starts,
            turns.get(starts, {}).get("turns", 0),
            turns.get(starts, {}).get("answered"),
            liked.get(starts, {}).get("liked"),
            scores.get(starts, {}).get("mean"),
        )
        for starts in (monday.date() + timedelta(days=7 * n) for n in range(WEEKS))
    ]


def _share(**those: object) -> Avg:
    return Avg(Case(When(**those, then=Value(1.0)), default=Value(0.0), output_field=FloatField()))


def lines(told: Sequence[Week]) -> list[Line]:
    return [_line(key, name, [getattr(week, key) for week in told]) for key, name in LINES.items()]


def _line(key: str, name: str, values: Sequence[float | None]) -> Line:
    """Broken where a week has nothing to tell; a week on its own is a dot."""
    path, joined = [], False
    for place, value in enumerate(values):
        if value is not None:
            x, y = WIDTH * place / (len(values) - 1), HEIGHT * (1 - value)
            path.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}" + ("" if joined else "h.01"))
        joined = value is not None
    return Line(key, name, "".join(path), next((value for value in reversed(values) if value is not None), None))
