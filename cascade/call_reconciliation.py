"""A provider's log of single requests beside the books of all tenants, call by call; and the books corrected by it.

What a provider reported in time is on the books already. What a crash, a broken stream or a silent provider left as an
estimate becomes what the log says, by one more entry a call (`ledger.adjust`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib.postgres.aggregates import BoolAnd
from django.db.models import Sum

from accounts import ledger
from accounts.models import LedgerEntry
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant
from accounts.tenants import every_tenant
from cascade import conversations, pricing
from cascade.material import price_value
from cascade.models import Price
from cascade.usage_log import Used
from cascade.values import Usage

MEMO = "the provider's log of requests"
NOTHING = Used(Usage(), ZERO)


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
    unknown = set(log)
    for tenant_id in every_tenant():
        with in_tenant(tenant_id):
            booked = list(_booked(provider, log, whole_days))
            prices = Price.objects.in_bulk({row["price_version"] for row in booked if _unpriced(row, log)})
            costs = {row["call_id"]: _cost(row, log, prices) for row in booked}
        unknown -= costs.keys()
        yield from (it for row in booked if (it := _difference(tenant_id, row, log, costs[row["call_id"]])))
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


def _booked(
    provider: str, log: Mapping[UUID, Used], whole_days: tuple[date, date] | None
) -> Iterator[Mapping[str, Any]]:
    """What the entries of each call come to, in the tenant's transaction."""
    entries = LedgerEntry.objects.filter(provider=provider, source="model")
    wanted = set(entries.filter(call_id__in=list(log)).values_list("call_id", flat=True))
    if whole_days:
        begins, ends = (datetime.combine(day, time(), UTC) for day in whole_days)
        # A call is made between its hold and its charge: one around midnight may be in the log of another day.
        certain = entries.filter(hold__created_at__gte=begins, created_at__lt=ends + timedelta(days=1))
        charges = certain.filter(kind="charge")
        wanted |= set(charges.values_list("call_id", flat=True))
    yield from (
        entries.filter(call_id__in=wanted)
        .values("call_id", "price_version")
        .annotate(
            cost=Sum("cost_micros"),
            entering=Sum("input_tokens"),
            leaving=Sum("output_tokens"),
            estimate=BoolAnd("estimated"),
        )
        .order_by("call_id")
    )


def _unpriced(row: Mapping[str, Any], log: Mapping[UUID, Used]) -> bool:
    return (used := log.get(row["call_id"])) is not None and used.cost is None


def _cost(row: Mapping[str, Any], log: Mapping[UUID, Used], prices: Mapping[UUID, Price]) -> Money | None:
    """What the call costs by the log: as it tells, else at the price that is pinned on the call."""
    if (used := log.get(row["call_id"])) is None:
        return None
    if used.cost is not None:
        return used.cost
    return pricing.cost(used.usage, price_value(prices[UUID(row["price_version"])]))


def _difference(
    tenant_id: UUID, row: Mapping[str, Any], log: Mapping[UUID, Used], cost: Money | None
) -> Difference | None:
    call_id, booked = row["call_id"], (Money(int(row["cost"])), int(row["entering"]), int(row["leaving"]))
    used = log.get(call_id)
    if used is None or cost is None:
        what, right = f"not in the log, booked {_shown(*booked)}", NOTHING if row["estimate"] else None
        return None if booked == (ZERO, 0, 0) else Difference(call_id, what, tenant_id, right)
    told = cost, used.usage.input_tokens, used.usage.output_tokens
    if told == booked:
        return None
    what = f"reported {_shown(*told)}, booked {_shown(*booked)}"
    return Difference(call_id, what, tenant_id, Used(used.usage, cost))


def _shown(cost: Money, entering: int, leaving: int) -> str:
    return f"${cost} for {entering} tokens in and {leaving} out"
