"""What a tenant pays: a margin on what the providers charge, or a price for each accepted reply.

Terms are dated rows, superseded by later ones and never edited. A turn is charged by the terms of the
moment its hold was made. Entries are written by `accounts.ledger`; what providers charge is left to
`cascade.pricing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, connection
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import Tariff
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant

PARTS = 10_000  # a margin is a whole number of ten-thousandths

# A clock that was set back, or a time zone further west, does not lead back into a month that is closed.
TERMS_NOW = """
    SELECT greatest(date_trunc('month', statement_timestamp() AT TIME ZONE t.time_zone)::date,
                    (SELECT max(period) + interval '1 month' FROM accounts_statement WHERE tenant_id = t.id)::date),
           f.id, f.margin, f.reply_micros, f.included_micros
    FROM accounts_tenant t
    LEFT JOIN LATERAL (
        SELECT * FROM accounts_tariff
        WHERE tenant_id = t.id AND valid_from <= statement_timestamp() ORDER BY valid_from DESC LIMIT 1
    ) f ON true
    WHERE t.id = %s
"""

TERMS_OF_TURN = """
    SELECT f.id, f.margin, f.reply_micros, f.included_micros
    FROM accounts_hold h LEFT JOIN accounts_tariff f ON f.id = h.tariff_id WHERE h.turn_id = %s
"""


class TariffTaken(Exception):
    """There is a tariff that begins at this very moment."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A tariff as a pure value; without arguments: the tenant pays what the providers charge, and no more."""

    tariff_id: UUID | None = None  # None: the tenant has no tariff
    margin: Decimal = Decimal(0)  # share of the provider's charge that comes on top; unused with `reply`
    reply: Money | None = None  # None: charged by cost and margin
    included: Money = ZERO  # of each month's charges, the first that are free

    def price(self, cost: Money, outcome: str) -> Money:
        """What the tenant pays for a call that cost `cost`, before any quota.

        The margin is rounded down to the micro-dollar, once a call: so the prices of a turn's calls never
        come to more than the price of their sum, which is what was held.
        """
        if self.reply is not None:
            return self.reply if outcome == "accepted" else ZERO
        return Money(cost.micros + cost.micros * int(self.margin * PARTS) // PARTS)

    def ceiling(self, cost: Money) -> Money:
        """The most that a turn can be charged whose calls cost `cost` at most; one reply of it is accepted."""
        return self.price(cost, "accepted")


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds for a turn that begins now."""

    period: date  # the first day of the month, where the tenant is; after a closed one the next at the earliest
    terms: Terms


def now(tenant_id: UUID) -> Moment | None:
    """In the tenant's transaction. None: there is no such tenant."""
    with connection.cursor() as cursor:
        cursor.execute(TERMS_NOW, [tenant_id])
        row = cursor.fetchone()
    return Moment(row[0], _terms(*row[1:])) if row else None


def of_turn(turn_id: UUID) -> Terms | None:
    """Those of the moment its hold was made, in the tenant's transaction. None: it has no hold."""
    with connection.cursor() as cursor:
        cursor.execute(TERMS_OF_TURN, [turn_id])
        row = cursor.fetchone()
    return _terms(*row) if row else None


def terms_of(tariff: Tariff | None) -> Terms:
    if tariff is None:
        return Terms()
    return _terms(tariff.id, tariff.margin, tariff.reply_micros, tariff.included_micros)


def set_tariff(
    tenant_id: UUID,
    *,
    margin: Decimal | None = None,
    reply: Money | None = None,
    included: Money = ZERO,
    valid_from: datetime | None = None,
) -> UUID:
    """Supersede the tenant's tariff from `valid_from` on (None: now) and return the new one's id.

    Raises:
        ValueError: not exactly one of `margin` and `reply`; one is negative; a margin with more than four
            decimals; a beginning in the past.
        TariffTaken: a tariff of this tenant begins at that very moment.
    """
    if (margin is None) is (reply is None):
        raise ValueError("a tariff has either a margin or a price for a reply")
    if margin is not None and (not margin.is_finite() or margin < 0 or margin * PARTS != int(margin * PARTS)):
        raise ValueError(f"{margin} is no margin: 0 or more, in ten-thousandths")
    if included < ZERO or (reply is not None and reply < ZERO):
        raise ValueError("a tariff's amounts cannot be negative")
    if valid_from is not None and valid_from < timezone.now():
        raise ValueError("a tariff cannot begin in the past: what was charged stays as it was")
    with in_tenant(tenant_id):
        try:
            return Tariff.objects.create(
                tenant_id=tenant_id,
                margin=margin,
                reply_micros=None if reply is None else reply.micros,
                included_micros=included.micros,
                valid_from=valid_from or Now(),
            ).id
        except IntegrityError:
            raise TariffTaken("a tariff begins at this moment already") from None


def _terms(tariff_id: UUID | None, margin: Decimal | None, reply: int | None, included: int | None) -> Terms:
    return Terms(tariff_id, margin or Decimal(0), None if reply is None else Money(reply), Money(included or 0))
