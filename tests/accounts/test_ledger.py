"""The books hold: nothing is overdrawn, nothing is charged twice, and every sum can be proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.ledger import AlreadyHeld, Charge, InsufficientFunds, NotCharged, NotHeld
from accounts.models import Account, Hold, LedgerEntry
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice() -> UUID:
    return create_tenant("Alice's shop", "alice", "alice@shop.example").id


@pytest.fixture
def charlie() -> UUID:
    return create_tenant("Charlie's", "charlie", "charlie@else.example").id


def charge(micros: int, *, estimated: bool = False, call_id: UUID | None = None) -> Charge:
    return Charge(
        call_id=call_id or uuid7(),
        conversation_id=uuid4(),
        chatbot_id=uuid4(),
        number=0,
        tier=0,
        model="local/small",
        outcome="rejected",
        price_version="p1",
        cost=Money(micros),
        estimated=estimated,
        input_tokens=120,
        output_tokens=30,
    )


def funded(tenant_id: UUID, micros: int) -> UUID:
    ledger.top_up(tenant_id, Money(micros), "funds")
    return tenant_id


def held_turn(tenant_id: UUID, micros: int) -> UUID:
    turn_id = uuid7()
    ledger.hold(tenant_id, turn_id, Money(micros))
    return turn_id


def account(tenant_id: UUID) -> tuple[int, int]:
    with in_tenant(tenant_id):
        return Account.objects.values_list("balance_micros", "held_micros").get()


# --- one turn -----------------------------------------------------------------------------


def test_a_hold_is_not_available_to_the_next_turn(alice):
    funded(alice, 100)
    held_turn(alice, 60)
    assert ledger.available(alice) == Money(40)
    with pytest.raises(InsufficientFunds) as refused:
        held_turn(alice, 41)
    assert (refused.value.needed, refused.value.available) == (Money(41), Money(40))
    held_turn(alice, 40)
    assert account(alice) == (100, 100)


def test_a_refused_hold_leaves_no_trace(alice):
    turn_id = uuid7()
    with pytest.raises(InsufficientFunds):
        ledger.hold(alice, turn_id, Money(1))
    ledger.hold(funded(alice, 1), turn_id, Money(1))


def test_a_tenant_without_an_account_has_nothing_to_hold():
    nobody = uuid7()
    assert ledger.available(nobody) == ZERO
    with pytest.raises(InsufficientFunds):
        ledger.hold(nobody, uuid7(), Money(1))


def test_a_turn_is_held_once(alice):
    turn_id = held_turn(funded(alice, 100), 10)
    with pytest.raises(AlreadyHeld):
        ledger.hold(alice, turn_id, Money(10))
    ledger.settle(alice, turn_id, [])
    with pytest.raises(AlreadyHeld):
        ledger.hold(alice, turn_id, Money(10))
    assert account(alice) == (100, 0)


def test_settling_charges_every_attempt_and_releases_the_rest(alice):
    turn_id = held_turn(funded(alice, 1000), 500)
    assert ledger.settle(alice, turn_id, [charge(7), charge(11, estimated=True), charge(0)])
    assert account(alice) == (982, 0)
    with in_tenant(alice):
        entries = LedgerEntry.objects.filter(kind="charge").order_by("amount_micros")
        assert [(entry.amount_micros, entry.estimated) for entry in entries] == [(-11, True), (-7, False), (0, False)]
        assert {(entry.turn_id, entry.hold.spent_micros) for entry in entries} == {(turn_id, 18)}
        assert (entries[0].model, entries[0].input_tokens, entries[0].price_version) == ("local/small", 120, "p1")


def test_a_second_settlement_writes_nothing(alice):
    turn_id = held_turn(funded(alice, 100), 50)
    assert ledger.settle(alice, turn_id, [charge(20)])
    assert not ledger.settle(alice, turn_id, [charge(20)])
    assert not ledger.settle(alice, turn_id, [])
    assert account(alice) == (80, 0)


def test_no_charges_release_the_whole_hold(alice):
    turn_id = held_turn(funded(alice, 100), 50)
    assert ledger.settle(alice, turn_id, [])
    assert account(alice) == (100, 0)


def test_usage_above_the_ceiling_is_charged_all_the_same(alice):
    turn_id = held_turn(funded(alice, 100), 100)
    assert ledger.settle(alice, turn_id, [charge(130)])
    assert ledger.available(alice) == Money(-30)
    with pytest.raises(InsufficientFunds):
        held_turn(alice, 0)
    assert ledger.check(alice) == []


def test_a_call_is_charged_once_even_under_another_turn(alice):
    funded(alice, 100)
    first, second, call_id = held_turn(alice, 10), held_turn(alice, 10), uuid7()
    ledger.settle(alice, first, [charge(5, call_id=call_id)])
    with pytest.raises(Exception, match="a_call_is_charged_once"):
        ledger.settle(alice, second, [charge(5, call_id=call_id)])
    assert account(alice) == (95, 10)


def test_a_settlement_fails_whole_with_the_transcript_it_stands_beside(alice):
    turn_id = held_turn(funded(alice, 100), 50)
    with suppress(ZeroDivisionError), in_tenant(alice):
        assert ledger.settle(alice, turn_id, [charge(20)])
        raise ZeroDivisionError
    assert account(alice) == (100, 50)
    assert ledger.settle(alice, turn_id, [charge(20)])


def test_what_makes_no_sense_is_refused(alice):
    funded(alice, 100)
    for nonsense in (
        lambda: ledger.top_up(alice, ZERO, "nothing"),
        lambda: ledger.top_up(alice, Money(-5), "a theft"),
        lambda: held_turn(alice, -1),
        lambda: ledger.settle(alice, held_turn(alice, 5), [charge(-1)]),
        lambda: ledger.adjust(alice, uuid7(), Money(-1), "a gift"),
    ):
        with pytest.raises(ValueError, match=r"\$|negative"):
            nonsense()
    with pytest.raises(NotHeld):
        ledger.settle(alice, uuid7(), [])


# --- corrections --------------------------------------------------------------------------


def test_an_estimate_is_corrected_by_one_more_entry(alice):
    turn_id, call_id = held_turn(funded(alice, 1000), 500), uuid7()
    ledger.settle(alice, turn_id, [charge(100, estimated=True, call_id=call_id), charge(7)])
    assert ledger.adjust(alice, call_id, Money(130), "provider's usage export")
    assert account(alice) == (1000 - 137, 0)
    assert not ledger.adjust(alice, call_id, Money(130), "again")
    assert ledger.adjust(alice, call_id, Money(90), "credited")
    assert account(alice) == (1000 - 97, 0)
    with in_tenant(alice):
        corrections = LedgerEntry.objects.filter(kind="adjustment").order_by("created_at")
        assert [entry.amount_micros for entry in corrections] == [-30, 40]
        assert {(entry.turn_id, entry.call_id, entry.model) for entry in corrections} == {
            (turn_id, call_id, "local/small")
        }
        assert Hold.objects.get().spent_micros == 97
    assert ledger.check(alice) == []


def test_a_call_that_was_never_charged_cannot_be_corrected(alice, charlie):
    call_id = uuid7()
    ledger.settle(alice, held_turn(funded(alice, 100), 50), [charge(10, call_id=call_id)])
    with pytest.raises(NotCharged):
        ledger.adjust(alice, uuid7(), Money(1), "?")
    with pytest.raises(NotCharged):
        ledger.adjust(charlie, call_id, ZERO, "not Charlie's")


# --- two tenants --------------------------------------------------------------------------


def test_nobody_spends_or_settles_anothers_money(alice, charlie):
    turn_id = held_turn(funded(alice, 100), 50)
    assert ledger.available(charlie) == ZERO
    with pytest.raises(NotHeld):
        ledger.settle(charlie, turn_id, [charge(50)])
    with pytest.raises(AlreadyHeld):
        ledger.hold(funded(charlie, 100), turn_id, Money(1))
    assert (account(alice), account(charlie)) == ((100, 50), (100, 0))


# --- any order ----------------------------------------------------------------------------

SMALL = st.integers(0, 40)


class Books(RuleBasedStateMachine):
    """Alice's books under any sequence of movements, beside a model that only adds and subtracts."""

    turns = Bundle("turns")
    calls = Bundle("calls")
    tenant_id: UUID

    def __init__(self) -> None:
        super().__init__()
        self.tenant_id = create_tenant("any", f"any-{uuid4()}", "any@shop.example").id
        self.balance = 0
        self.open: dict[UUID, int] = {}
        self.paid: dict[UUID, int] = {}

    @rule(micros=st.integers(1, 60))
    def top_up(self, micros):
        ledger.top_up(self.tenant_id, Money(micros), "any")
        self.balance += micros

    @rule(target=turns, micros=SMALL)
    def hold(self, micros):
        turn_id, free = uuid7(), self.balance - sum(self.open.values())
        if micros > free:
            with pytest.raises(InsufficientFunds):
                ledger.hold(self.tenant_id, turn_id, Money(micros))
            return multiple()
        ledger.hold(self.tenant_id, turn_id, Money(micros))
        self.open[turn_id] = micros
        return turn_id

    @rule(turn_id=turns, micros=SMALL)
    def hold_again(self, turn_id, micros):
        with pytest.raises(AlreadyHeld):
            ledger.hold(self.tenant_id, turn_id, Money(micros))

    @rule(target=calls, turn_id=turns, costs=st.lists(SMALL, max_size=3))
    def settle(self, turn_id, costs):
        charges = [charge(cost) for cost in costs]
        first = self.open.pop(turn_id, None) is not None
        assert ledger.settle(self.tenant_id, turn_id, charges) is first
        if not first:
            return multiple()
        self.balance -= sum(costs)
        self.paid |= {each.call_id: each.cost.micros for each in charges}
        return multiple(*(each.call_id for each in charges))

    @rule(call_id=calls, correct=SMALL)
    def adjust(self, call_id, correct):
        assert ledger.adjust(self.tenant_id, call_id, Money(correct), "any") is (self.paid[call_id] != correct)
        self.balance -= correct - self.paid[call_id]
        self.paid[call_id] = correct

    @invariant()
    def the_books_are_right(self):
        assert account(self.tenant_id) == (self.balance, sum(self.open.values()))
        assert ledger.check(self.tenant_id) == []


def test_the_books_are_right_after_any_sequence_of_movements():
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


# --- at once ------------------------------------------------------------------------------


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


def test_parallel_holds_overdraw_nothing_and_refuse_nobody_who_fits(alice):
    funded(alice, 100)
    outcomes = at_once(lambda turn_id: ledger.hold(alice, turn_id, Money(10)), [uuid7() for _ in range(40)])
    assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes) == 30
    assert account(alice) == (100, 100)
    assert ledger.check(alice) == []


def test_parallel_holds_of_one_turn_are_one_hold(alice):
    funded(alice, 100)
    turn_id = uuid7()
    outcomes = at_once(lambda _: ledger.hold(alice, turn_id, Money(10)), range(16))
    assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyHeld) for outcome in outcomes) == 15
    assert account(alice) == (100, 10)


def test_parallel_settlements_of_one_hold_charge_once(alice):
    turn_id = held_turn(funded(alice, 100), 50)
    outcomes = at_once(lambda micros: ledger.settle(alice, turn_id, [charge(micros)]), range(1, 17))
    assert sorted(outcomes) == [False] * 15 + [True]
    assert account(alice) == (100 - 1 - outcomes.index(True), 0)
    assert ledger.check(alice) == []


def test_a_correction_waits_for_the_one_before_it(alice):
    turn_id, call_id = held_turn(funded(alice, 1000), 500), uuid7()
    ledger.settle(alice, turn_id, [charge(100, call_id=call_id)])

    def correct(_):
        return ledger.adjust(alice, call_id, Money(60), "export")

    with ThreadPoolExecutor(1) as meanwhile:
        with in_tenant(alice):
            assert correct(None)
            second = meanwhile.submit(at_once, correct, [None])
            with suppress(TimeoutError):
                second.result(timeout=0.5)
        assert second.result() == [False]
    assert account(alice) == (940, 0)
    assert ledger.check(alice) == []


def test_everything_at_once_ends_in_right_books(alice):
    funded(alice, 200)

    def turn(number):
        turn_id = held_turn(alice, 10)
        ledger.top_up(alice, Money(1), "meanwhile")
        call_id = uuid7()
        ledger.settle(alice, turn_id, [charge(number % 12, call_id=call_id)])
        ledger.adjust(alice, call_id, Money(3), "export")

    failures = [outcome for outcome in at_once(turn, range(40)) if outcome is not None]
    assert all(isinstance(failure, InsufficientFunds) for failure in failures)
    turns = 40 - len(failures)
    assert account(alice) == (200 + turns - 3 * turns, 0)
    assert ledger.check(alice) == []


# --- the proof itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tampering", "finding"),
    [
        (
            "UPDATE accounts_account SET balance_micros = balance_micros + 1",
            "the balance is 81, the entries come to 80",
        ),
        ("UPDATE accounts_account SET held_micros = held_micros + 1", "11 is held, the open holds come to 10"),
        ("DELETE FROM accounts_account", "entries and 2 holds but no account"),
        ("UPDATE accounts_hold SET spent_micros = 21 WHERE settled_at IS NOT NULL", "says 21 was spent"),
        ("UPDATE accounts_hold SET settled_at = NULL, spent_micros = NULL", "is open and has 1 entries"),
        ("UPDATE accounts_hold SET turn_id = id", "stands on no hold of that turn"),
        ("UPDATE accounts_ledgerentry SET kind = 'adjustment', call_id = id WHERE kind = 'charge'", "never charged"),
        (
            "UPDATE accounts_ledgerentry SET kind = 'adjustment', amount_micros = 20 WHERE kind = 'charge'",
            "was charged",
        ),
        (
            "UPDATE accounts_ledgerentry SET hold_id = NULL, kind = 'adjustment' WHERE kind = 'charge'",
            "stands on no hold",
        ),
    ],
)
def test_tampered_books_are_found_out(alice, tampering, finding):
    funded(alice, 100)
    ledger.settle(alice, held_turn(alice, 50), [charge(20)])
    held_turn(alice, 10)
    assert ledger.check(alice) == []
    as_owner(
        f"SET LOCAL app.tenant = '{alice}'",
        "ALTER TABLE accounts_ledgerentry DISABLE TRIGGER append_only",
        tampering,
        "ALTER TABLE accounts_ledgerentry ENABLE TRIGGER append_only",
    )
    assert finding in "\n".join(ledger.check(alice))
    with pytest.raises(CommandError):
        call_command("check_ledger")


def as_owner(*statements: str) -> None:
    from django.db import transaction

    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_the_app_cannot_rewrite_the_books(alice):
    funded(alice, 100)
    for statement in ("DELETE FROM accounts_account", "DELETE FROM accounts_hold", "DELETE FROM accounts_ledgerentry"):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            in_tenant(alice),
            connections["default"].cursor() as cursor,
        ):
            cursor.execute(statement)


def test_all_tenants_books_are_checked(alice, charlie, capsys):
    funded(alice, 100)
    call_command("check_ledger")
    assert "2 tenants" in capsys.readouterr().out
    as_owner(f"SET LOCAL app.tenant = '{charlie}'", "UPDATE accounts_account SET balance_micros = 5")
    with pytest.raises(CommandError, match="1 "):
        call_command("check_ledger")
    assert "charlie: the balance is 5, the entries come to 0" in capsys.readouterr().err
