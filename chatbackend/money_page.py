"""The money page: what the months cost, by day, model and outcome, what the cascade saved, how full the budgets are.

The figures are `accounts.spending`'s; here they become bars, with a table behind each chart. Runs inside the tenant's
transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from accounts import spending
from accounts.models import Account, LedgerEntry, Tenant
from accounts.money import ZERO, Money
from accounts.months import following
from accounts.spending import Line, Part, Spending, Used
from accounts.templatetags.money import dollars
from chatbackend.budget_subject import HAVE_IDS
from chatbackend.months import before, since_the_first_entry, this_month

FOUND = ("accepted", "rejected", "failed")  # what becomes of an attempt; everything else is "other"
OUTCOMES = (*FOUND, "other")
MOST_MONTHS = 36
HEIGHT = 100  # of a chart, in its own units
SPAN = 10  # of a bar and the gap beside it


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: str
    note: str
    page: str = ""  # of the admin pages, which tells more


@dataclass(frozen=True, slots=True)
class Bar:
    """A day or month: a piece for each outcome, from the bottom up."""

    starts: date
    prices: dict[str, Money]
    pieces: tuple[tuple[str, float, float], ...]  # outcome, top, height
    left: int

    @property
    def price(self) -> Money:
        return sum(self.prices.values(), ZERO)


@dataclass(frozen=True, slots=True)
class Share:
    """A row with a bar of so many per cent."""

    part: Part
    per_cent: int


@dataclass(frozen=True, slots=True)
class BudgetBar:
    used: Used
    who: str  # "": everything together, or nobody yet

    @property
    def width(self) -> int:
        return min(100, self.used.share)

    @property
    def more(self) -> int:
        """Subjects that are not shown."""
        return max(0, self.used.subjects - spending.WORST)


def context(tenant: Tenant, first: date | None, last: date | None) -> dict[str, Any]:
    """For the template. None: the month that runs."""
    today = this_month(tenant)
    last = last or first or today
    wanted = max(min(first or last, last), before(last, MOST_MONTHS - 1))
    first = spending.first_that_fits(tenant.id, wanted, last)
    spent = spending.spending(tenant.id, first, last)
    months = since_the_first_entry(tenant)
    months += sorted({first, last} - set(months), reverse=True)
    account = Account.objects.filter(tenant=tenant).first() or Account(tenant=tenant)
    return {
        "first": first,
        "last": last,
        "too_many": first > wanted,
        "months": months,
        "ranges": ranges(today),
        "figures": figures(spent),
        **drawing(spent, first, last),
        "asked_share": per_cent(spent.cost, spent.dearest),
        "models": shares(spent, lambda line: line.model),
        "outcomes": shares(spent, lambda line: line.outcome or line.model),
        "budgets": budget_bars(tenant.id),
        "balance": account.balance_micros,
        "ever_charged": LedgerEntry.objects.filter(kind=LedgerEntry.Kind.CHARGE).exists(),
    }


def drawing(spent: Spending, first: date, last: date) -> dict[str, Any]:
    """For the template of the bars."""
    drawn = bars(spent, first, last)
    return {
        "spent": spent,
        "bars": drawn,
        "width": len(drawn) * SPAN,
        "highest": max(drawn, key=lambda bar: bar.price),
        "bar_date": "j F Y" if spent.daily else "F Y",
        "names": OUTCOMES,
    }


def ranges(today: date) -> dict[str, tuple[date, date]]:
    last = before(today)
    return {
        "This month": (today, today),
        "Last month": (last, last),
        "Three months": (before(today, 2), today),
        "Twelve months": (before(today, 11), today),
    }


def figures(spent: Spending) -> list[Figure]:
    return [
        Figure("Price", dollars(spent.price.micros), "before the quota"),
        Figure("Providers' charge", dollars(spent.cost.micros), f"for {sum(x.calls for x in spent.lines):,} calls"),
        Figure("Saved", dollars(spent.saved.micros), f"of {dollars(spent.dearest.micros)} by the dearest model"),
        Figure("A conversation", each(spent.price, spent.conversations), f"{spent.conversations:,} had a turn"),
        Figure("A resolved one", each(spent.price, spent.resolved), f"{spent.resolved:,} ended with a good reply"),
    ]


def per_cent(part: Money, whole: Money) -> int:
    """At most 100; of nothing: 0."""
    return min(100, 100 * max(0, part.micros) // whole.micros) if whole > ZERO else 0


def each(price: Money, count: int) -> str:
    return dollars(price.micros // count) if count else "–"


def bars(spent: Spending, first: date, last: date) -> list[Bar]:
    """A bar for every day or month from the first to the last, also where nothing was charged."""
    points, end = [first], following(last)
    while (point := points[-1] + timedelta(days=1) if spent.daily else following(points[-1])) < end:
        points.append(point)
    prices: dict[date, dict[str, Money]] = {point: dict.fromkeys(OUTCOMES, ZERO) for point in points}
    for line in spent.lines:
        prices[line.starts][outcome(line)] += line.price
    highest = max(sum(price.micros for price in told.values() if price > ZERO) for told in prices.values()) or 1
    return [
        Bar(point, told, tuple(pieces(told, highest)), place * SPAN)
        for place, (point, told) in enumerate(prices.items())
    ]


def outcome(line: Line) -> str:
    return line.outcome if line.outcome in FOUND else "other"


def pieces(prices: dict[str, Money], highest: int) -> list[tuple[str, float, float]]:
    """What gave money back is in the table, not in the picture."""
    stacked, bottom = [], 0.0
    for name, price in prices.items():
        height = max(0, price.micros) * HEIGHT / highest
        bottom += height
        if height:
            stacked.append((name, round(HEIGHT - bottom, 2), round(height, 2)))
    return stacked


def shares(spent: Spending, by: Callable[[Line], str]) -> list[Share]:
    """Of the price."""
    parts = spent.parts(by)
    whole = Money(sum(max(0, part.price.micros) for part in parts))
    return [Share(part, per_cent(part.price, whole)) for part in parts]


def budget_bars(tenant_id: UUID) -> list[BudgetBar]:
    used = spending.budgets(tenant_id)
    names: dict[str, str] = {}
    for scope, model in HAVE_IDS.items():
        ids = {one.subject for one in used if one.budget.scope == scope and one.subject}
        names |= {str(row.pk): str(row) for row in model.objects.filter(pk__in=ids)}
    return [BudgetBar(one, names.get(one.subject, one.subject)) for one in used]
