"""The books: the only writer of holds, ledger entries and account balances.

Before a turn calls any model the most that it can be charged is put on hold; afterwards every attempt is
charged, one entry each, and the rest is released. Entries are never changed: a charge that proves wrong is
corrected by another entry (`adjust`). Each entry keeps the accounting equation: what was received equals
what the tenant's credit, the debt to the provider and the operator's result grow by.

Two sums stand on the account row so that a hold is one guarded update: `balance_micros`, the sum
of all entries, and `held_micros`, the sum of all open holds. Whoever would overdraw finds no row
to update. `check` proves both sums against the entries.

Each function opens its tenant's transaction; inside an open one of the same tenant it joins it,
so a turn's transcript and its charges are committed together. What a provider charges for a call is left to
`cascade.pricing`, what the tenant pays for it to `accounts.tariffs`. Rows are locked in one order, so that
nobody waits in a circle: hold, budgets, allowance, account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from django.db import IntegrityError, connection
from django.db.models import F, QuerySet, Sum

from accounts import budgets, tariffs
from accounts.budgets import Spender
from accounts.ledger_check import INVARIANTS
from accounts.models import Account, Allowance, Hold, LedgerEntry
from accounts.money import ZERO, Money
from accounts.tariffs import Terms, terms_of
from accounts.tenancy import in_tenant

# The columns by which an entry says which call it is for.
ABOUT_THE_CALL = (
    *("source", "call_id", "conversation_id", "chatbot_id", "number", "provider", "model", "tier", "price_version"),
)


# The guard and the deed are one statement: of two turns that race for the last cent, the second finds no row.
PLACE = """
    WITH fits AS (
        UPDATE accounts_account SET held_micros = held_micros + %(amount_micros)s
        WHERE tenant_id = %(tenant_id)s AND balance_micros >= held_micros + %(amount_micros)s RETURNING tenant_id
    )
    INSERT INTO accounts_hold (id, tenant_id, turn_id, period, tariff_id, included_micros, amount_micros, spendings)
    SELECT %(id)s, tenant_id, %(turn_id)s, %(period)s::date, %(tariff_id)s::uuid, %(included_micros)s,
           %(amount_micros)s, %(spendings)s::uuid[] FROM fits
    RETURNING id
"""

SETTLE = """
    WITH settled AS (
        UPDATE accounts_hold SET settled_at = statement_timestamp(), spent_micros = %(spent)s
        WHERE id = %(id)s AND settled_at IS NULL RETURNING tenant_id, amount_micros
    )
    UPDATE accounts_account a
    SET balance_micros = balance_micros - %(spent)s, held_micros = held_micros - settled.amount_micros
    FROM settled WHERE a.tenant_id = settled.tenant_id
"""


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
    """What one attempt cost, with all that a statement needs to say of it."""

    call_id: UUID
    conversation_id: UUID
    chatbot_id: UUID
    number: int  # order within the turn, from 1
    tier: int  # index into the strategy's tiers
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
            period=_this_month(tenant_id),
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
    """
    if amount < ZERO:
        raise ValueError(f"${amount} cannot be held")
    with in_tenant(tenant_id):
        moment = tariffs.now(tenant_id)
        if moment is None:
            raise InsufficientFunds(amount, ZERO)
        most = moment.terms.ceiling(amount)
        made = Hold(tenant_id=tenant_id, turn_id=turn_id, period=moment.period, tariff_id=moment.terms.tariff_id)
        made.spendings = budgets.reserve(tenant_id, spender, most) if moment.budgets else []
        made.included_micros = _reserve_quota(made, moment.terms, most.micros)
        made.amount_micros = most.micros - made.included_micros
        return _place(made, moment.terms)


def _place(made: Hold, terms: Terms) -> UUID:
    columns = ("id", "tenant_id", "turn_id", "period", "tariff_id", "included_micros", "amount_micros", "spendings")
    try:
        with connection.cursor() as cursor:
            cursor.execute(PLACE, {column: getattr(made, column) for column in columns})
            if cursor.fetchone():
                return made.id
    except IntegrityError:
        raise AlreadyHeld(f"turn {made.turn_id} has a hold") from None
    if Hold.objects.filter(turn_id=made.turn_id).exists():
        raise AlreadyHeld(f"turn {made.turn_id} has a hold")
    account = Account.objects.filter(tenant_id=made.tenant_id).first() or Account(tenant_id=made.tenant_id)
    free, held = account.balance_micros - account.held_micros, account.held_micros + _quota_of_others(made, terms)
    raise InsufficientFunds(Money(made.amount_micros), Money(free), Money(held))


def settle(tenant_id: UUID, turn_id: UUID, charges: Sequence[Charge]) -> bool:
    """Charge the turn's calls and release the rest of its hold; no charges release all of it.

    Usage above the ceiling is charged all the same: the provider charges it too.

    Returns:
        True: this call settled the hold. False: it was settled before, and nothing was written.

    Raises:
        NotHeld: the turn has no hold.
        ValueError: a cost is negative.
    """
    if any(charge.cost < ZERO for charge in charges):
        raise ValueError("a charge cannot be negative")
    with in_tenant(tenant_id):
        held = _locked(turn_id)
        if held.settled_at is not None:
            return False  # whoever came first has charged it
        terms = terms_of(held.tariff)
        prices = [terms.price(charge.cost, charge.outcome).micros for charge in charges]
        reserved = Money(held.amount_micros + held.included_micros)
        budgets.count(held.spendings, Money(sum(prices)), released=reserved)
        covered = _use_quota(held, terms, sum(prices))
        entries = [_entry(held, charge) for charge in charges]
        for entry, price in zip(entries, prices, strict=True):
            included = min(price, covered)
            covered -= included
            _balance(entry, price, included)
        LedgerEntry.objects.bulk_create(entries)
        spent = -sum(entry.amount_micros for entry in entries)
        with connection.cursor() as cursor:
            cursor.execute(SETTLE, {"id": held.id, "spent": spent})
        return True


def adjust(tenant_id: UUID, call_id: UUID, correct: Money, memo: str) -> bool:
    """Correct what the provider charged for a call by one more entry, so that it comes to `correct` in all.

    What the tenant pays follows by the tariff of the charge; quota that is no longer needed is given back.

    Returns:
        True: an entry was written. False: the entries of the call come to `correct` already.

    Raises:
        NotCharged: the call was never charged.
        ValueError: `correct` is negative.
    """
    if correct < ZERO:
        raise ValueError(f"a call cannot cost ${correct}")
    with in_tenant(tenant_id):
        turn_id = LedgerEntry.objects.filter(call_id=call_id).values_list("turn_id", flat=True).first()
        if turn_id is None:
            raise NotCharged(f"call {call_id} was not charged")
        held = _locked(turn_id)
        outcome = LedgerEntry.objects.filter(call_id=call_id).latest("created_at", "id").outcome
        return _correct(held, call_id, correct, outcome, memo)


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
            return _correct(held, charge.call_id, charge.cost, charge.outcome, memo)
        entry = _entry(held, charge)
        entry.period, entry.memo = _this_month(tenant_id), memo
        _balance(entry, terms_of(held.tariff).price(charge.cost, charge.outcome).micros, 0)
        _book_late(held, entry)
        return True


def check(tenant_id: UUID) -> list[str]:
    """Everything wrong with this tenant's books, a sentence each; empty when they are right.

    One statement reads it all, so turns that settle meanwhile do not disturb it.
    """
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(INVARIANTS)
        return [sentence for (sentence,) in cursor.fetchall()]


# --- the month and its quota ----------------------------------------------------------------------


def _this_month(tenant_id: UUID) -> date:
    moment = tariffs.now(tenant_id)
    if moment is None:
        raise LookupError(f"there is no tenant {tenant_id}")
    return moment.period


def _allowance(held: Hold) -> QuerySet[Allowance]:
    return Allowance.objects.filter(period=held.period)


def _reserve_quota(held: Hold, terms: Terms, wanted: int) -> int:
    """How much of the month's quota is set aside for a turn that needs `wanted` micro-dollars."""
    if terms.included == ZERO:
        return 0
    Allowance.objects.bulk_create([Allowance(tenant_id=held.tenant_id, period=held.period)], ignore_conflicts=True)
    month = _allowance(held).select_for_update().get()
    reserved = max(0, min(wanted, terms.included.micros - month.used_micros - month.held_micros))
    _allowance(held).update(held_micros=F("held_micros") + reserved)
    return reserved


def _quota_of_others(held: Hold, terms: Terms) -> int:
    """How much more of the month's quota there was for this turn if those that run now used none of theirs."""
    if terms.included == ZERO:
        return 0
    return max(0, terms.included.micros - _allowance(held).get().used_micros) - held.included_micros


def _use_quota(held: Hold, terms: Terms, wanted: int) -> int:
    """How much of the month's quota pays for a turn that is charged `wanted`; its reservation ends."""
    if terms.included == ZERO:
        return 0
    month = _allowance(held).select_for_update().get()
    others = month.held_micros - held.included_micros
    used = max(0, min(wanted, terms.included.micros - month.used_micros - others))
    _allowance(held).update(used_micros=F("used_micros") + used, held_micros=others)
    return used


# --- rows -----------------------------------------------------------------------------------------


def _locked(turn_id: UUID) -> Hold:
    """The turn's hold, for whoever comes first: settlements and corrections of one turn queue up here."""
    held = Hold.objects.select_for_update(of=("self",)).select_related("tariff").filter(turn_id=turn_id).first()
    if held is None:
        raise NotHeld(f"turn {turn_id} has no hold")
    return held


def _correct(held: Hold, call_id: UUID, cost: Money, outcome: str, memo: str) -> bool:
    """One more entry, so that the call cost `cost` in all and is priced as one of this outcome; False: it is."""
    entries = LedgerEntry.objects.filter(call_id=call_id)
    so_far = entries.aggregate(*(Sum(name) for name in ("cost_micros", "amount_micros", "included_micros")))
    paid, covered = -so_far["amount_micros__sum"], so_far["included_micros__sum"]
    price = terms_of(held.tariff).price(cost, outcome).micros
    entry = _correction(entries.get(kind=LedgerEntry.Kind.CHARGE), outcome, memo)
    entry.cost_micros = cost.micros - so_far["cost_micros__sum"]
    _balance(entry, price - (paid + covered), min(price, covered) - covered)
    if not (entry.cost_micros or entry.amount_micros or entry.included_micros):
        return False
    _book_late(held, entry)
    return True


def _book_late(held: Hold, entry: LedgerEntry) -> None:
    entry.save(force_insert=True)
    budgets.count(held.spendings, Money(entry.included_micros - entry.amount_micros), released=ZERO)
    # Whether it needs the row or not: of several corrections in one transaction, the next may, after the account's.
    _allowance(held).update(used_micros=F("used_micros") + entry.included_micros)
    Hold.objects.filter(pk=held.pk).update(spent_micros=F("spent_micros") - entry.amount_micros)
    _move(held.tenant_id, entry.amount_micros)


def _move(tenant_id: UUID, balance: int) -> None:
    """Bring the account up to date with entries written in this transaction (micro-dollars)."""
    Account.objects.filter(tenant_id=tenant_id).update(balance_micros=F("balance_micros") + balance)


def _entry(held: Hold, charge: Charge) -> LedgerEntry:
    """A charge that does not balance yet."""
    return LedgerEntry(
        tenant_id=held.tenant_id,
        kind=LedgerEntry.Kind.CHARGE,
        period=held.period,
        hold=held,
        tariff_id=held.tariff_id,
        turn_id=held.turn_id,
        cost_micros=charge.cost.micros,
        dearest_micros=charge.dearest.micros,
        outcome=charge.outcome,
        estimated=charge.estimated,
        input_tokens=charge.input_tokens,
        output_tokens=charge.output_tokens,
        **{column: getattr(charge, column) for column in ABOUT_THE_CALL},
    )


def _correction(charge: LedgerEntry, outcome: str, memo: str) -> LedgerEntry:
    """An adjustment without amounts yet; it belongs to the month in which it is written."""
    return LedgerEntry(
        tenant_id=charge.tenant_id,
        kind=LedgerEntry.Kind.ADJUSTMENT,
        period=_this_month(charge.tenant_id),
        hold_id=charge.hold_id,
        tariff_id=charge.tariff_id,
        turn_id=charge.turn_id,
        corrects=charge,
        outcome=outcome,
        memo=memo,
        **{column: getattr(charge, column) for column in ABOUT_THE_CALL},
    )


def _balance(entry: LedgerEntry, price: int, included: int) -> None:
    """The tenant pays `price` less what its quota covers; what that leaves after the provider's cost is ours."""
    entry.included_micros = included
    entry.amount_micros = included - price
    entry.result_micros = entry.received_micros - entry.amount_micros - entry.cost_micros
