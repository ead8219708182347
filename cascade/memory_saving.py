"""What memory saved in money, and what checking it cost. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, Sum

from cascade.models import MemoryUse
from cascade.providers.remembered import MEMORY
from cascade.values import Outcome


@dataclass(frozen=True, slots=True)
class Saved:
    """What memory was worth in some time; amounts in micro-dollars."""

    saved: int  # what the answers that it gave again had cost
    given: int  # how many those were
    checks: int  # questions that were answered afresh, to check it
    checks_cost: int

    @property
    def worth(self) -> int:
        return self.saved - self.checks_cost


def saved_since(begun: datetime) -> Saved:
    checked = (MemoryUse.Outcome.RIGHT, MemoryUse.Outcome.WRONG, MemoryUse.Outcome.UNCLEAR)
    uses = MemoryUse.objects.filter(created_at__gte=begun)
    saved = uses.aggregate(saved=Sum("saved_micros"), given=Count("id", Q(outcome=MemoryUse.Outcome.SERVED)))
    afresh = uses.filter(outcome__in=checked).exclude(turn__calls__model=MEMORY)  # not those that were voted down
    live = ~Q(turn__calls__outcome=Outcome.EXPLORED)
    checks = afresh.aggregate(cost=Sum("turn__calls__cost_micros", filter=live), count=Count("turn", distinct=True))
    return Saved(saved["saved"] or 0, saved["given"], checks["count"], checks["cost"] or 0)
