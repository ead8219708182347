"""The books hold: nothing is overdrawn, nothing is charged twice, and every sum can be proven."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, ProgrammingError, connection, connections
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.ledger import AlreadyHeld, InsufficientFunds, NotCharged, NotHeld
from accounts.models import Hold, LedgerEntry
from accounts.money import ZERO, Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import Terms, account, as_owner, at_once, charge, funded, held_turn, tamper

pytestmark = pytest.mark.usefixtures("database")

FLUSH = "pg_logical_emit_message"  # waits for the disk


@pytest.fixture
def alice() -> UUID:
    return create_tenant("Alice's shop", "alice", "alice@shop.example").id


@pytest.fixture
def charlie() -> UUID:
    return create_tenant("Charlie's", "charlie", "charlie@else.example").id


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


def test_a_settlement_is_on_disk_before_whoever_settles_goes_on(alice):
    funded(alice, 200)
    first, second = held_turn(alice, 50), held_turn(alice, 50)
    with CaptureQueriesContext(connection) as alone:
        ledger.settle(alice, first, [charge(20)])
    with CaptureQueriesContext(connection) as again:
        ledger.settle(alice, first, [charge(20)])
    with CaptureQueriesContext(connection) as beside:
        with in_tenant(alice):
            ledger.settle(alice, second, [charge(20)])
        flushed = len(beside)
    assert FLUSH in alone.captured_queries[-1]["sql"]
    assert not any(FLUSH in query["sql"] for query in again.captured_queries)
    assert [FLUSH in query["sql"] for query in beside.captured_queries].index(True) == flushed - 1


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
        assert {entry.corrects.call_id for entry in corrections} == {call_id}
        assert Hold.objects.get().spent_micros == 97
    assert ledger.check(alice) == []


def test_a_correction_carries_the_tokens_and_is_no_estimate_once_the_provider_has_told(alice):
    turn_id, call_id = held_turn(funded(alice, 1000), 500), uuid7()
    estimate = charge(100, estimated=True, call_id=call_id, input_tokens=80, output_tokens=50)
    ledger.settle(alice, turn_id, [estimate])
    assert ledger.adjust(alice, call_id, Money(100), "the provider's log", (90, 40))
    assert not ledger.adjust(alice, call_id, Money(100), "the provider's log", (90, 40))
    late = replace(estimate, cost=Money(70), estimated=False, input_tokens=60, output_tokens=10)
    assert ledger.settle_late(alice, turn_id, late, "it came after all")
    with in_tenant(alice):
        entries = LedgerEntry.objects.exclude(hold=None).order_by("created_at")
        told = [(entry.cost_micros, entry.input_tokens, entry.output_tokens, entry.estimated) for entry in entries]
    assert told == [(100, 80, 50, True), (0, 10, -10, False), (-30, -30, -30, False)]
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


def test_what_was_held_after_all_is_settled_when_the_turn_is_recorded(alice):
    turn_id = held_turn(funded(alice, 100), 50)
    assert ledger.record(alice, turn_id, [charge(3, source="scorer")])
    assert account(alice) == (97, 0)
    assert ledger.check(alice) == []


# --- any order ----------------------------------------------------------------------------

SMALL = st.integers(0, 40)
OUTCOMES = st.sampled_from(["accepted", "rejected", "failed"])
TERMS = st.one_of(
    st.builds(Terms, margin=st.sampled_from([Decimal(0), Decimal("0.3333"), Decimal(2)]), included=SMALL.map(Money)),
    st.builds(Terms, reply=SMALL.map(Money), included=SMALL.map(Money)),
)


class Books(RuleBasedStateMachine):
    """Alice's books under any sequence of movements, beside a model that only adds and subtracts."""

    turns = Bundle("turns")
    calls = Bundle("calls")
    tenant_id: UUID

    def __init__(self) -> None:
        super().__init__()
        self.tenant_id = create_tenant("any", f"any-{uuid4()}", "any@shop.example").id
        self.terms = Terms()
        self.received = self.given = self.charged = self.quota = 0  # micro-dollars; charged after the quota
        self.open: dict[UUID, tuple[Terms, int, int]] = {}  # terms, money, quota
        self.cost: dict[UUID, int] = {}
        self.tokens: dict[UUID, tuple[int, int]] = {}
        self.call: dict[UUID, tuple[Terms, str, int, int]] = {}  # terms, outcome, price, covered

    @property
    def free(self) -> int:
        return self.received + self.given - self.charged - sum(money for _, money, _ in self.open.values())

    @rule(terms=TERMS)
    def set_tariff(self, terms):
        margin = None if terms.reply is not None else terms.margin
        set_tariff(self.tenant_id, margin=margin, reply=terms.reply, included=terms.included)
        self.terms = terms

    @rule(micros=st.integers(1, 60))
    def top_up(self, micros):
        ledger.top_up(self.tenant_id, Money(micros), "any")
        self.received += micros

    @rule(micros=st.integers(1, 20))
    def credit(self, micros):
        ledger.credit(self.tenant_id, Money(micros), "any")
        self.given += micros

    @rule(target=turns, micros=SMALL)
    def hold(self, micros):
        turn_id, most = uuid7(), self.terms.ceiling(Money(micros)).micros
        reserved = sum(quota for _, _, quota in self.open.values())
        quota = max(0, min(most, self.terms.included.micros - self.quota - reserved))
        if most - quota > self.free:
            with pytest.raises(InsufficientFunds):
                ledger.hold(self.tenant_id, turn_id, Money(micros))
            return multiple()
        ledger.hold(self.tenant_id, turn_id, Money(micros))
        self.open[turn_id] = (self.terms, most - quota, quota)
        return turn_id

    @rule(turn_id=turns, micros=SMALL)
    def hold_again(self, turn_id, micros):
        with pytest.raises(AlreadyHeld):
            ledger.hold(self.tenant_id, turn_id, Money(micros))

    @rule(target=calls, turn_id=turns, uses=st.lists(st.tuples(SMALL, OUTCOMES), max_size=3))
    def settle(self, turn_id, uses):
        charges = [charge(cost, outcome=outcome) for cost, outcome in uses]
        held = self.open.pop(turn_id, None)
        assert ledger.settle(self.tenant_id, turn_id, charges) is (held is not None)
        if held is None:
            return multiple()
        terms = held[0]
        left = terms.included.micros - self.quota - sum(quota for _, _, quota in self.open.values())
        for each in charges:
            price = terms.price(each.cost, each.outcome).micros
            covered = max(0, min(price, left))
            left -= covered
            self.quota += covered
            self.charged += price - covered
            self.cost[each.call_id] = each.cost.micros
            self.tokens[each.call_id] = (each.input_tokens, each.output_tokens)
            self.call[each.call_id] = (terms, each.outcome, price, covered)
        return multiple(*(each.call_id for each in charges))

    @rule(target=calls, cost=SMALL)
    def record(self, cost):
        """At the operator's expense: only what is owed grows."""
        turn_id, used = uuid7(), charge(cost, outcome="accepted")
        assert ledger.record(self.tenant_id, turn_id, [used])
        assert not ledger.record(self.tenant_id, turn_id, [charge(cost)])
        with pytest.raises(AlreadyHeld):
            ledger.hold(self.tenant_id, turn_id, Money(cost))
        self.cost[used.call_id], self.tokens[used.call_id] = cost, (used.input_tokens, used.output_tokens)
        self.call[used.call_id] = (Terms(reply=ZERO), used.outcome, 0, 0)
        return used.call_id

    @rule(call_id=calls, correct=SMALL, tokens=st.none() | st.tuples(SMALL, SMALL))
    def adjust(self, call_id, correct, tokens):
        terms, outcome, price, covered = self.call[call_id]
        counted = tokens or self.tokens[call_id]
        changed = (self.cost[call_id], self.tokens[call_id]) != (correct, counted)
        assert ledger.adjust(self.tenant_id, call_id, Money(correct), "any", tokens) is changed
        new_price = terms.price(Money(correct), outcome).micros
        new_covered = min(new_price, covered)
        self.quota += new_covered - covered
        self.charged += (new_price - new_covered) - (price - covered)
        self.cost[call_id], self.tokens[call_id] = correct, counted
        self.call[call_id] = (terms, outcome, new_price, new_covered)

    @invariant()
    def the_books_are_right(self):
        balance = self.received + self.given - self.charged
        assert account(self.tenant_id) == (balance, sum(money for _, money, _ in self.open.values()))
        assert ledger.check(self.tenant_id) == []
        owed = sum(self.cost.values())
        counted = tuple(map(sum, zip((0, 0), *self.tokens.values(), strict=True)))
        assert sums(self.tenant_id) == (self.received, balance, owed, self.received - balance - owed, *counted)


def sums(tenant_id: UUID) -> tuple[int, ...]:
    """Received, the tenant's credit, owed to providers, the operator's result; tokens in and out."""
    names = [f"{name}_micros" for name in ("received", "amount", "cost", "result")]
    names += ["input_tokens", "output_tokens"]
    with in_tenant(tenant_id):
        found = LedgerEntry.objects.aggregate(*(Sum(name) for name in names))
    return tuple(int(found[f"{name}__sum"] or 0) for name in names)


def test_the_books_are_right_after_any_sequence_of_movements():
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


# --- at once ------------------------------------------------------------------------------


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
        (
            "UPDATE accounts_ledgerentry SET kind = 'adjustment', corrects_id = id, call_id = id WHERE kind = 'charge'",
            "never charged",
        ),
        (
            "UPDATE accounts_ledgerentry SET amount_micros = 20, result_micros = -47, kind = 'adjustment',"
            " corrects_id = id WHERE kind = 'charge'",
            "was charged -20 in all",
        ),
        (
            "UPDATE accounts_ledgerentry SET cost_micros = -1, result_micros = 21, kind = 'adjustment',"
            " corrects_id = id WHERE kind = 'charge'",
            "cost -1 in all",
        ),
        (
            "UPDATE accounts_ledgerentry SET kind = 'adjustment', corrects_id = id WHERE kind = 'charge'",
            "corrects no charge of its call",
        ),
        ("UPDATE accounts_allowance SET used_micros = 8", "says 8 is used, its entries come to 7"),
        ("UPDATE accounts_allowance SET held_micros = 4", "says 4 is reserved, its open holds come to 0"),
        ("DELETE FROM accounts_allowance", "says 0 is used, its entries come to 7"),
    ],
)
def test_tampered_books_are_found_out(alice, tampering, finding):
    funded(alice, 100)
    set_tariff(alice, margin=Decimal(0), included=Money(7))
    ledger.settle(alice, held_turn(alice, 50), [charge(27)])
    held_turn(alice, 10)
    assert ledger.check(alice) == []
    tamper(alice, tampering)
    assert finding in "\n".join(ledger.check(alice))
    with pytest.raises(CommandError):
        call_command("check_ledger")


TAMPERING = {  # beside the name of what refuses it
    "every_entry_balances": "INSERT INTO accounts_ledgerentry SELECT (jsonb_populate_record(e, jsonb_build_object("
    "'id', gen_random_uuid(), 'amount_micros', 5))).* FROM accounts_ledgerentry e WHERE kind = 'top_up'",
    "the_signs_fit_the_kind": "INSERT INTO accounts_ledgerentry SELECT (jsonb_populate_record(e, jsonb_build_object("
    "'id', gen_random_uuid(), 'amount_micros', -5, 'received_micros', -5))).* FROM accounts_ledgerentry e"
    " WHERE kind = 'top_up'",
    "an_entry_says_what_it_is_for": "INSERT INTO accounts_ledgerentry SELECT (jsonb_populate_record(e,"
    " jsonb_build_object('id', gen_random_uuid(), 'hold_id', (SELECT id FROM accounts_hold LIMIT 1)))).*"
    " FROM accounts_ledgerentry e WHERE kind = 'top_up'",
    "a_call_is_charged_once": "INSERT INTO accounts_ledgerentry SELECT (jsonb_populate_record(e, jsonb_build_object("
    "'id', gen_random_uuid()))).* FROM accounts_ledgerentry e WHERE kind = 'charge'",
    "says 20 was spent, its 2 entries come to 40": "INSERT INTO accounts_ledgerentry SELECT (jsonb_populate_record(e,"
    " jsonb_build_object('id', gen_random_uuid(), 'call_id', gen_random_uuid()))).* FROM accounts_ledgerentry e"
    " WHERE kind = 'charge'",
    "is append-only": "UPDATE accounts_ledgerentry SET memo = 'nothing happened'",
    "a hold is settled once": "UPDATE accounts_hold SET settled_at = now() WHERE settled_at IS NOT NULL",
    "otherwise stays as it is": "UPDATE accounts_hold SET amount_micros = 0 WHERE settled_at IS NULL",
    "says 21 was spent": "UPDATE accounts_hold SET spent_micros = 21 WHERE settled_at IS NOT NULL",
    "says 10 was spent, its 0 entries come to 0": "UPDATE accounts_hold SET settled_at = now(), spent_micros = 10"
    " WHERE settled_at IS NULL",
}


@pytest.mark.parametrize("refusal", TAMPERING)
def test_the_database_itself_refuses_books_that_are_wrong(alice, refusal):
    ledger.settle(alice, held_turn(funded(alice, 100), 50), [charge(20)])
    held_turn(alice, 10)
    with pytest.raises(DatabaseError, match=refusal):
        as_owner(f"SET LOCAL app.tenant = '{alice}'", TAMPERING[refusal], "SET CONSTRAINTS ALL IMMEDIATE")
    assert ledger.check(alice) == []


@pytest.mark.parametrize("column", ["spendings = ARRAY[gen_random_uuid()]", "created_at = now()"])
def test_what_a_hold_was_made_for_and_when_stays(alice, column):
    held_turn(funded(alice, 100), 50)
    with pytest.raises(DatabaseError, match="otherwise stays as it is"):
        as_owner(f"SET LOCAL app.tenant = '{alice}'", f"UPDATE accounts_hold SET {column}")


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
