"""A tenant pays by its tariff: dated, pinned to the turn, rounded once, with both amounts on every entry."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.ledger import Charge, InsufficientFunds
from accounts.models import Allowance, Hold, LedgerEntry, Tariff
from accounts.money import ZERO, Money
from accounts.tariffs import TariffTaken, price, set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import account, at_once, charge, held_turn

pytestmark = pytest.mark.usefixtures("database")

MICROS = st.integers(0, 10**15).map(Money)
MARGINS = st.decimals(0, 100, places=4, allow_nan=False)


@pytest.fixture
def alice(database) -> UUID:
    tenant_id = create_tenant("Alice's shop", "alice", "alice@shop.example").id
    ledger.top_up(tenant_id, Money(10_000), "funds")
    return tenant_id


def entries(tenant_id: UUID, *columns: str, **which: object) -> list[tuple]:
    with in_tenant(tenant_id):
        return list(LedgerEntry.objects.filter(**which).order_by("created_at", "number", "id").values_list(*columns))


def accepted(micros: int, **more: object) -> Charge:
    return charge(micros, outcome="accepted", **more)


# --- the arithmetic -------------------------------------------------------------------------


@given(MARGINS, st.lists(MICROS, max_size=12))
def test_the_prices_of_calls_never_come_to_more_than_the_price_of_their_sum(margin, costs):
    tariff = Tariff(margin=margin)
    prices = [price(tariff, cost, "rejected") for cost in costs]
    assert sum(prices, ZERO) <= price(tariff, sum(costs, ZERO), "accepted")
    for cost, asked in zip(costs, prices, strict=True):
        exact = Decimal(cost.micros) * (1 + margin)
        assert exact - 1 < asked.micros <= exact


@given(MICROS, MICROS)
def test_a_price_for_a_reply_asks_nothing_else(reply, cost):
    tariff = Tariff(reply_micros=reply.micros)
    assert price(tariff, cost, "accepted") == reply
    assert {price(tariff, cost, outcome) for outcome in ("rejected", "failed", "cancelled", "")} == {ZERO}


# --- on the books ---------------------------------------------------------------------------


def test_without_a_tariff_the_tenant_pays_what_the_provider_charges(alice):
    ledger.settle(alice, held_turn(alice, 50), [charge(20)])
    assert entries(alice, "amount_micros", "cost_micros", "result_micros", kind="charge") == [(-20, 20, 0)]


def test_both_amounts_stand_on_every_entry(alice):
    set_tariff(alice, margin=Decimal("0.25"))
    turn_id = held_turn(alice, 1000)
    assert account(alice) == (10_000, 1250)
    ledger.settle(alice, turn_id, [charge(10), accepted(803)])
    amounts = ("amount_micros", "cost_micros", "result_micros", "received_micros")
    assert sorted(entries(alice, *amounts, kind="charge")) == [(-1003, 803, 200, 0), (-12, 10, 2, 0)]
    assert account(alice) == (10_000 - 1015, 0)
    assert ledger.check(alice) == []


def test_a_price_for_a_reply_is_charged_once_and_drafts_at_the_operators_expense(alice):
    set_tariff(alice, reply=Money(500))
    ledger.settle(alice, held_turn(alice, 90_000), [charge(70), accepted(60)])
    found = sorted(entries(alice, "amount_micros", "cost_micros", "result_micros", kind="charge"))
    assert found == [(-500, 60, 440), (0, 70, -70)]
    ledger.settle(alice, held_turn(alice, 90_000), [charge(70), charge(60)])
    assert account(alice) == (9_500, 0)


def test_a_turn_is_charged_by_the_tariff_of_its_beginning(alice):
    set_tariff(alice, margin=Decimal(1))
    turn_id = held_turn(alice, 100)
    set_tariff(alice, margin=Decimal(9))
    ledger.settle(alice, turn_id, [charge(100)])
    assert account(alice) == (10_000 - 200, 0)


def test_a_tariff_begins_at_its_moment(alice):
    set_tariff(alice, margin=Decimal(1))
    set_tariff(alice, margin=Decimal(5), valid_from=timezone.now() + timedelta(days=1))
    ledger.settle(alice, held_turn(alice, 100), [charge(100)])
    assert account(alice) == (10_000 - 200, 0)


def test_a_tariff_is_superseded_and_never_changed(alice):
    set_tariff(alice, margin=Decimal(1))
    for change in (lambda: Tariff.objects.update(margin=2), lambda: Tariff.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="permission denied"), in_tenant(alice):
            change()


def test_a_tariff_that_makes_no_sense_is_refused(alice):
    moment = datetime(2099, 1, 1, tzinfo=UTC)
    for nonsense in (
        {},
        {"margin": Decimal(1), "reply": Money(1)},
        {"margin": Decimal("-0.1")},
        {"margin": Decimal("0.00001")},
        {"margin": Decimal("NaN")},
        {"margin": Decimal(10_000)},
        {"reply": Money(-1)},
        {"reply": Money(1), "included": Money(-1)},
        {"reply": Money(1), "valid_from": datetime(2020, 1, 1, tzinfo=UTC)},
    ):
        with pytest.raises(ValueError, match=r"tariff|margin"):
            set_tariff(alice, **nonsense)
    set_tariff(alice, reply=Money(1), valid_from=moment)
    with pytest.raises(TariffTaken):
        set_tariff(alice, reply=Money(2), valid_from=moment)


def test_a_correction_follows_the_tariff_of_the_charge(alice):
    set_tariff(alice, margin=Decimal("0.5"))
    call_id = uuid7()
    ledger.settle(alice, held_turn(alice, 1000), [charge(100, call_id=call_id, estimated=True)])
    set_tariff(alice, margin=Decimal(9))
    assert ledger.adjust(alice, call_id, Money(40), "provider's usage export")
    found = entries(alice, "amount_micros", "cost_micros", "result_micros", kind="adjustment")
    assert found == [(90, -60, -30)]
    assert account(alice) == (10_000 - 60, 0)
    assert ledger.check(alice) == []


def test_a_reply_that_turns_out_accepted_is_charged_as_one(alice):
    set_tariff(alice, reply=Money(500))
    turn_id, call_id = held_turn(alice, 90), uuid7()
    ledger.settle(alice, turn_id, [charge(60, call_id=call_id, outcome="failed")])
    assert account(alice) == (10_000, 0)
    assert ledger.settle_late(alice, turn_id, accepted(60, call_id=call_id), "it was answered after all")
    assert not ledger.settle_late(alice, turn_id, accepted(60, call_id=call_id), "again")
    assert account(alice) == (9_500, 0)
    assert ledger.check(alice) == []


def test_what_was_used_besides_models_has_rows_of_its_own(alice):
    turn = held_turn(alice, 100)
    uses = [charge(40), charge(3, source="scorer"), charge(1, source="embedding"), charge(0, source="cache")]
    ledger.settle(alice, turn, uses)
    found = entries(alice, "source", "cost_micros", turn_id=turn)
    assert sorted(found) == [("cache", 0), ("embedding", 1), ("model", 40), ("scorer", 3)]
    assert account(alice) == (10_000 - 44, 0)


# --- the included quota -----------------------------------------------------------------------


def test_the_included_quota_pays_first(alice):
    set_tariff(alice, margin=Decimal(0), included=Money(150))
    ledger.settle(alice, held_turn(alice, 100), [charge(100)])
    ledger.settle(alice, held_turn(alice, 100), [charge(100)])
    found = entries(alice, "included_micros", "amount_micros", "cost_micros", "result_micros", kind="charge")
    assert found == [(100, 0, 100, -100), (50, -50, 100, -50)]
    assert account(alice) == (10_000 - 50, 0)
    assert ledger.check(alice) == []


def test_a_tenant_without_money_uses_its_quota_and_no_more(database):
    nobody = create_tenant("Poor", "poor", "poor@shop.example").id
    set_tariff(nobody, reply=Money(10), included=Money(25))
    outcomes = at_once(lambda turn_id: ledger.hold(nobody, turn_id, Money(1)), [uuid7() for _ in range(12)])
    assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 2
    assert sum(isinstance(outcome, InsufficientFunds) for outcome in outcomes) == 10
    assert ledger.check(nobody) == []


def test_quota_that_a_turn_did_not_need_is_free_for_the_next(alice):
    set_tariff(alice, margin=Decimal(0), included=Money(100))
    ledger.settle(alice, held_turn(alice, 100), [charge(10)])
    ledger.settle(alice, held_turn(alice, 100), [charge(90)])
    assert account(alice) == (10_000, 0)
    with in_tenant(alice):
        assert Allowance.objects.values_list("used_micros", "held_micros").get() == (100, 0)


def test_quota_on_hold_refuses_only_for_now(database):
    nobody = create_tenant("No money", "nobody", "nobody@shop.example").id
    set_tariff(nobody, margin=Decimal(0), included=Money(25))
    running = held_turn(nobody, 20)
    for wanted, for_now in ((10, True), (25, True), (26, False)):
        with pytest.raises(InsufficientFunds) as refused:
            held_turn(nobody, wanted)
        assert refused.value.for_now is for_now
    ledger.settle(nobody, running, [charge(1)])
    held_turn(nobody, 10)
    with pytest.raises(InsufficientFunds) as refused:
        held_turn(nobody, 25)
    assert not refused.value.for_now


def test_several_corrections_at_once_wait_in_no_circle(alice):
    set_tariff(alice, margin=Decimal(0), included=Money(100))
    calls = [charge(60, call_id=uuid7()), charge(60, call_id=uuid7())]
    turn_id = held_turn(alice, 120)
    ledger.settle(alice, turn_id, calls)
    with ThreadPoolExecutor(1) as meanwhile:
        with in_tenant(alice):
            ledger.settle_late(alice, turn_id, replace(calls[1], cost=Money(70)), "known")  # money alone
            other = meanwhile.submit(at_once, lambda _: held_turn(alice, 5), [None])
            with suppress(TimeoutError):
                other.result(timeout=0.5)
            ledger.settle_late(alice, turn_id, replace(calls[0], cost=Money(50)), "known")  # and quota
        assert isinstance(other.result()[0], UUID)
    assert ledger.check(alice) == []


def test_a_correction_gives_back_quota_and_not_money_that_was_never_paid(alice):
    set_tariff(alice, margin=Decimal(0), included=Money(100))
    call_id = uuid7()
    ledger.settle(alice, held_turn(alice, 120), [charge(120, call_id=call_id)])
    assert account(alice) == (10_000 - 20, 0)
    ledger.adjust(alice, call_id, Money(70), "provider's usage export")
    assert account(alice) == (10_000, 0)
    with in_tenant(alice):
        assert Allowance.objects.get().used_micros == 70
    assert ledger.check(alice) == []


def test_parallel_turns_use_the_quota_exactly(alice):
    set_tariff(alice, margin=Decimal(0), included=Money(103))

    def turn(_):
        ledger.settle(alice, held_turn(alice, 10), [charge(7)])

    assert at_once(turn, range(30)) == [None] * 30
    assert account(alice) == (10_000 - (30 * 7 - 103), 0)
    assert ledger.check(alice) == []


# --- the month ------------------------------------------------------------------------------


def test_an_entry_belongs_to_the_month_where_the_tenant_is(database):
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):  # 25 hours apart
        tenant = create_tenant(zone, f"shop-{uuid4().hex[:8]}", "a@shop.example")
        with in_tenant(tenant.id):
            type(tenant).objects.update(time_zone=zone)
            ledger.top_up(tenant.id, Money(100), "funds")
            ledger.settle(tenant.id, held_turn(tenant.id, 10), [charge(5)])
            month = Hold.objects.get().created_at.astimezone(ZoneInfo(zone)).date().replace(day=1)
            assert set(LedgerEntry.objects.values_list("period", flat=True)) == {month}


# --- the operator -----------------------------------------------------------------------------


def test_the_operator_sets_a_tariff(alice):
    told = StringIO()
    call_command("set_tariff", "alice", margin="0.25", included="1.50", stdout=told)
    assert "25.00% on top" in told.getvalue()
    with in_tenant(alice):
        assert Tariff.objects.filter(margin=Decimal("0.25"), reply_micros=None, included_micros=1_500_000).exists()
    call_command("set_tariff", "alice", per_reply="0.02", stdout=told)
    with in_tenant(alice):
        assert Tariff.objects.filter(margin=None, reply_micros=20_000).exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"margin": "a lot"}, "not an amount"),
        ({"margin": "-1"}, "no margin"),
        ({"per_reply": "0.0000001"}, "six decimal places"),
        ({"margin": "1", "valid_from": "2099-01-01"}, "needs a time zone"),
        ({"margin": "1", "valid_from": "2001-01-01T00:00+00:00"}, "in the past"),
    ],
)
def test_the_operator_is_told_what_is_wrong_with_a_tariff(alice, options, complaint):
    with pytest.raises(CommandError, match=complaint):
        call_command("set_tariff", "alice", **options)
