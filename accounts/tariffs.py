"""What a tenant pays: a margin on what the providers charge, or a price for each accepted reply.

Tariffs are dated rows, superseded by later ones and never edited. A turn is charged by the tariff of the
moment its hold was made. What that comes to is worked out in one place, the database (`terms_now` and `price_of`,
SQL functions of migration 0011). Entries are written by `accounts.ledger`; what providers charge is left to
`cascade.pricing`.
"""

from __future__ import annotations

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


class TariffTaken(Exception):
    """There is a tariff that begins at this very moment."""


def this_month(tenant_id: UUID) -> date:
    """The first day of the month that runs where the tenant is; after a closed one the next at the earliest.

    In the tenant's transaction. Raises LookupError: there is no such tenant.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT period FROM terms_now(%s)", [tenant_id])
        if row := cursor.fetchone():
            return row[0]  # type: ignore[no-any-return]
    raise LookupError(f"there is no tenant {tenant_id}")


def price(tariff: Tariff | None, cost: Money, outcome: str) -> Money:
    """What the tenant pays for a call that cost `cost`, before any quota; None: what the provider charges."""
    terms = (tariff.margin, tariff.reply_micros) if tariff else (None, None)
    with connection.cursor() as cursor:
        cursor.execute("SELECT price_of(%s, %s, %s, %s)", [cost.micros, outcome, *terms])
        return Money(cursor.fetchone()[0])


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
            decimals, or of 10,000 and more; a beginning in the past.
        TariffTaken: a tariff of this tenant begins at that very moment.
    """
    if (margin is None) is (reply is None):
        raise ValueError("a tariff has either a margin or a price for a reply")
    if margin is not None and (not margin.is_finite() or margin < 0 or margin * PARTS != int(margin * PARTS)):
        raise ValueError(f"{margin} is no margin: 0 or more, in ten-thousandths")
    if margin is not None and margin >= PARTS:
        raise ValueError(f"{margin} is no margin: less than {PARTS}; 0.25 is a quarter on top")
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
