"""A month's statement is right, closed once, numbered without gaps, and never changed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError, ProgrammingError
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts import ledger, statements
from accounts.ledger import Charge
from accounts.models import LedgerEntry, Statement
from accounts.money import ZERO, Money
from accounts.statements import CannotClose, Month, breakdown
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import (
    a_month_passes,
    account,
    as_owner,
    at_noon,
    at_once,
    charge,
    funded,
    held_turn,
    month_before,
    tamper,
    this_month,
)

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice() -> UUID:
    return at_noon(create_tenant("Alice's shop", "alice", "alice@shop.example").id)


@pytest.fixture
def last() -> date:
    return month_before(this_month())


def turn(tenant_id: UUID, *charges: Charge) -> UUID:
    turn_id = held_turn(tenant_id, 200)
    ledger.settle(tenant_id, turn_id, charges)
    return turn_id


# --- what it says -----------------------------------------------------------------------------


def test_a_statement_adds_up(alice):
    set_tariff(alice, margin=Decimal("0.5"), included=Money(30))
    funded(alice, 10_000)
    ledger.credit(alice, Money(500), "for the trouble")
    call_id = uuid7()
    turn(alice, charge(10, dearest=ZERO), charge(100, call_id=call_id, outcome="accepted", dearest=Money(700)))
    ledger.adjust(alice, call_id, Money(60), "provider's usage export")
    month = statements.month(alice, this_month())
    assert (month.number, month.opening) == (None, ZERO)
    assert (month.received, month.credited) == (Money(10_000), Money(500))
    assert (month.charged, month.included, month.corrected) == (Money(15 + 150), Money(30), Money(60))
    assert (month.cost, month.dearest, month.saved) == (Money(70), Money(700), Money(630))
    assert month.closing == ledger.available(alice) == Money(10_500 - 165 + 30 + 60)


def test_a_breakdown_comes_to_the_whole(alice):
    funded(alice, 10_000)
    bots = [uuid4(), uuid4()]
    for number, outcome in enumerate(["accepted", "rejected", "failed", "accepted"]):
        turn(alice, charge(10 + number, outcome=outcome, chatbot_id=bots[number % 2], model=f"m{number % 3}"))
    month = statements.month(alice, this_month())
    outcomes = breakdown(month.of("charge"), lambda line: line.outcome)
    assert outcomes == {
        "accepted": (2, Money(23), Money(23)),
        "failed": (1, Money(12), Money(12)),
        "rejected": (1, Money(11), Money(11)),
    }
    for by in (lambda line: line.model, lambda line: line.chatbot_id):
        parts = breakdown(month.of("charge"), by).values()
        assert sum((price for _, price, _ in parts), ZERO) == month.charged


def test_a_tenant_sees_its_own_month_alone(alice):
    funded(create_tenant("Charlie's", "charlie", "charlie@else.example").id, 777)
    assert statements.month(alice, this_month()) == Month(this_month(), ZERO, ())


def test_a_month_begins_on_its_first_day(alice):
    with pytest.raises(ValueError, match="first day"):
        statements.month(alice, date(2026, 11, 2))


# --- closing ------------------------------------------------------------------------------------


def test_a_closed_month_says_what_its_draft_said_and_opens_the_next(alice, last):
    funded(alice, 1000)
    turn(alice, charge(40))
    a_month_passes(alice)
    drafted = statements.draft(alice, last)
    closed = statements.close(alice, last)
    assert closed.number == 1
    assert (closed.lines, closed.opening, closed.closing) == (drafted.lines, ZERO, Money(960))
    turn(alice, charge(5))
    assert statements.month(alice, last) == closed
    following = statements.month(alice, this_month())
    assert (following.opening, following.charged, following.closing) == (Money(960), Money(5), Money(955))
    assert ledger.check(alice) == []


def test_open_months_are_those_that_can_still_change(alice, last):
    assert statements.open_months(alice) == [this_month()]
    funded(alice, 1000)
    a_month_passes(alice)
    a_month_passes(alice)
    funded(alice, 5)
    assert statements.open_months(alice) == [this_month(), month_before(this_month(), 2)]
    statements.close(alice, month_before(this_month(), 2))
    assert statements.open_months(alice) == [this_month()]


def test_a_correction_of_a_closed_month_stands_in_the_open_one_and_says_what_it_corrects(alice, last):
    call_id = uuid7()
    turn(funded(alice, 1000), charge(40, call_id=call_id, estimated=True))
    a_month_passes(alice)
    closed = statements.close(alice, last)
    ledger.adjust(alice, call_id, Money(25), "provider's usage export")
    assert statements.month(alice, last) == closed
    assert statements.month(alice, this_month()).corrected == Money(15)
    with in_tenant(alice):
        entry = LedgerEntry.objects.get(kind="adjustment")
        assert (entry.corrects.period, entry.corrects.call_id) == (last, call_id)
    assert ledger.check(alice) == []


def test_a_call_that_is_found_after_its_month_was_closed_is_charged_in_the_open_one(alice, last):
    turn_id = turn(funded(alice, 1000))
    a_month_passes(alice)
    statements.close(alice, last)
    ledger.settle_late(alice, turn_id, charge(7), "found in the provider's usage export")
    assert statements.month(alice, this_month()).charged == Money(7)
    assert ledger.check(alice) == []


def test_a_turn_that_runs_past_the_end_is_charged_to_the_month_in_which_it_began(alice, last):
    running = held_turn(funded(alice, 1000), 100)
    a_month_passes(alice)
    with pytest.raises(CannotClose, match="not settled"):
        statements.close(alice, last)
    ledger.settle(alice, running, [charge(40)])
    assert statements.close(alice, last).charged == Money(40)


def test_a_month_is_closed_once_in_order_and_after_its_end(alice, last):
    funded(alice, 1000)
    a_month_passes(alice)
    turn(alice, charge(1))
    a_month_passes(alice)
    turn(alice, charge(2))
    with pytest.raises(CannotClose, match="not over"):
        statements.close(alice, this_month())
    with pytest.raises(CannotClose, match=r"a month before .* is open"):
        statements.close(alice, last)
    assert statements.close(alice, month_before(last)).number == 1
    assert statements.close(alice, last).number == 2
    with pytest.raises(CannotClose, match="is closed"):
        statements.close(alice, last)
    with pytest.raises(CannotClose, match="nothing can be closed before"):
        statements.close(alice, month_before(last, 5))


def test_many_who_close_at_once_close_once(alice, last):
    funded(alice, 1000)
    a_month_passes(alice)
    outcomes = at_once(lambda _: statements.close(alice, last), range(8))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CannotClose"] * 7 + ["Month"]
    assert ledger.check(alice) == []


def test_turns_go_on_while_a_month_is_closed(alice, last, monkeypatch):
    funded(alice, 1000)
    a_month_passes(alice)
    draft = statements.draft  # closing reads it once nothing can come to the month any more

    def turns_meanwhile(*told):
        at_once(lambda micros: turn(alice, charge(micros)), [40])
        assert at_once(lambda _: account(alice), [0]) == [(960, 0)]
        return draft(*told)

    monkeypatch.setattr(statements, "draft", turns_meanwhile)
    assert statements.close(alice, last).closing == Money(1000)
    assert ledger.check(alice) == []


def test_nothing_leads_back_into_a_closed_month(alice):
    funded(alice, 1000)
    with in_tenant(alice):  # as where a tenant moved west, or the clock was set back, after the month was closed
        Statement.objects.create(
            tenant_id=alice, number=1, period=this_month(), opening_micros=0, closing_micros=1000, lines=[]
        )
    call_id = uuid7()
    turn(alice, charge(40, call_id=call_id))
    ledger.adjust(alice, call_id, Money(25), "provider's usage export")
    funded(alice, 7)
    with in_tenant(alice):
        found = LedgerEntry.objects.filter(period__gt=this_month()).values_list("period", flat=True)
        assert [month_before(period) for period in found] == [this_month()] * 3
    assert account(alice) == (1000 - 25 + 7, 0)


# --- never changed --------------------------------------------------------------------------------


def test_the_database_refuses_entries_for_a_closed_month(alice, last):
    funded(alice, 1000)
    a_month_passes(alice)
    statements.close(alice, last)
    for period in (last, month_before(last)):
        with pytest.raises(DatabaseError, match="is closed"), in_tenant(alice):
            LedgerEntry.objects.create(
                tenant_id=alice, kind="top_up", period=period, received_micros=5, amount_micros=5
            )


def test_a_statement_cannot_be_changed_deleted_or_misnumbered(alice, last):
    funded(alice, 1000)
    a_month_passes(alice)
    statements.close(alice, last)
    for change in (lambda: Statement.objects.update(closing_micros=0), lambda: Statement.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="permission denied"), in_tenant(alice):
            change()
    for number in (1, 3):
        with pytest.raises(DatabaseError, match="not the next"), in_tenant(alice):
            Statement.objects.create(
                tenant_id=alice, number=number, period=this_month(), opening_micros=0, closing_micros=0, lines=[]
            )
    with pytest.raises(DatabaseError, match="append-only"):
        as_owner(f"SET LOCAL app.tenant = '{alice}'", "UPDATE accounts_statement SET closing_micros = 0")


@pytest.mark.parametrize(
    ("tampering", "finding"),
    [
        ("UPDATE accounts_statement SET closing_micros = 7", "statement 1 says 7 is left, the entries come to 1000"),
        ("UPDATE accounts_statement SET lines = '[]'", "opens with 0 and closes with 1000, its lines come to 0"),
        ("UPDATE accounts_statement SET number = 2", "there are 1 statements, the last is number 2"),
        ("UPDATE accounts_ledgerentry SET period = period + 40", "the entries come to 0"),
    ],
)
def test_a_statement_that_was_tampered_with_is_found_out(alice, last, tampering, finding):
    funded(alice, 1000)
    a_month_passes(alice)
    statements.close(alice, last)
    tamper(alice, tampering)
    assert finding in "\n".join(ledger.check(alice))


# --- any months -------------------------------------------------------------------------------------

MONTHS = st.lists(st.lists(st.integers(0, 50), max_size=4), min_size=1, max_size=4)


@settings(max_examples=12)
@given(MONTHS)
def test_statements_follow_from_each_other_and_come_to_the_balance(months):
    tenant_id = at_noon(create_tenant("any", f"any-{uuid4()}", "any@shop.example").id)
    for costs in months:
        funded(tenant_id, 1000)
        for cost in costs:
            turn(tenant_id, charge(cost))
        a_month_passes(tenant_id)
    periods = [month_before(this_month(), back) for back in range(len(months), 0, -1)]
    closed = [statements.close(tenant_id, period) for period in periods]
    assert [month.number for month in closed] == list(range(1, len(months) + 1))
    assert [month.charged for month in closed] == [Money(sum(costs)) for costs in months]
    assert [month.opening for month in closed] == [ZERO, *(month.closing for month in closed[:-1])]
    assert closed[-1].closing == ledger.available(tenant_id)
    assert ledger.check(tenant_id) == []
