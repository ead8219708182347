"""Budgets: what a tenant, a chatbot, a segment or a customer may spend in a day, a month or in all.

A turn is reserved in every budget that it touches when its money is put on hold, at the most it can cost, and
counted at what it did cost when the hold is settled, in the period in which it began. So turns that run at once
cannot overrun a hard budget together. That is done by SQL functions (migrations 0008 and 0011) which
`accounts.ledger` calls; everything here runs inside its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import F, Min, Q

from accounts.models import Budget, BudgetSpending
from accounts.money import Money

TOUCHED = "SELECT budget_id, starts, subject FROM touched_budgets(%s, %s, %s, %s)"


class BudgetExceeded(Exception):
    """A hard budget has no room for the dearest way this turn could go; nothing was held.

    `for_now`: it would fit if the turns that run now cost nothing; so it may when they have ended.
    """

    def __init__(self, budget: Budget, needed: Money, left: Money, held: Money) -> None:
        super().__init__(f"${needed} needed, ${left} left of the budget for {budget}")
        self.needed, self.left, self.refusal = needed, left, budget.refusal
        self.for_now = needed <= left + held


@dataclass(frozen=True, slots=True)
class Spender:
    """Who a turn is for."""

    chatbot_id: UUID
    customer_id: UUID
    segment: str = ""  # the tenant's own word for a group of customers; "": the customer is in none


def subjects(spender: Spender | None) -> tuple[str | None, str | None, str | None]:
    """Chatbot, segment and customer whose budgets are touched, as the SQL functions take them; None: nobody's."""
    if spender is None:
        return None, None, None
    return str(spender.chatbot_id), spender.segment or None, str(spender.customer_id)


def count(spendings: Sequence[UUID], price: Money) -> None:
    """A correction of a turn that was reserved there cost `price` more."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count_in_budgets(%s, %s, 0)", [list(spendings), price.micros])


def cheapest_tiers(tenant_id: UUID, spender: Spender) -> int | None:
    """How many of the cheapest tiers may still be asked; None: all. In the tenant's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(TOUCHED, (tenant_id, *subjects(spender)))
        touched = cursor.fetchall()
    if not touched:
        return None
    wanted = Q()
    for budget_id, starts, subject in touched:
        wanted |= Q(budget_id=budget_id, starts=starts, subject=subject)
    over = BudgetSpending.objects.filter(wanted, budget__hard=False, spent_micros__gte=F("budget__limit_micros"))
    fewest: int | None = over.aggregate(fewest=Min("budget__cheapest_tiers"))["fewest"]
    return fewest
