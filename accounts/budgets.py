"""Budgets: what a tenant, a chatbot, a segment or a customer may spend in a day, a month or in all.

A turn is reserved in every budget that it touches when its money is put on hold, at the most it can cost, and
counted at what it did cost when the hold is settled, in the period in which it began. So turns that run at once
cannot overrun a hard budget together. Everything here runs inside the transaction of `accounts.ledger`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db import connection
from django.db.models import F, Min, Q, QuerySet

from accounts.models import BudgetSpending
from accounts.money import Money

ALWAYS = date(1970, 1, 1)  # when the period of a budget without one began

# The budgets that a turn touches, each with the row that counts it. Where the tenant is decides which day it is.
TOUCHED = """
    SELECT b.id, CASE b.period
               WHEN 'day' THEN (statement_timestamp() AT TIME ZONE t.time_zone)::date
               WHEN 'month' THEN date_trunc('month', statement_timestamp() AT TIME ZONE t.time_zone)::date
               ELSE %(always)s::date END AS starts,
           m.subject
    FROM accounts_budget b
    JOIN accounts_tenant t ON t.id = b.tenant_id
    JOIN (VALUES ('tenant', ''), ('chatbot', %(chatbot)s::text), ('segment', %(segment)s::text),
                 ('customer', %(customer)s::text))
         AS m (scope, subject) ON m.scope = b.scope AND b.subject IN ('', m.subject)
    WHERE b.tenant_id = %(tenant)s AND m.subject IS NOT NULL
    ORDER BY b.id
"""

SHARES_REACHED = """
    INSERT INTO accounts_budgetevent (id, tenant_id, spending_id, share, spent_micros)
    SELECT gen_random_uuid(), s.tenant_id, s.id, share, s.spent_micros
    FROM accounts_budgetspending s JOIN accounts_budget b ON b.id = s.budget_id, unnest(b.shares) AS share
    WHERE s.id = ANY(%s) AND s.spent_micros > 0 AND s.spent_micros::numeric * 100 >= b.limit_micros::numeric * share
    ON CONFLICT DO NOTHING
"""


class BudgetExceeded(Exception):
    """A hard budget has no room for the dearest way this turn could go; nothing was held.

    `for_now`: it would fit if the turns that run now cost nothing; so it may when they have ended.
    """

    def __init__(self, spending: BudgetSpending, needed: Money) -> None:
        budget = spending.budget
        left = Money(budget.limit_micros - spending.spent_micros - spending.held_micros)
        super().__init__(f"${needed} needed, ${left} left of the budget for {budget}")
        self.needed, self.left, self.refusal = needed, left, budget.refusal
        self.for_now = spending.spent_micros + needed.micros <= budget.limit_micros


@dataclass(frozen=True, slots=True)
class Spender:
    """Who a turn is for."""

    chatbot_id: UUID
    customer_id: UUID
    segment: str = ""  # the tenant's own word for a group of customers; "": the customer is in none


def reserve(tenant_id: UUID, spender: Spender | None, most: Money) -> list[UUID]:
    """Reserve a turn in all the budgets it touches; the ids of the rows that count it. Raises BudgetExceeded."""
    touched = _touched(tenant_id, spender)
    if not touched:
        return []
    BudgetSpending.objects.bulk_create(
        [
            BudgetSpending(tenant_id=tenant_id, budget_id=budget_id, starts=starts, subject=subject)
            for budget_id, starts, subject in touched
        ],
        ignore_conflicts=True,
    )
    counting = list(_rows(touched).select_related("budget").select_for_update(of=("self",)).order_by("id"))
    for spending in counting:
        room = spending.budget.limit_micros - spending.spent_micros - spending.held_micros
        if spending.budget.hard and room < most.micros:
            raise BudgetExceeded(spending, most)
    ids = [spending.id for spending in counting]
    BudgetSpending.objects.filter(id__in=ids).update(held_micros=F("held_micros") + most.micros)
    return ids


def count(spendings: Sequence[UUID], price: Money, *, released: Money) -> None:
    """A reserved turn, or a correction of one, cost `price`; what was reserved is free again."""
    if not spendings:
        return
    rows = BudgetSpending.objects.filter(id__in=spendings)
    list(rows.select_for_update().order_by("id").values_list("id"))  # in the order in which all lock them
    rows.update(spent_micros=F("spent_micros") + price.micros, held_micros=F("held_micros") - released.micros)
    with connection.cursor() as cursor:
        cursor.execute(SHARES_REACHED, [list(spendings)])


def cheapest_tiers(tenant_id: UUID, spender: Spender) -> int | None:
    """How many of the cheapest tiers may still be asked; None: all. In the tenant's transaction."""
    touched = _touched(tenant_id, spender)
    if not touched:
        return None
    over = _rows(touched).filter(budget__hard=False, spent_micros__gte=F("budget__limit_micros"))
    fewest: int | None = over.aggregate(fewest=Min("budget__cheapest_tiers"))["fewest"]
    return fewest


def _touched(tenant_id: UUID, spender: Spender | None) -> list[tuple[UUID, date, str]]:
    who = {"chatbot": str(spender.chatbot_id), "customer": str(spender.customer_id)} if spender else {}
    told = dict.fromkeys(("chatbot", "customer", "segment")) | {"tenant": tenant_id, "always": ALWAYS} | who
    if spender:
        told["segment"] = spender.segment or None
    with connection.cursor() as cursor:
        cursor.execute(TOUCHED, told)
        touched: list[tuple[UUID, date, str]] = cursor.fetchall()
        return touched


def _rows(touched: Sequence[tuple[UUID, date, str]]) -> QuerySet[BudgetSpending]:
    wanted = Q(pk__in=[])
    for budget_id, starts, subject in touched:
        wanted |= Q(budget_id=budget_id, starts=starts, subject=subject)
    return BudgetSpending.objects.filter(wanted)
