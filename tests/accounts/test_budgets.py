"""A budget holds: what runs at once cannot overrun it together, and nobody who fits is refused."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError
from django.db.models import F
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts import budgets, ledger
from accounts.budgets import BudgetExceeded, Spender
from accounts.ledger import InsufficientFunds
from accounts.models import Budget, BudgetEvent, BudgetSpending
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import account, at_once, charge

pytestmark = pytest.mark.usefixtures("database")
BOT, CUSTOMER = uuid4(), uuid4()
ANYBODY = Spender(BOT, CUSTOMER, "wholesale")


@pytest.fixture
def alice() -> UUID:
    return funded_shop("alice")


def funded_shop(slug: str) -> UUID:
    tenant_id = create_tenant(slug, slug, f"{slug}@shop.example").id
    ledger.top_up(tenant_id, Money(1_000_000), "funds")
    return tenant_id


def budget(tenant_id: UUID, limit: int, scope: str = "tenant", **more: object) -> Budget:
    with in_tenant(tenant_id):
        columns = {"period": "month", **more}
        return Budget.objects.create(tenant_id=tenant_id, scope=scope, limit_micros=limit, **columns)


def held(tenant_id: UUID, micros: int, spender: Spender = ANYBODY) -> UUID:
    turn_id = uuid7()
    ledger.hold(tenant_id, turn_id, Money(micros), spender)
    return turn_id


def spent(tenant_id: UUID, most: int, cost: int, spender: Spender = ANYBODY) -> None:
    ledger.settle(tenant_id, held(tenant_id, most, spender), [charge(cost)])


def counted(tenant_id: UUID) -> list[tuple[int, int]]:
    with in_tenant(tenant_id):
        return list(BudgetSpending.objects.order_by("created_at").values_list("spent_micros", "held_micros"))


# --- one turn after another -------------------------------------------------------------------


def test_a_hard_budget_refuses_what_might_exceed_it_and_leaves_no_trace(alice):
    budget(alice, 100, refusal="Closed for today.")
    held(alice, 60)
    before = account(alice)
    with pytest.raises(BudgetExceeded) as refused:
        held(alice, 41)
    assert (refused.value.needed, refused.value.left) == (Money(41), Money(40))
    assert refused.value.refusal == "Closed for today."
    assert account(alice) == before
    assert counted(alice) == [(0, 60)]
    held(alice, 40)
    assert ledger.check(alice) == []


def test_what_a_turn_did_not_cost_is_free_for_the_next(alice):
    budget(alice, 100)
    for _ in range(4):
        spent(alice, 40, 20)
    assert counted(alice) == [(80, 0)]
    with pytest.raises(BudgetExceeded) as refused:
        held(alice, 21)
    assert not refused.value.for_now
    spent(alice, 20, 20)
    assert ledger.check(alice) == []


def test_a_turn_that_fits_once_others_have_ended_is_refused_only_for_now(alice):
    budget(alice, 100)
    running = held(alice, 60)
    with pytest.raises(BudgetExceeded) as refused:
        held(alice, 60)
    assert refused.value.for_now
    ledger.settle(alice, running, [charge(40)])
    held(alice, 60)


def test_money_on_hold_refuses_only_for_now(alice):
    running = held(alice, 900_000)
    with pytest.raises(InsufficientFunds) as refused:
        held(alice, 900_000)
    assert refused.value.for_now
    ledger.settle(alice, running, [charge(200_000)])
    with pytest.raises(InsufficientFunds) as refused:
        held(alice, 900_000)
    assert not refused.value.for_now


def test_what_is_wanting_for_good_is_told_before_what_is_wanting_for_now(alice):
    budget(alice, 100)
    held(alice, 60)
    budget(alice, 50, scope="customer", refusal="Not today.")  # of which nothing is spent, and nothing will be
    with pytest.raises(BudgetExceeded) as refused:
        held(alice, 60)
    assert (refused.value.refusal, refused.value.for_now) == ("Not today.", False)
    with in_tenant(alice):
        Budget.objects.update(limit_micros=F("limit_micros") + 2_000_000)
        Budget.objects.filter(scope="tenant").update(limit_micros=1_000_030)
    with pytest.raises(InsufficientFunds) as poor:  # the budget has room in a moment, the account has not
        held(alice, 1_000_010)
    assert not poor.value.for_now


def test_a_budget_counts_what_the_tenant_pays_before_its_quota(alice):
    set_tariff(alice, margin=Decimal(1), included=Money(30))
    budget(alice, 100)
    ledger.settle(alice, held(alice, 40), [charge(25)])
    assert counted(alice) == [(50, 0)]
    with pytest.raises(BudgetExceeded):
        held(alice, 26)
    assert ledger.check(alice) == []


def test_a_correction_is_counted(alice):
    budget(alice, 100)
    call_id = uuid7()
    ledger.settle(alice, held(alice, 100), [charge(90, call_id=call_id)])
    ledger.adjust(alice, call_id, Money(30), "provider's usage export")
    assert counted(alice) == [(30, 0)]
    assert ledger.check(alice) == []


# --- whose budget, and for how long -------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "subject", "touched"),
    [
        ("tenant", "", True),
        ("chatbot", str(BOT), True),
        ("chatbot", str(uuid4()), False),
        ("chatbot", "", True),
        ("segment", "wholesale", True),
        ("segment", "retail", False),
        ("customer", str(CUSTOMER), True),
        ("customer", str(uuid4()), False),
        ("customer", "", True),
    ],
)
def test_a_budget_is_touched_by_its_own_subject(alice, scope, subject, touched):
    budget(alice, 10, scope, subject=subject)
    if touched:
        with pytest.raises(BudgetExceeded):
            held(alice, 11)
    else:
        held(alice, 11)


def test_each_customer_has_a_limit_of_their_own(alice):
    budget(alice, 10, "customer")
    one, other = Spender(BOT, uuid4()), Spender(BOT, uuid4())
    held(alice, 10, one)
    held(alice, 10, other)
    with pytest.raises(BudgetExceeded):
        held(alice, 1, one)
    assert ledger.check(alice) == []


def test_a_customer_in_no_segment_touches_no_segments_budget(alice):
    budget(alice, 10, "segment")
    held(alice, 11, Spender(BOT, CUSTOMER))
    assert counted(alice) == []


def test_every_budget_that_is_touched_must_have_room(alice):
    budget(alice, 1000)
    budget(alice, 10, "customer", period="total")
    with pytest.raises(BudgetExceeded, match="Customer, Total"):
        held(alice, 11)
    held(alice, 10)
    assert counted(alice) == [(0, 10), (0, 10)]


def test_a_budget_of_another_tenant_is_not_touched(alice):
    budget(alice, 0)
    held(funded_shop("charlie"), 10)


@pytest.mark.parametrize(("period", "renewed"), [("day", True), ("month", True), ("total", False)])
def test_a_new_period_begins_with_nothing_spent(alice, period, renewed):
    budget(alice, 10, period=period)
    spent(alice, 10, 10)
    if period != "total":
        move_back(alice, timedelta(days=32))
    if renewed:
        held(alice, 10)
    else:
        with pytest.raises(BudgetExceeded):
            held(alice, 1)


def test_a_turn_is_counted_in_the_period_in_which_it_began(alice):
    budget(alice, 100, period="day")
    turn_id = held(alice, 60)
    move_back(alice, timedelta(days=1))  # midnight passes while it runs
    spent(alice, 100, 5)
    ledger.settle(alice, turn_id, [charge(50)])
    assert counted(alice) == [(50, 0), (5, 0)]
    assert ledger.check(alice) == []


def move_back(tenant_id: UUID, by: timedelta) -> None:
    """What was counted so far was counted earlier."""
    with in_tenant(tenant_id):
        for spending in BudgetSpending.objects.all():
            spending.starts -= by
            spending.save()


# --- soft budgets -----------------------------------------------------------------------------


def test_a_share_of_a_budget_is_told_once(alice):
    budget(alice, 100, hard=False, shares=[50, 80, 100])
    told = []
    for cost in (49, 1, 30, 5, 40):
        spent(alice, 60, cost)
        with in_tenant(alice):
            told.append([event.share for event in BudgetEvent.objects.order_by("share")])
    assert told == [[], [50], [50, 80], [50, 80], [50, 80, 100]]


def test_past_a_soft_limit_only_the_cheapest_tiers_are_asked(alice):
    budget(alice, 100, hard=False, cheapest_tiers=2)
    budget(alice, 150, hard=False, cheapest_tiers=1)
    budget(alice, 1, hard=False)  # tells and does nothing else
    allowed = []
    for _ in range(4):
        with in_tenant(alice):
            allowed.append(budgets.cheapest_tiers(alice, ANYBODY))
        spent(alice, 50, 50)
    assert allowed == [None, None, 2, 1]


# --- at once ------------------------------------------------------------------------------------


def test_200_parallel_turns_overrun_nothing_and_refuse_nobody_who_fits(alice):
    budget(alice, 1000)
    outcomes = at_once(lambda _: spent(alice, 10, 10), range(200))
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert {type(outcome) for outcome in refused} == {BudgetExceeded}
    assert len(refused) == 100
    assert counted(alice) == [(1000, 0)]
    assert ledger.check(alice) == []


def test_200_parallel_turns_that_cost_less_than_they_might_are_all_served(alice):
    limit = 200 * 4 + 6  # the last turn needs 10 and costs 4
    budget(alice, limit)

    def turn(_):
        until = time.monotonic() + 60
        while True:
            try:
                return spent(alice, 10, 4)
            except BudgetExceeded as refused:
                if not refused.for_now or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    assert at_once(turn, range(200)) == [None] * 200
    assert counted(alice) == [(800, 0)]
    with pytest.raises(BudgetExceeded):
        held(alice, 7)
    assert ledger.check(alice) == []


def test_parallel_turns_of_many_customers_do_not_wait_in_a_circle(alice):
    budget(alice, 300)
    budget(alice, 25, "customer")
    budget(alice, 200, "segment", period="day")
    set_tariff(alice, margin=Decimal("0.1"), included=Money(40))
    spenders = [Spender(BOT, uuid4(), segment) for segment in ("a", "b", "") for _ in range(4)]

    def turn(number):
        ledger_turn = held(alice, 10, spenders[number % 12])
        ledger.settle(alice, ledger_turn, [charge(number % 11)])

    outcomes = at_once(turn, range(96))
    assert [outcome for outcome in outcomes if outcome and not isinstance(outcome, BudgetExceeded)] == []
    assert ledger.check(alice) == []
    with in_tenant(alice):
        assert not BudgetSpending.objects.filter(spent_micros__gt=F("budget__limit_micros")).exists()


# --- any order ----------------------------------------------------------------------------------

TURNS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 100), st.sampled_from([0, 1]), st.booleans()),
    max_size=25,
)


@settings(max_examples=20)
@given(limits=st.tuples(st.integers(0, 150), st.integers(0, 80)), turns=TURNS)
def test_a_turn_is_refused_exactly_when_a_budget_has_no_room(limits, turns):
    tenant_id = funded_shop(f"any-{uuid4()}")
    budget(tenant_id, limits[0])
    budget(tenant_id, limits[1], "customer", period="day")
    customers = [Spender(BOT, uuid4()), Spender(BOT, uuid4())]
    used, running = [0, [0, 0]], []
    for most, share, who, ends in turns:
        fits = used[0] + most <= limits[0] and used[1][who] + most <= limits[1]
        try:
            turn_id = held(tenant_id, most, customers[who])
        except BudgetExceeded:
            assert not fits
            continue
        assert fits
        used[0], used[1][who] = used[0] + most, used[1][who] + most
        running.append((turn_id, most, most * share // 100, who))
        if ends:
            done, held_for_it, cost, whose = running.pop(0)
            ledger.settle(tenant_id, done, [charge(cost)])
            used[0] += cost - held_for_it
            used[1][whose] += cost - held_for_it
    assert ledger.check(tenant_id) == []
    assert sum(spent + held for spent, held in counted(tenant_id)) == used[0] + sum(used[1])


def test_a_negative_limit_cannot_be_stored(alice):
    with pytest.raises(IntegrityError, match="limit_is_not_negative"):
        budget(alice, -1)
