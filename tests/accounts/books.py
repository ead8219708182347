"""What the tests of the books share: a charge, a held turn, an account at one glance, many at once."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from django.db import connections, transaction
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.ledger import Charge
from accounts.models import Account, Tenant
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant

# Where it is about noon when the tests begin: no day and no month ends while they run, whenever that is.
NOON = f"Etc/GMT{datetime.now(UTC).hour - 12:+}"


def at_noon(tenant_id: UUID) -> UUID:
    with in_tenant(tenant_id):
        Tenant.objects.update(time_zone=NOON)
    return tenant_id


def this_month() -> date:
    """Of a tenant at noon."""
    return datetime.now(ZoneInfo(NOON)).date().replace(day=1)


def month_before(period: date, months: int = 1) -> date:
    count = period.year * 12 + period.month - 1 - months
    return date(count // 12, count % 12 + 1, 1)


@dataclass(frozen=True)
class Terms:
    """A tariff as arithmetic, beside which the books are held; without arguments: what the provider charges."""

    margin: Decimal = Decimal(0)
    reply: Money | None = None  # None: charged by cost and margin
    included: Money = ZERO

    def price(self, cost: Money, outcome: str) -> Money:
        if self.reply is not None:
            return self.reply if outcome == "accepted" else ZERO
        return Money(math.floor(cost.micros * (1 + self.margin)))

    def ceiling(self, cost: Money) -> Money:
        return self.price(cost, "accepted")


def charge(micros: int, **more: object) -> Charge:
    """A rejected draft that cost so many micro-dollars; `more` replaces what else stands on it."""
    plain = Charge(
        call_id=uuid7(),
        conversation_id=uuid4(),
        chatbot_id=uuid4(),
        number=0,
        tier=0,
        model="local/small",
        outcome="rejected",
        price_version="p1",
        cost=Money(micros),
        estimated=False,
        input_tokens=120,
        output_tokens=30,
    )
    return replace(plain, **more)


def funded(tenant_id: UUID, micros: int) -> UUID:
    ledger.top_up(tenant_id, Money(micros), "funds")
    return tenant_id


def held_turn(tenant_id: UUID, micros: int, turn_id: UUID | None = None) -> UUID:
    turn_id = turn_id or uuid7()
    ledger.hold(tenant_id, turn_id, Money(micros))
    return turn_id


def account(tenant_id: UUID) -> tuple[int, int]:
    with in_tenant(tenant_id):
        return Account.objects.values_list("balance_micros", "held_micros").get()


def at_once(function, arguments):
    """`function` of each argument, from real threads with connections of their own, in order."""

    def alone(argument):
        try:
            return function(argument)
        except Exception as error:
            return error
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(alone, arguments))


def as_owner(*statements: str) -> None:
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def tamper(tenant_id: UUID, *statements: str) -> None:
    """What only the owner of the tables can do, who first disables what guards them."""
    tables = ("accounts_ledgerentry", "accounts_hold", "accounts_statement")
    as_owner(
        f"SET LOCAL app.tenant = '{tenant_id}'",
        *(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables),
        *statements,
        "SET CONSTRAINTS ALL IMMEDIATE",
        *(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables),
    )


def a_month_passes(tenant_id: UUID) -> None:
    """All that is on the books was written a month earlier."""
    tamper(
        tenant_id,
        "UPDATE accounts_ledgerentry"
        " SET period = period - interval '1 month', created_at = created_at - interval '1 month'",
        "UPDATE accounts_hold SET period = period - interval '1 month'",
        "UPDATE accounts_allowance SET period = period - interval '1 month'",
    )
