"""A provider's log of single requests beside the books of all tenants, call by call; and the books corrected by it.

What a provider reported in time is on the books already. What a crash, a broken stream or a silent provider left as an
estimate becomes what the log says, by one more entry a call (`ledger.adjust`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from accounts import ledger
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant, set_for_transaction
from accounts.tenants import every_tenant
from cascade import conversations, pricing
from cascade.material import price_value
from cascade.models import Price
from cascade.usage_log import Used
from cascade.values import Price as PriceValue
from cascade.values import Usage

MEMO = "the provider's log of requests"
NOTHING = Used(Usage(), ZERO)


LONGEST_SECONDS = 120  # of reading one tenant's books

# What the entries of each call come to that is in the log, or was made on its whole days for certain: between its hold
# and its charge, so one around midnight may be in the log of another day.
BOOKED = """
    WITH wanted AS (
        SELECT unnest(%(calls)s::uuid[]) AS call_id
        UNION
        SELECT e.call_id FROM accounts_ledgerentry e JOIN accounts_hold h ON h.id = e.hold_id
        WHERE e.provider = %(provider)s AND e.source = 'model' AND e.kind = 'charge'
              AND h.created_at >= %(first)s::timestamp AT TIME ZONE 'UTC'
              AND e.created_at < (%(last)s::date + 1)::timestamp AT TIME ZONE 'UTC'
    )
    SELECT e.call_id, e.price_version, sum(e.cost_micros)::bigint, sum(e.input_tokens)::bigint,
           sum(e.output_tokens)::bigint, bool_and(e.estimated)
    FROM accounts_ledgerentry e JOIN wanted USING (call_id)
    WHERE e.provider = %(provider)s AND e.source = 'model'
    GROUP BY e.call_id, e.price_version ORDER BY e.call_id
"""


class Booked(NamedTuple):
    call_id: UUID
    price_version: str
    cost: int  # micro-dollars
    entering: int  # tokens
    leaving: int
    estimate: bool  # the provider has never told


@dataclass(frozen=True, slots=True)
class Difference:
    """A call that the log and the books do not say the same of."""

    call_id: UUID
    what: str  # of both sides, for people
    tenant_id: UUID | None = None  # None: no tenant's books have the call
    correct: Used | None = None  # None: nobody can tell what is right


def differences(
    provider: str, log: Mapping[UUID, Used], whole_days: tuple[date, date] | None = None
) -> Iterator[Difference]:
    """Of all calls in the log, and of all that were made on `whole_days` (UTC, both included), of which it tells all.

    A call of those days that the log does not know was never billed: if it was estimated, nothing is right.
    """
    unknown, days = set(log), whole_days or (None, None)
    calls = ",".join(map(str, log))  # written once, however many tenants there are
    asked = (provider, f"{{{calls}}}", *days)
    for tenant_id in every_tenant():
        with in_tenant(tenant_id):
            booked = _booked(*asked)
            versions = {row.price_version for row in booked if _unpriced(row, log)}
            prices = {str(id): price_value(price) for id, price in Price.objects.in_bulk(versions).items()}
        unknown -= {row.call_id for row in booked}
        yield from (it for row in booked if (it := _difference(tenant_id, row, log, _cost(row, log, prices))))
    yield from (Difference(call_id, "in the log, and not in the books") for call_id in sorted(unknown))


def correct(found: Difference) -> bool:
    """Bring the books, and the call on record if it is still there, to what is right. False: nobody can tell."""
    if found.tenant_id is None or found.correct is None or found.correct.cost is None:
        return False
    usage, cost = found.correct.usage, found.correct.cost
    with in_tenant(found.tenant_id):
        conversations.set_usage(found.call_id, usage, cost)
        tokens = usage.input_tokens, usage.output_tokens
        return ledger.adjust(found.tenant_id, found.call_id, cost, MEMO, tokens)


def _booked(provider: str, calls: str, first: date | None, last: date | None) -> list[Booked]:
    """In the tenant's transaction. `calls`: ids as PostgreSQL writes an array."""
    set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
    with connection.cursor() as cursor:
        cursor.execute(BOOKED, {"provider": provider, "calls": calls, "first": first, "last": last})
        return [Booked(*row) for row in cursor.fetchall()]


def _unpriced(row: Booked, log: Mapping[UUID, Used]) -> bool:
    return (used := log.get(row.call_id)) is not None and used.cost is None


def _cost(row: Booked, log: Mapping[UUID, Used], prices: Mapping[str, PriceValue]) -> Money | None:
    """What the call costs by the log: as it tells, else at the price that is pinned on the call."""
    if (used := log.get(row.call_id)) is None:
        return None
    return pricing.cost(used.usage, prices[row.price_version]) if used.cost is None else used.cost


def _difference(tenant_id: UUID, row: Booked, log: Mapping[UUID, Used], cost: Money | None) -> Difference | None:
    call_id, booked = row.call_id, (Money(row.cost), row.entering, row.leaving)
    used = log.get(call_id)
    if used is None or cost is None:
        what, right = f"not in the log, booked {_shown(*booked)}", NOTHING if row.estimate else None
        return None if booked == (ZERO, 0, 0) else Difference(call_id, what, tenant_id, right)
    told = cost, used.usage.input_tokens, used.usage.output_tokens
    if told == booked:
        return None
    what = f"reported {_shown(*told)}, booked {_shown(*booked)}"
    return Difference(call_id, what, tenant_id, Used(used.usage, cost))


def _shown(cost: Money, entering: int, leaving: int) -> str:
    return f"${cost} for {entering} tokens in and {leaving} out"
