"""A tenant's month: what was paid in, charged, corrected and saved. Read from the ledger alone.

While it runs, and until somebody closes it, a month is a draft, computed anew each time. Closed, it is a
numbered row that never changes, with the page that was printed: the database refuses entries for a closed
month, so corrections are written into the month in which they are made and refer to what they correct.
Entries are written by `accounts.ledger`; how a statement looks is left to whoever prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Max, Sum

from accounts import webhooks
from accounts.models import Hold, LedgerEntry, Statement
from accounts.money import ZERO, Money
from accounts.months import following
from accounts.tenancy import in_tenant, set_for_transaction

LONGEST_SECONDS = 120  # of reading a month

LINES = """
    SELECT kind, source, coalesce(chatbot_id::text, ''), provider, model, outcome, count(*),
           sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(amount_micros)::bigint,
           sum(included_micros)::bigint, sum(cost_micros)::bigint, sum(dearest_micros)::bigint
    FROM accounts_ledgerentry WHERE tenant_id = %s AND period = %s
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
"""

# Few index look-ups, however many entries there are.
OPEN_MONTHS = """
    WITH RECURSIVE this AS (
        SELECT date_trunc('month', statement_timestamp() AT TIME ZONE time_zone)::date AS period,
               coalesce((SELECT max(period) FROM accounts_statement WHERE tenant_id = t.id), '-infinity') AS closed
        FROM accounts_tenant t WHERE t.id = %(tenant)s
    ), month AS (
        SELECT (SELECT max(period) FROM accounts_ledgerentry WHERE tenant_id = %(tenant)s AND period > closed) AS period
        FROM this
        UNION ALL
        SELECT (SELECT max(e.period) FROM accounts_ledgerentry e
                WHERE e.tenant_id = %(tenant)s AND e.period > this.closed AND e.period < month.period)
        FROM month, this WHERE month.period IS NOT NULL
    )
    SELECT period FROM month WHERE period IS NOT NULL
    UNION SELECT period FROM this WHERE period > closed ORDER BY 1 DESC
"""

# An hour past its end, where the tenant is, nothing that began in the month can still be on its way to the books.
IS_OVER = """
    SELECT statement_timestamp() >= (%s::timestamp AT TIME ZONE time_zone) + interval '1 hour'
    FROM accounts_tenant WHERE id = %s
"""

# Those who close a tenant's months wait for each other; its turns, which need the account, for nobody.
ONE_AFTER_ANOTHER = "SELECT pg_advisory_xact_lock(hashtext('statements.close'), hashtext(%s))"


class CannotClose(Exception):
    """The month cannot be closed now; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Line:
    """Entries of one kind, source, chatbot, model and outcome; amounts in micro-dollars, as on the entries."""

    kind: str
    source: str  # what was used: model, scorer, embedding, cache; "": nothing was
    chatbot_id: str  # "": none
    provider: str
    model: str
    outcome: str
    entries: int
    input_tokens: int
    output_tokens: int
    amount_micros: int
    included_micros: int
    cost_micros: int
    dearest_micros: int

    @property
    def price(self) -> Money:
        """What was charged before the quota; negative where something was given back."""
        return Money(self.included_micros - self.amount_micros)


@dataclass(frozen=True, slots=True)
class Month:
    """A statement's figures. `closing` is `opening` with everything that moved the tenant's credit."""

    period: date  # its first day, where the tenant is
    opening: Money
    lines: tuple[Line, ...]
    number: int | None = None  # None: a draft

    @property
    def closing(self) -> Money:
        return self.opening + _sum(self.lines, "amount_micros")

    @property
    def received(self) -> Money:
        return _sum(self.of("top_up"), "amount_micros")

    @property
    def credited(self) -> Money:
        return _sum(self.of("credit"), "amount_micros")

    @property
    def charged(self) -> Money:
        """For everything that was used, before the quota."""
        return _sum(self.of("charge"), "included_micros") - _sum(self.of("charge"), "amount_micros")

    @property
    def used_up(self) -> Money:
        """`charged`, as it moved the tenant's credit: `closing` is the sum of all that stands in between."""
        return -self.charged

    @property
    def included(self) -> Money:
        return _sum(self.of("charge"), "included_micros")

    @property
    def corrected(self) -> Money:
        """What corrections, of this or of earlier months, gave back; negative: what they charged."""
        return _sum(self.of("adjustment"), "amount_micros")

    @property
    def cost(self) -> Money:
        """What the providers charge, corrections included."""
        return _sum(self.lines, "cost_micros")

    @property
    def dearest(self) -> Money:
        """What the providers would have charged had the dearest model answered every question."""
        return _sum(self.lines, "dearest_micros")

    @property
    def saved(self) -> Money:
        return self.dearest - self.cost

    def of(self, kind: str) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.kind == kind)


def draft(tenant_id: UUID, period: date) -> Month:
    """The month as the ledger has it now. Raises ValueError unless `period` is the first day of a month."""
    _check_first(period)
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        before = LedgerEntry.objects.filter(tenant_id=tenant_id, period__lt=period)
        opening = _last_closing(period)
        if opening is None:
            opening = int(before.aggregate(sum=Sum("amount_micros"))["sum"] or 0)
        with connection.cursor() as cursor:
            cursor.execute(LINES, [tenant_id, period])
            return Month(period, Money(opening), tuple(Line(*row) for row in cursor.fetchall()))


def closed(tenant_id: UUID, period: date) -> Month | None:
    """The month as it was closed; None: it is open."""
    with in_tenant(tenant_id):
        row = Statement.objects.filter(period=period).first()
        return _month(row) if row else None


def month(tenant_id: UUID, period: date) -> Month:
    """The month as it was closed, else its draft. Raises ValueError as `draft`."""
    return closed(tenant_id, period) or draft(tenant_id, period)


def printed(tenant_id: UUID, period: date) -> str:
    """The page of a closed month, as it was printed then; "": the month is open, or was closed without a page."""
    with in_tenant(tenant_id):
        return Statement.objects.filter(period=period).values_list("printed", flat=True).first() or ""


def open_months(tenant_id: UUID) -> list[date]:
    """The months with entries that are not closed, and the one that runs, latest first."""
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(OPEN_MONTHS, {"tenant": tenant_id})
        return [first for (first,) in cursor.fetchall()]


def close(tenant_id: UUID, period: date, page: Callable[[Month], str] = lambda month: "") -> Month:
    """Close the month for good and give it the tenant's next number; `page` says how it is printed.

    Raises:
        CannotClose: it is closed, it is not over, turns that began in it still run, or an earlier month is open.
        ValueError: `period` is not the first day of a month.
    """
    _check_first(period)
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        with connection.cursor() as cursor:
            cursor.execute(ONE_AFTER_ANOTHER, [str(tenant_id)])
        for problem in _problems(tenant_id, period):
            raise CannotClose(problem)
        number = (Statement.objects.aggregate(last=Max("number"))["last"] or 0) + 1
        figures = replace(draft(tenant_id, period), number=number)  # now that nothing can come to the month any more
        Statement.objects.create(
            tenant_id=tenant_id,
            number=number,
            period=period,
            opening_micros=figures.opening.micros,
            closing_micros=figures.closing.micros,
            lines=[asdict(line) for line in figures.lines],
            printed=page(figures),
        )
        told = {"number": number, "period": f"{period:%Y-%m}", "closing": str(figures.closing)}
        webhooks.tell(tenant_id, "statement.closed", told)
        return figures


def breakdown(lines: Iterable[Line], by: Callable[[Line], str]) -> dict[str, tuple[int, Money, Money]]:
    """Entries, price before the quota, and provider's charge, for each word that `by` says of a line, in its order."""
    found: dict[str, tuple[int, Money, Money]] = {}
    for line in sorted(lines, key=by):
        entries, price, cost = found.get(by(line), (0, ZERO, ZERO))
        found[by(line)] = (entries + line.entries, price + line.price, cost + Money(line.cost_micros))
    return found


def _check_first(period: date) -> None:
    if period.day != 1:
        raise ValueError(f"{period} is not the first day of a month")


def _problems(tenant_id: UUID, period: date) -> Iterable[str]:
    if Statement.objects.filter(period=period).exists():
        yield f"{period:%B %Y} is closed"
    with connection.cursor() as cursor:
        cursor.execute(IS_OVER, [following(period), tenant_id])
        if cursor.fetchone() != (True,):
            yield f"{period:%B %Y} is not over for an hour yet"
    if Hold.objects.filter(period__lte=period, settled_at=None).exists():
        yield f"a turn that began in {period:%B %Y} is not settled yet"
    last = Statement.objects.aggregate(last=Max("period"))["last"] or date.min
    if last > period:
        yield f"{last:%B %Y} is closed, so nothing can be closed before it"
    if LedgerEntry.objects.filter(tenant_id=tenant_id, period__gt=last, period__lt=period).exists():
        yield f"a month before {period:%B %Y} is open"


def _last_closing(period: date) -> int | None:
    """Of the month before, if nothing stands between; None: it is open, or there is none."""
    earlier = Statement.objects.filter(period__lt=period).order_by("-period").first()
    if earlier is None:
        return None
    between = LedgerEntry.objects.filter(tenant_id=earlier.tenant_id, period__gt=earlier.period, period__lt=period)
    return None if between.exists() else earlier.closing_micros


def _month(row: Statement) -> Month:
    lines: list[dict[str, Any]] = row.lines
    return Month(row.period, Money(row.opening_micros), tuple(Line(**line) for line in lines), row.number)


def _sum(lines: Iterable[Line], column: str) -> Money:
    return Money(sum(getattr(line, column) for line in lines))
