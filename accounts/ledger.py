"""The books: the only writer of holds, ledger entries and account balances.

Before a turn calls any model its ceiling is put on hold; afterwards what it really spent is
charged, one entry for every attempt, and the rest is released. Entries are never changed: a
charge that proves wrong is corrected by another entry (`adjust`).

Two sums stand on the account row so that a hold is one guarded update: `balance_micros`, the sum
of all entries, and `held_micros`, the sum of all open holds. Whoever would overdraw finds no row
to update. `check` proves both sums against the entries.

Each function opens its tenant's transaction; inside an open one of the same tenant it joins it,
so a turn's transcript and its charges are committed together. What a call costs is left to
`cascade.pricing`, what a customer may spend to budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from django.db import IntegrityError, connection
from django.db.models import F, Sum
from django.db.models.functions import Now

from accounts.ledger_check import INVARIANTS
from accounts.models import Account, Hold, LedgerEntry
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant

# The columns by which an adjustment says which charge it corrects.
ABOUT_THE_CALL = ("call_id", "conversation_id", "chatbot_id", "number", "tier", "model", "outcome", "price_version")


class InsufficientFunds(Exception):
    """The tenant cannot pay for the dearest way this turn could go; nothing was held."""

    def __init__(self, needed: Money, available: Money) -> None:
        super().__init__(f"${needed} needed, ${available} available")
        self.needed, self.available = needed, available


class AlreadyHeld(Exception):
    """The turn has a hold, open or settled; a turn is paid for once."""


class NotHeld(LookupError):
    """Nothing was ever held for this turn of this tenant."""


class NotCharged(LookupError):
    """This tenant was never charged for this call, so there is nothing to correct."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt cost, with all that a statement needs to say of it."""

    call_id: UUID
    conversation_id: UUID
    chatbot_id: UUID
    number: int  # order within the turn, from 1
    tier: int  # index into the strategy's tiers
    model: str
    outcome: str
    price_version: str
    cost: Money  # never negative; zero is charged too, as an entry of zero
    estimated: bool  # True: the provider did not report the usage
    input_tokens: int
    output_tokens: int


def top_up(tenant_id: UUID, amount: Money, memo: str) -> None:
    """Add money to the tenant's account, opening it if need be. Raises ValueError unless `amount` is positive."""
    if amount <= ZERO:
        raise ValueError(f"a top-up of ${amount} adds nothing")
    with in_tenant(tenant_id):
        Account.objects.get_or_create(tenant_id=tenant_id)
        LedgerEntry.objects.create(
            tenant_id=tenant_id, kind=LedgerEntry.Kind.TOP_UP, amount_micros=amount.micros, memo=memo
        )
        _move(tenant_id, balance=amount.micros)


def available(tenant_id: UUID) -> Money:
    """What can still be put on hold: the balance less what is on hold already. Without an account, zero."""
    with in_tenant(tenant_id):
        free = F("balance_micros") - F("held_micros")
        return Money(Account.objects.filter(tenant_id=tenant_id).values_list(free, flat=True).first() or 0)


def hold(tenant_id: UUID, turn_id: UUID, amount: Money) -> UUID:
    """Set `amount` aside for one turn and return the hold's id.

    Raises:
        InsufficientFunds: less than `amount` is available.
        AlreadyHeld: the turn has a hold.
        ValueError: `amount` is negative.
    """
    if amount < ZERO:
        raise ValueError(f"${amount} cannot be held")
    with in_tenant(tenant_id):
        try:
            made = Hold.objects.create(tenant_id=tenant_id, turn_id=turn_id, amount_micros=amount.micros)
        except IntegrityError:
            raise AlreadyHeld(f"turn {turn_id} has a hold") from None
        # The guard and the deed are one statement: of two that race for the last cent, the second finds no row.
        fits = Account.objects.filter(tenant_id=tenant_id, balance_micros__gte=F("held_micros") + amount.micros).update(
            held_micros=F("held_micros") + amount.micros
        )
        if not fits:
            raise InsufficientFunds(amount, available(tenant_id))
        return made.id


def settle(tenant_id: UUID, turn_id: UUID, charges: Sequence[Charge]) -> bool:
    """Charge what the turn's calls cost and release the rest of its hold; no charges release all of it.

    Usage above the ceiling is charged all the same: the provider charges it too.

    Returns:
        True: this call settled the hold. False: it was settled before, and nothing was written.

    Raises:
        NotHeld: the turn has no hold.
        ValueError: a cost is negative.
    """
    if any(charge.cost < ZERO for charge in charges):
        raise ValueError("a charge cannot be negative")
    spent = sum(charge.cost.micros for charge in charges)
    with in_tenant(tenant_id):
        held = Hold.objects.filter(turn_id=turn_id).first()
        if held is None:
            raise NotHeld(f"turn {turn_id} has no hold")
        claimed = Hold.objects.filter(pk=held.pk, settled_at=None).update(settled_at=Now(), spent_micros=spent)
        if not claimed:
            return False  # whoever came first has charged it
        LedgerEntry.objects.bulk_create([_entry(held, charge) for charge in charges])
        _move(tenant_id, balance=-spent, held=-held.amount_micros)
        return True


def adjust(tenant_id: UUID, call_id: UUID, correct: Money, memo: str) -> bool:
    """Correct what a call was charged by one more entry, so that the tenant has paid `correct` for it in all.

    Returns:
        True: an entry was written. False: the entries of the call come to `correct` already.

    Raises:
        NotCharged: the call was never charged.
        ValueError: `correct` is negative.
    """
    if correct < ZERO:
        raise ValueError(f"a call cannot cost ${correct}")
    with in_tenant(tenant_id):
        charge = LedgerEntry.objects.filter(call_id=call_id, kind=LedgerEntry.Kind.CHARGE).first()
        if charge is None:
            raise NotCharged(f"call {call_id} was not charged")
        # The difference depends on entries that no guard can see, so corrections of one turn queue up here.
        held = Hold.objects.select_for_update(of=("self",)).get(entries=charge)
        paid = -(LedgerEntry.objects.filter(call_id=call_id).aggregate(sum=Sum("amount_micros"))["sum"])
        difference = correct.micros - int(paid)
        if not difference:
            return False
        _correction(charge, -difference, memo).save(force_insert=True)
        Hold.objects.filter(pk=held.pk).update(spent_micros=F("spent_micros") + difference)
        _move(tenant_id, balance=-difference)
        return True


def settle_late(tenant_id: UUID, turn_id: UUID, charge: Charge, memo: str) -> bool:
    """A call whose cost became known after its turn was settled: charged if it was not, else corrected.

    Returns:
        True: an entry was written. False: the tenant has paid exactly this for the call already.

    Raises:
        NotHeld: the turn has no hold.
        ValueError: the cost is negative.
    """
    if charge.cost < ZERO:
        raise ValueError("a charge cannot be negative")
    with in_tenant(tenant_id):
        held = Hold.objects.select_for_update().filter(turn_id=turn_id).first()
        if held is None:
            raise NotHeld(f"turn {turn_id} has no hold")
        if LedgerEntry.objects.filter(call_id=charge.call_id, kind=LedgerEntry.Kind.CHARGE).exists():
            return adjust(tenant_id, charge.call_id, charge.cost, memo)
        entry = _entry(held, charge)
        entry.memo = memo
        entry.save(force_insert=True)
        Hold.objects.filter(pk=held.pk).update(spent_micros=F("spent_micros") + charge.cost.micros)
        _move(tenant_id, balance=-charge.cost.micros)
        return True


def check(tenant_id: UUID) -> list[str]:
    """Everything wrong with this tenant's books, a sentence each; empty when they are right.

    One statement reads it all, so turns that settle meanwhile do not disturb it.
    """
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(INVARIANTS)
        return [sentence for (sentence,) in cursor.fetchall()]


def _move(tenant_id: UUID, *, balance: int = 0, held: int = 0) -> None:
    """Bring the account up to date with entries and holds written in this transaction (micro-dollars)."""
    Account.objects.filter(tenant_id=tenant_id).update(
        balance_micros=F("balance_micros") + balance, held_micros=F("held_micros") + held
    )


def _entry(held: Hold, charge: Charge) -> LedgerEntry:
    columns = asdict(charge) | {"amount_micros": -charge.cost.micros}
    del columns["cost"]
    return LedgerEntry(
        tenant_id=held.tenant_id, hold=held, turn_id=held.turn_id, kind=LedgerEntry.Kind.CHARGE, **columns
    )


def _correction(charge: LedgerEntry, amount_micros: int, memo: str) -> LedgerEntry:
    return LedgerEntry(
        tenant_id=charge.tenant_id,
        hold_id=charge.hold_id,
        turn_id=charge.turn_id,
        kind=LedgerEntry.Kind.ADJUSTMENT,
        amount_micros=amount_micros,
        memo=memo,
        **{column: getattr(charge, column) for column in ABOUT_THE_CALL},
    )
