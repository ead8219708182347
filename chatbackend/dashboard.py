"""What a tenant sees first: the money that is left, what today cost, and which tier's answers were good enough.

Reads only; runs inside the tenant's transaction. Statements and exports are left to `accounts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Avg, Count, Q, Sum
from django.utils import timezone

from accounts.models import Account, LedgerEntry, Tenant
from accounts.templatetags.money import dollars
from cascade.models import Conversation, MemoryUse, ModelCall, Turn
from cascade.providers.remembered import MEMORY
from cascade.values import Outcome

DAYS = 7


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: str
    note: str


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


def figures(tenant: Tenant) -> list[Figure]:
    today = tenant.midnight()
    account = Account.objects.filter(tenant=tenant).first() or Account(tenant=tenant)
    charges = LedgerEntry.objects.filter(created_at__gte=today, kind=LedgerEntry.Kind.CHARGE)
    spent = -(charges.aggregate(sum=Sum("amount_micros"))["sum"] or 0)
    turns = Turn.objects.filter(created_at__gte=today).aggregate(
        all=Count("id"), answered=Count("id", Q(state=Turn.State.ANSWERED))
    )
    answered = turns["answered"]
    waiting = Conversation.objects.filter(state=Conversation.State.HANDED_OVER).count()
    return [
        Figure("Balance", dollars(account.balance_micros), f"{dollars(account.held_micros)} of it on hold"),
        Figure("Spent today", dollars(spent), f"{dollars(spent // answered)} a reply" if answered else "no reply yet"),
        Figure("Questions today", str(turns["all"]), f"{answered} answered"),
        Figure("Waiting for a person", str(waiting), "conversations handed over"),
        remembered(tenant),
    ]


def remembered(tenant: Tenant) -> Figure:
    """What memory saved this month: what the answers that it gave again had cost, less what checking it cost."""
    checked = (MemoryUse.Outcome.RIGHT, MemoryUse.Outcome.WRONG, MemoryUse.Outcome.UNCLEAR)
    uses = MemoryUse.objects.filter(created_at__gte=tenant.midnight().replace(day=1))
    saved = uses.aggregate(saved=Sum("saved_micros"), given=Count("id", Q(outcome=MemoryUse.Outcome.SERVED)))
    afresh = uses.filter(outcome__in=checked).exclude(turn__calls__model=MEMORY)  # not those that were voted down
    live = ~Q(turn__calls__outcome=Outcome.EXPLORED)
    checks = afresh.aggregate(cost=Sum("turn__calls__cost_micros", filter=live), count=Count("turn", distinct=True))
    note = f"{saved['given']} answers given again; {checks['count']} checks cost {dollars(checks['cost'] or 0)}"
    return Figure("Saved by memory this month", dollars((saved["saved"] or 0) - (checks["cost"] or 0)), note)


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
