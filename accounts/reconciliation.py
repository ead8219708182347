"""Whether a provider's report and the books of all tenants say the same, by day and model.

Differences are shown, not mended: which call is wrong is found in the books, and corrected by `ledger.adjust`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from django.db import connection

from accounts.money import ZERO, Money
from accounts.provider_usage import Used
from accounts.tenancy import in_tenant
from accounts.tenants import every_tenant

Where = tuple[date, str]  # a day (UTC) and the name of a model

# A correction counts on the day of the charge that it corrects.
BOOKED = """
    SELECT (coalesce(c.created_at, e.created_at) AT TIME ZONE 'UTC')::date AS day, e.model,
           sum(e.input_tokens)::bigint, sum(e.output_tokens)::bigint, sum(e.cost_micros)::bigint
    FROM accounts_ledgerentry e LEFT JOIN accounts_ledgerentry c ON c.id = e.corrects_id
    WHERE e.provider = %s AND e.source = 'model'
          AND coalesce(c.created_at, e.created_at) >= %s::timestamp AT TIME ZONE 'UTC'
          AND coalesce(c.created_at, e.created_at) < (%s::date + 1)::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Difference:
    day: date
    model: str
    what: str  # "input tokens", "output tokens", "dollars"; or an alert, where one side says it all
    reported: str
    booked: str


def booked(provider: str, first: date, last: date) -> dict[Where, Used]:
    """What all tenants' entries of calls to `provider` come to, from `first` to `last`, both included."""
    sums: dict[Where, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tenant_id in every_tenant():
        with in_tenant(tenant_id), connection.cursor() as cursor:
            cursor.execute(BOOKED, [provider, first, last])
            for day, model, *figures in cursor.fetchall():
                sums[day, model] = [one + more for one, more in zip(sums[day, model], figures, strict=True)]
    return {where: Used(entering, leaving, Money(cost)) for where, (entering, leaving, cost) in sums.items()}


def differences(reported: Mapping[Where, Used], ours: Mapping[Where, Used]) -> Iterator[Difference]:
    """By day and model; what the report does not tell is not compared. Alerts of our own books come with them."""
    tells = next(iter(reported.values()), Used())
    nothing = Used(
        None if tells.input_tokens is None else 0,
        None if tells.output_tokens is None else 0,
        None if tells.cost is None else ZERO,
    )
    for day, model in sorted(reported.keys() | ours.keys()):
        theirs, own = reported.get((day, model), nothing), ours.get((day, model), Used(0, 0, ZERO))
        for what, there, here in (
            ("input tokens", theirs.input_tokens, own.input_tokens),
            ("output tokens", theirs.output_tokens, own.output_tokens),
            ("dollars", theirs.cost, own.cost),
        ):
            if there is not None and there != here:
                yield Difference(day, model, what, str(there), str(here))
        if bool((own.input_tokens or 0) + (own.output_tokens or 0)) is not (own.cost != ZERO):
            yield Difference(day, model, "tokens without cost, or cost without tokens", "", str(own.cost))
