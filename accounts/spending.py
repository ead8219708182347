"""Where a tenant's money went: over time, by model and outcome, for each conversation; and how full its budgets are.

Reads the ledger and the budgets' counters alone, each once, however many entries there are. How it looks is left to
the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db import connection

from accounts.models import Budget
from accounts.money import ZERO, Money
from accounts.months import following
from accounts.tenancy import in_tenant, set_for_transaction

DAYS_UP_TO = 2  # months; of more, each is one point in time
WORST = 3  # of a budget that each customer has, so many are shown
MOST_ENTRIES = 3_000_000  # are added up while somebody waits, or one month
LONGEST_SECONDS = 60  # of adding up

# In which month the latest entries that are too many to add up end.
TOO_EARLY = """
    SELECT period FROM accounts_ledgerentry
    WHERE tenant_id = %s AND period BETWEEN %s AND %s ORDER BY period DESC OFFSET %s LIMIT 1
"""

# A turn that began in a month belongs to it, though it ended in the next: then on its last day.
LINES = """
    SELECT CASE WHEN %(daily)s
                THEN greatest(e.period, least((e.created_at AT TIME ZONE t.time_zone)::date,
                                              (e.period + interval '1 month - 1 day')::date))
                ELSE e.period END,
           coalesce(nullif(e.model, ''), e.source), e.outcome,
           count(*) FILTER (WHERE e.kind = 'charge' AND e.source IN ('model', 'cache')),
           sum(e.included_micros - e.amount_micros)::bigint, sum(e.cost_micros)::bigint, sum(e.dearest_micros)::bigint
    FROM accounts_ledgerentry e JOIN accounts_tenant t ON t.id = e.tenant_id
    WHERE e.tenant_id = %(tenant)s AND e.period BETWEEN %(first)s AND %(last)s AND e.kind IN ('charge', 'adjustment')
    GROUP BY 1, 2, 3
"""

# Resolved: the last of its turns in these months ended with an accepted reply, not with a person or with nothing.
# What was explored, or corrected in another month, is no turn, nor is one that was refused.
CONVERSATIONS = """
    WITH turn AS (
        SELECT conversation_id, min(created_at) AS began, bool_or(outcome = 'accepted') AS accepted
        FROM accounts_ledgerentry
        WHERE tenant_id = %(tenant)s AND period BETWEEN %(first)s AND %(last)s AND conversation_id IS NOT NULL
              AND outcome <> 'explored' AND source IN ('model', 'cache')
        GROUP BY conversation_id, turn_id HAVING bool_or(kind = 'charge')
    ), conversation AS (
        SELECT DISTINCT ON (conversation_id) accepted FROM turn ORDER BY conversation_id, began DESC
    )
    SELECT count(*), count(*) FILTER (WHERE accepted) FROM conversation
"""

BUDGETS = """
    SELECT b.id, s.subject, coalesce(s.spent_micros, 0), coalesce(s.held_micros, 0), coalesce(s.subjects, 0)
    FROM accounts_budget b JOIN accounts_tenant t ON t.id = b.tenant_id
    LEFT JOIN LATERAL (
        SELECT subject, spent_micros, held_micros, count(*) OVER () AS subjects
        FROM accounts_budgetspending
        WHERE budget_id = b.id AND starts = CASE b.period
            WHEN 'day' THEN (statement_timestamp() AT TIME ZONE t.time_zone)::date
            WHEN 'month' THEN date_trunc('month', statement_timestamp() AT TIME ZONE t.time_zone)::date
            ELSE date '1970-01-01' END
        ORDER BY spent_micros + held_micros DESC, subject LIMIT %(worst)s
    ) s ON true
    WHERE b.tenant_id = %(tenant)s
    ORDER BY b.scope <> 'tenant', b.scope, b.period, b.id, s.spent_micros + s.held_micros DESC NULLS LAST, s.subject
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Charges and their corrections of one day or month, model and outcome."""

    starts: date
    model: str  # or what else was used: scorer, embedding, cache
    outcome: str  # "": of what has none
    calls: int
    price: Money  # what the tenant pays, before any quota
    cost: Money  # what the providers charge
    dearest: Money  # what the dearest model would have cost, at the providers' prices


@dataclass(frozen=True, slots=True)
class Part:
    """What several lines come to."""

    name: str
    calls: int
    price: Money
    cost: Money


@dataclass(frozen=True, slots=True)
class Spending:
    """Of some months. `lines` is in no order."""

    daily: bool  # whether a line is of a day or of a month
    lines: tuple[Line, ...]
    conversations: int
    resolved: int

    @property
    def price(self) -> Money:
        return _sum(line.price for line in self.lines)

    @property
    def cost(self) -> Money:
        return _sum(line.cost for line in self.lines)

    @property
    def dearest(self) -> Money:
        return _sum(line.dearest for line in self.lines)

    @property
    def saved(self) -> Money:
        return self.dearest - self.cost

    def parts(self, by: Callable[[Line], str]) -> list[Part]:
        """What lines of which `by` says the same come to, the dearest first."""
        names = {by(line) for line in self.lines}
        parts = [_part(name, [line for line in self.lines if by(line) == name]) for name in names]
        return sorted(parts, key=lambda part: (-part.price.micros, -part.cost.micros, part.name))


@dataclass(frozen=True, slots=True)
class Used:
    """How full a budget is for one subject in the period that runs."""

    budget: Budget
    subject: str  # "": everything together
    spent: Money
    held: Money  # by turns that run now
    subjects: int  # how many have spent of this budget in the period; 0: nobody yet

    @property
    def share(self) -> int:
        """Per cent of the limit; of a limit of nothing: 100."""
        limit = self.budget.limit_micros
        return (self.spent.micros + self.held.micros) * 100 // limit if limit else 100


def first_that_fits(tenant_id: UUID, first: date, last: date) -> date:
    """From which of the months `first` to `last` on there are not too many entries to add up; `last` at the latest."""
    if first == last:
        return first
    with in_tenant(tenant_id), connection.cursor() as cursor:
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        cursor.execute(TOO_EARLY, [tenant_id, first, last, MOST_ENTRIES])
        too_early = cursor.fetchone()
    return first if too_early is None else min(last, following(too_early[0]))


def spending(tenant_id: UUID, first: date, last: date) -> Spending:
    """Of the months `first` to `last`, both included, each named by its first day."""
    daily = (last.year - first.year) * 12 + last.month - first.month < DAYS_UP_TO
    chosen: dict[str, UUID | date | bool] = {"tenant": tenant_id, "first": first, "last": last, "daily": daily}
    with in_tenant(tenant_id), connection.cursor() as cursor:
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        cursor.execute(LINES, chosen)
        lines = tuple(Line(*row[:4], *map(Money, row[4:])) for row in cursor.fetchall())
        cursor.execute(CONVERSATIONS, chosen)
        return Spending(daily, lines, *cursor.fetchone())


def budgets(tenant_id: UUID) -> list[Used]:
    """Every budget, for its fullest subjects."""
    with in_tenant(tenant_id), connection.cursor() as cursor:
        known = {budget.id: budget for budget in Budget.objects.all()}
        cursor.execute(BUDGETS, {"tenant": tenant_id, "worst": WORST})
        rows = [row for row in cursor.fetchall() if row[0] in known]
    return [
        Used(known[budget_id], subject or "", Money(spent), Money(held), subjects)
        for budget_id, subject, spent, held, subjects in rows
    ]


def _part(name: str, lines: list[Line]) -> Part:
    calls = sum(line.calls for line in lines)
    return Part(name, calls, _sum(line.price for line in lines), _sum(line.cost for line in lines))


def _sum(amounts: Iterable[Money]) -> Money:
    return sum(amounts, ZERO)
