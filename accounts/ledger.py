"""The books: the only writer of holds, ledger entries and account balances.

Before a turn calls any model the most that it can be charged is put on hold; afterwards every attempt is
charged, one entry each, and the rest is released. Entries are never changed: a charge that proves wrong is
corrected by another entry (`adjust`). Each entry keeps the accounting equation: what was received equals
what the tenant's credit, the debt to the provider and the operator's result grow by.

Two sums stand on the account row so that a hold is one guarded update: `balance_micros`, the sum
of all entries, and `held_micros`, the sum of all open holds. Whoever would overdraw finds no row
to update. `check` proves both sums against the entries. A hold and a settlement are one statement each
(`hold_turn` and `settle_turn`, SQL functions of migration 0011): no lock waits for the network, and none for the disk.

Each function opens its tenant's transaction; inside an open one of the same tenant it joins it,
so a turn's transcript and its charges are committed together. What a provider charges for a call is left to
`cascade.pricing`, what the tenant pays for it to `accounts.tariffs`. Rows are locked in one order, so that
nobody waits in a circle: hold, budgets, allowance, account.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Sum
from uuid_utils.compat import uuid7

from accounts import budgets, tariffs
from accounts.budgets import BudgetExceeded, Spender
from accounts.ledger_check import INVARIANTS
from accounts.models import Account, Allowance, Budget, Hold, LedgerEntry
from accounts.money import ZERO, Money
from accounts.tenancy import in_one_statement, in_tenant

# The columns by which an entry says which call it is for.
ABOUT_THE_CALL = (
    *("source", "call_id", "conversation_id", "chatbot_id", "number", "provider", "model", "tier", "price_version"),
)

COUNTED = ("cost_micros", "amount_micros", "included_micros", "input_tokens", "output_tokens")
HOLD = "SELECT hold_turn(%s, %s, %s, %s, %s, %s, %s)"
SETTLE = "SELECT settle_turn(%s, %s, %s)"
RECORD = "SELECT record_turn(%s, %s, %s, %s)"


class InsufficientFunds(Exception):
    """The tenant cannot pay for the dearest way this turn could go; nothing was held.

    `for_now`: it could if the turns that run now cost nothing; so it may when they have ended.
    """

    def __init__(self, needed: Money, available: Money, held: Money = ZERO) -> None:
        super().__init__(f"${needed} needed, ${available} available")
        self.needed, self.available = needed, available
        self.for_now = needed <= available + held


class AlreadyHeld(Exception):
    """The turn has a hold, open or settled; a turn is paid for once."""


class NotHeld(LookupError):
    """Nothing was ever held for this turn of this tenant."""


class NotCharged(LookupError):
    """This tenant was never charged for this call, so there is nothing to correct."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt, or what else a turn used, did cost, with all that a statement needs to say of it."""

    call_id: UUID
    conversation_id: UUID
    chatbot_id: UUID
    number: int  # order within the turn, from 1; of the scorer and of embeddings: how many texts
    tier: int | None  # index into the strategy's tiers; None: none of them, it was remembered
    model: str
    outcome: str
    price_version: str
    cost: Money  # what the provider charges: never negative; zero is charged too, as an entry of zero
    estimated: bool  # True: the provider did not report the usage
    input_tokens: int
    output_tokens: int
    provider: str = ""  # whom the cost is owed to; "": not known
    dearest: Money = ZERO  # what asking the dearest model would have cost; on one charge of a turn, zero on the others
    source: str = "model"  # or "scorer", "embedding", "cache": then `call_id` is that use's own id


def top_up(tenant_id: UUID, amount: Money, memo: str) -> None:
    """Add money to the tenant's account, opening it if need be. Raises ValueError unless `amount` is positive."""
    _add(tenant_id, LedgerEntry.Kind.TOP_UP, amount, memo, received_micros=amount.micros)


def credit(tenant_id: UUID, amount: Money, memo: str) -> None:
    """Give the tenant money that nobody paid in: it is at the operator's expense. Raises ValueError as `top_up`."""
    _add(tenant_id, LedgerEntry.Kind.CREDIT, amount, memo, result_micros=-amount.micros)


def _add(tenant_id: UUID, kind: str, amount: Money, memo: str, **other_side: int) -> None:
    if amount <= ZERO:
        raise ValueError(f"a {LedgerEntry.Kind(kind).label.lower()} of ${amount} adds nothing")
    with in_tenant(tenant_id):
        Account.objects.get_or_create(tenant_id=tenant_id)
        LedgerEntry.objects.create(
            tenant_id=tenant_id,
            kind=kind,
            period=tariffs.this_month(tenant_id),
            amount_micros=amount.micros,
            memo=memo,
            **other_side,
        )
        _move(tenant_id, amount.micros)


def available(tenant_id: UUID) -> Money:
    """What can still be put on hold: the balance less what is on hold already. Without an account, zero."""
    with in_tenant(tenant_id):
        free = F("balance_micros") - F("held_micros")
        return Money(Account.objects.filter(tenant_id=tenant_id).values_list(free, flat=True).first() or 0)


def hold(tenant_id: UUID, turn_id: UUID, amount: Money, spender: Spender | None = None) -> UUID:
    """Set aside the most that a turn can be charged whose calls cost `amount` at most; return the hold's id.

    It is reserved in every budget that `spender` (None: nobody in particular) touches. What is left of the
    month's included quota is reserved first, money for the rest.

    Raises:
        InsufficientFunds: less than that is available.
        BudgetExceeded: a hard budget has less room.
        AlreadyHeld: the turn has a hold.
        ValueError: `amount` is negative.

    Where several things are wanting, one that will not be there in a moment is told before one that may.
    """
    if amount < ZERO:
        raise ValueError(f"${amount} cannot be held")
    hold_id = uuid7()
    try:
        wanting = in_one_statement(tenant_id, HOLD, hold_id, turn_id, amount.micros, *budgets.subjects(spender))
    except IntegrityError:
        raise AlreadyHeld(f"turn {turn_id} has a hold") from None
    if wanting:
        raise _refusal(tenant_id, json.loads(wanting))
    return hold_id


def _refusal(
    tenant_id: UUID, wanting: Sequence[tuple[str | None, int, int, int]]
) -> InsufficientFunds | BudgetExceeded:
    """The gravest of what is wanting: budgets, or (None) money."""
    budget_id, *micros = min(wanting, key=lambda each: each[1] <= each[2] + each[3])
    figures = [Money(amount) for amount in micros]
    if budget_id is None:
        return InsufficientFunds(*figures)
    with in_tenant(tenant_id):
        return BudgetExceeded(Budget.objects.get(id=budget_id), *figures)


def settle(tenant_id: UUID, turn_id: UUID, charges: Sequence[Charge]) -> bool:
    """Charge the turn's calls and release the rest of its hold; no charges release all of it.

    Usage above the ceiling is charged all the same: the provider charges it too.

    Returns:
        True: this call settled the hold. False: it was settled before, and nothing was written.

    Raises:
        NotHeld: the turn has no hold.
        ValueError: a cost is negative.
    """
    settled = in_one_statement(tenant_id, SETTLE, turn_id, _told(charges))
    if settled is None:
        raise NotHeld(f"turn {turn_id} has no hold")
    if settled:
        transaction.on_commit(_on_disk)
    return bool(settled)


def record(tenant_id: UUID, turn_id: UUID, charges: Sequence[Charge]) -> bool:
    """Put on the books what a turn used for which nothing was held: it is at the operator's expense.

    Nothing can be held for it any more. If something was, after all, that is settled. Raises ValueError as `settle`.

    Returns:
        True: this call put it there. False: it was on the books before, and nothing was written.
    """
    written = bool(in_one_statement(tenant_id, RECORD, uuid7(), turn_id, _told(charges)))
    if written:
        transaction.on_commit(_on_disk)
    return written


def _on_disk() -> None:
    """Wait for the disk, which the settlement's own transaction did not: other turns of the tenant wait for that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'ledger', '')")


def adjust(tenant_id: UUID, call_id: UUID, correct: Money, memo: str, tokens: tuple[int, int] | None = None) -> bool:
    """Correct what the provider charged for a call by one more entry, so that it comes to `correct` in all.

    What the tenant pays follows by the tariff of the charge; quota that is no longer needed is given back.
    `tokens`: what went in and came out, as the provider counts it; None: the books have that right.

    Returns:
        True: an entry was written. False: the entries of the call come to this already.

    Raises:
        NotCharged: the call was never charged.
        ValueError: `correct` or a count is negative.
    """
    if correct < ZERO or min(tokens or (0,)) < 0:
        raise ValueError(f"a call cannot cost ${correct} for {tokens} tokens")
    with in_tenant(tenant_id):
        turn_id = LedgerEntry.objects.filter(call_id=call_id).values_list("turn_id", flat=True).first()
        if turn_id is None:
            raise NotCharged(f"call {call_id} was not charged")
        held = _locked(turn_id)
        latest = LedgerEntry.objects.filter(call_id=call_id).latest("created_at", "id")
        known = latest.estimated if tokens is None else False
        return _correct(held, call_id, correct, tokens, known, latest.outcome, memo)


def settle_late(tenant_id: UUID, turn_id: UUID, charge: Charge, memo: str) -> bool:
    """A call whose cost or outcome became known after its turn was settled: charged if it was not, else corrected.

    The entry belongs to the month in which it is written.

    Returns:
        True: an entry was written. False: the tenant was charged exactly this for the call already.

    Raises:
        NotHeld: the turn has no hold.
        ValueError: the cost is negative.
    """
    if charge.cost < ZERO:
        raise ValueError("a charge cannot be negative")
    with in_tenant(tenant_id):
        held = _locked(turn_id)
        if LedgerEntry.objects.filter(call_id=charge.call_id).exists():
            tokens = charge.input_tokens, charge.output_tokens
            return _correct(held, charge.call_id, charge.cost, tokens, charge.estimated, charge.outcome, memo)
        entry = LedgerEntry(
            kind=LedgerEntry.Kind.CHARGE,
            period=tariffs.this_month(tenant_id),
            memo=memo,
            **_of_hold(held),
            **_columns(charge),
        )
        _balance(entry, _price(held, charge.cost, charge.outcome), 0)
        _book_late(held, entry)
        return True


def check(tenant_id: UUID) -> list[str]:
    """Everything wrong with this tenant's books, a sentence each; empty when they are right.

    One statement reads it all, so turns that settle meanwhile do not disturb it.
    """
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(INVARIANTS)
        return [sentence for (sentence,) in cursor.fetchall()]


# --- corrections ----------------------------------------------------------------------------------


def _locked(turn_id: UUID) -> Hold:
    """The turn's hold, for whoever comes first: settlements and corrections of one turn queue up here."""
    held = Hold.objects.select_for_update(of=("self",)).select_related("tariff").filter(turn_id=turn_id).first()
    if held is None:
        raise NotHeld(f"turn {turn_id} has no hold")
    return held


def _correct(
    held: Hold,
    call_id: UUID,
    cost: Money,
    tokens: tuple[int, int] | None,
    estimated: bool,
    outcome: str,
    memo: str,
) -> bool:
    """One more entry, so that the call cost `cost` for `tokens` in all and is priced by its outcome; False: it is."""
    entries = LedgerEntry.objects.filter(call_id=call_id)
    booked = entries.aggregate(**{name: Sum(name) for name in COUNTED})
    paid, covered = -booked["amount_micros"], booked["included_micros"]
    price = _price(held, cost, outcome)
    charge = entries.get(kind=LedgerEntry.Kind.CHARGE)
    entry = LedgerEntry(
        kind=LedgerEntry.Kind.ADJUSTMENT,
        period=tariffs.this_month(held.tenant_id),
        corrects=charge,
        outcome=outcome,
        memo=memo,
        estimated=estimated,
        cost_micros=cost.micros - booked["cost_micros"],
        **_of_hold(held),
        **{column: getattr(charge, column) for column in ABOUT_THE_CALL},
    )
    if tokens is not None:
        entry.input_tokens, entry.output_tokens = (
            tokens[0] - booked["input_tokens"],
            tokens[1] - booked["output_tokens"],
        )
    _balance(entry, price - (paid + covered), min(price, covered) - covered)
    if not any(getattr(entry, name) for name in COUNTED):
        return False
    _book_late(held, entry)
    return True


def _price(held: Hold, cost: Money, outcome: str) -> int:
    """What the tenant pays for a call of this turn (micro-dollars), before any quota."""
    return 0 if held.unheld else tariffs.price(held.tariff, cost, outcome).micros


def _book_late(held: Hold, entry: LedgerEntry) -> None:
    budgets.count(held.spendings, Money(entry.included_micros - entry.amount_micros))
    # Whether it needs the row or not: of several corrections in one transaction, the next may, after the account's.
    quota = Allowance.objects.filter(period=held.period)
    quota.update(used_micros=F("used_micros") + entry.included_micros)
    Hold.objects.filter(pk=held.pk).update(spent_micros=F("spent_micros") - entry.amount_micros)
    entry.save(force_insert=True)  # after the hold, against which the database proves it
    _move(held.tenant_id, entry.amount_micros)


def _move(tenant_id: UUID, balance: int) -> None:
    """Bring the account up to date with entries written in this transaction (micro-dollars)."""
    Account.objects.filter(tenant_id=tenant_id).update(balance_micros=F("balance_micros") + balance)


# --- columns of entries ---------------------------------------------------------------------------


def _columns(charge: Charge) -> dict[str, Any]:
    """All that an entry says of the call itself."""
    about = {column: getattr(charge, column) for column in ABOUT_THE_CALL}
    return about | {
        "cost_micros": charge.cost.micros,
        "dearest_micros": charge.dearest.micros,
        "outcome": charge.outcome,
        "estimated": charge.estimated,
        "input_tokens": charge.input_tokens,
        "output_tokens": charge.output_tokens,
    }


def _told(charges: Sequence[Charge]) -> str:
    """As the database's functions read them."""
    if any(charge.cost < ZERO for charge in charges):
        raise ValueError("a charge cannot be negative")
    return json.dumps([{"id": uuid7(), **_columns(charge)} for charge in charges], default=str)


def _of_hold(held: Hold) -> dict[str, Any]:
    return {"tenant_id": held.tenant_id, "hold": held, "tariff_id": held.tariff_id, "turn_id": held.turn_id}


def _balance(entry: LedgerEntry, price: int, included: int) -> None:
    """The tenant pays `price` less what its quota covers; what that leaves after the provider's cost is ours."""
    entry.included_micros = included
    entry.amount_micros = included - price
    entry.result_micros = entry.received_micros - entry.amount_micros - entry.cost_micros
