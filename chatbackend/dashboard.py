"""What a tenant sees first: what the month cost and saved, how good the answers were, who waits for a person.

Reads only; runs inside the tenant's transaction. Statements and exports are left to `accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Avg, Count, Q, QuerySet, Sum
from django.utils import timezone

from accounts import spending
from accounts.models import Account, Tenant
from accounts.spending import Spending
from accounts.templatetags.money import dollars
from cascade.memory_saving import saved_since
from cascade.models import Conversation, ModelCall, Turn
from cascade.values import Outcome
from chatbackend import quality
from chatbackend.money_page import Figure, drawing, per_cent
from chatbackend.months import this_month

DAYS = 7
SHOWN_WAITING = 5


@dataclass(frozen=True, slots=True)
class TierOutcome:
    """What became of one model's answers in the last days."""

    model: str
    asked: int
    accepted: int
    cost: str
    seconds: float | None  # mean; None: none finished

    @property
    def share(self) -> int:
        """Accepted, in per cent."""
        return round(100 * self.accepted / self.asked) if self.asked else 0


def context(tenant: Tenant) -> dict[str, Any]:
    """For the template, of who may read the books."""
    month = this_month(tenant)
    spent, weeks = spending.spending(tenant.id, month, month), quality.weeks(tenant)
    return {
        "figures": figures(tenant, spent),
        "outcomes": outcomes(),
        "weeks": weeks,
        "lines": quality.lines(weeks) if any(week.turns for week in weeks) else [],
        "month_name": f"{month:%B}",
        **drawing(spent, month, month),
    }


def waiting() -> QuerySet[Conversation]:
    """Who waits for a person, the longest first."""
    waits = Conversation.objects.filter(state=Conversation.State.HANDED_OVER)
    return waits.select_related("customer", "chatbot").order_by("updated_at")


def figures(tenant: Tenant, spent: Spending) -> list[Figure]:
    account = Account.objects.filter(tenant=tenant).first() or Account(tenant=tenant)
    turns = Turn.objects.filter(created_at__gte=tenant.midnight()).aggregate(
        all=Count("id"), answered=Count("id", Q(state=Turn.State.ANSWERED))
    )
    memory = saved_since(tenant.midnight().replace(day=1))
    resolved = f"{dollars(spent.price.micros // spent.resolved)} a resolved conversation" if spent.resolved else ""
    saved = f"{per_cent(spent.saved, spent.dearest)} % of {dollars(spent.dearest.micros)} by the dearest model alone"
    held = f"{dollars(account.held_micros)} of it on hold"
    again = f"{memory.given} answers given again; {memory.checks} checks cost {dollars(memory.checks_cost)}"
    return [
        Figure("Cost this month", dollars(spent.price.micros), resolved or "nothing resolved yet", "money"),
        Figure("Saved this month", dollars(spent.saved.micros), saved, "money"),
        Figure("Saved by memory this month", dollars(memory.worth), again, "cascade_rememberedanswer_changelist"),
        Figure("Balance", dollars(account.balance_micros), held, "accounts_ledgerentry_changelist"),
        Figure("Questions today", str(turns["all"]), f"{turns['answered']} answered", "cascade_turn_changelist"),
    ]


def outcomes() -> list[TierOutcome]:
    """One row a model, the cheapest tier first."""
    since = timezone.now() - timedelta(days=DAYS)
    rows = (
        ModelCall.objects.filter(created_at__gte=since)
        .exclude(outcome=Outcome.EXPLORED)
        .values("model")
        .annotate(
            asked=Count("id"),
            accepted=Count("id", Q(outcome="accepted")),
            spent=Sum("cost_micros"),
            seconds=Avg("seconds"),
            place=Avg("tier"),
        )
        .order_by("place")
    )
    return [
        TierOutcome(row["model"], row["asked"], row["accepted"], dollars(row["spent"] or 0), row["seconds"])
        for row in rows
    ]
