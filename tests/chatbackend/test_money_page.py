"""The money page tells the figures of the ledger to those who may read it, in as many queries whatever there is."""

from __future__ import annotations

import re
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import ledger, spending
from accounts.budgets import Spender
from accounts.models import Budget, LedgerEntry, Tariff
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from chatbackend import money_page
from tests.accounts.books import a_month_passes, at_noon, charge, held_turn, month_before, this_month
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import logged_in

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop() -> Shop:
    shop = open_shop("alice", "http://127.0.0.1:9/v1")
    at_noon(shop.tenant_id)
    set_tariff(shop.tenant_id, margin=Decimal("0.5"))
    return shop


def turn(shop: Shop, *costs: int, conversation: UUID | None = None, accepted: bool = True) -> None:
    """One attempt a cost, the dearer the later; the last is accepted or, as the others, rejected."""
    turn_id, conversation = uuid4(), conversation or uuid4()
    spender = Spender(shop.chatbot_id, shop.caller().customer_id)
    ledger.hold(shop.tenant_id, turn_id, Money(9_000), spender)
    last = len(costs) - 1
    charges = [
        charge(
            cost,
            conversation_id=conversation,
            chatbot_id=shop.chatbot_id,
            number=number,
            model=("small", "large")[min(number, 1)],
            outcome="accepted" if accepted and number == last else "rejected",
            dearest=Money(2_000 if number == last else 0),
        )
        for number, cost in enumerate(costs)
    ]
    ledger.settle(shop.tenant_id, turn_id, charges)


def page(client: Client, **months: str) -> str:
    answer = client.get(reverse("admin:money"), months)
    assert answer.status_code == 200
    return answer.content.decode()


def spent(shop: Shop, first=None, last=None) -> spending.Spending:
    return spending.spending(shop.tenant_id, first or this_month(), last or first or this_month())


def test_its_figures_are_the_ledgers(shop):
    turn(shop, 100)
    turn(shop, 100, 1_000)
    turn(shop, 100, 1_000, accepted=False)
    told = spent(shop)
    assert (told.cost, told.price, told.dearest) == (Money(2_300), Money(3_450), Money(6_000))
    assert told.saved == Money(3_700)
    assert {part.name: part.price.micros for part in told.parts(lambda line: line.model)} == {
        "large": 3_000,
        "small": 450,
    }
    assert {part.name: part.calls for part in told.parts(lambda line: line.outcome)} == {"accepted": 2, "rejected": 3}
    page_of_it = page(logged_in((shop, "analyst")))
    for amount in ("$0.003450", "$0.002300", "$0.003700", "$0.006000", "$0.001150"):
        assert amount in page_of_it


@pytest.mark.parametrize("month", ["9999-12", "0001-01", "2026-13", "2026-1", "soon"])
def test_what_is_no_month_is_named(shop, month):
    client = logged_in((shop, "analyst"))
    answers = [client.get(reverse("admin:money"), {name: month}) for name in ("first", "last")]
    assert {answer.status_code for answer in answers} == {404}
    with pytest.raises(CommandError, match="it is written 2026-10"):
        call_command("statement", "alice", month)


def test_a_conversation_is_resolved_by_its_last_reply(shop):
    talk, other = uuid4(), uuid4()
    turn(shop, 100, conversation=talk, accepted=False)
    turn(shop, 100, conversation=talk)
    turn(shop, 100, conversation=other)
    turn(shop, 100, conversation=other, accepted=False)
    told = spent(shop)
    assert (told.conversations, told.resolved) == (2, 1)
    figures = {figure.name: figure.value for figure in money_page.figures(told)}
    assert (figures["A conversation"], figures["A resolved one"]) == ("$0.000300", "$0.000600")


def test_what_was_explored_or_corrected_is_no_turn_of_a_conversation(shop):
    talk = uuid4()
    turn(shop, 100, conversation=talk)
    a_month_passes(shop.tenant_id)
    with in_tenant(shop.tenant_id):
        call_id = LedgerEntry.objects.get(kind="charge").call_id
    ledger.adjust(shop.tenant_id, call_id, Money(40), "provider's usage export")
    assert (spent(shop).price, spent(shop).conversations) == (Money(-90), 0)
    turn(shop, 100, conversation=talk)
    explored = charge(300, conversation_id=talk, outcome="explored")
    ledger.settle(shop.tenant_id, held_turn(shop.tenant_id, 900), [explored])
    told = spent(shop)
    assert (told.conversations, told.resolved) == (1, 1)


def test_corrections_count_where_the_page_counts_charges(shop):
    turn(shop, 100)
    with in_tenant(shop.tenant_id), connection.cursor() as cursor:
        cursor.execute("SELECT call_id FROM accounts_ledgerentry WHERE kind = 'charge'")
        [(call_id,)] = cursor.fetchall()
    ledger.adjust(shop.tenant_id, call_id, Money(40), "provider's usage export")
    told = spent(shop)
    assert (told.cost, told.price, sum(line.calls for line in told.lines)) == (Money(40), Money(60), 1)


def test_bars_are_days_of_one_month_and_months_of_many_and_come_to_the_whole(shop):
    turn(shop, 100)
    a_month_passes(shop.tenant_id)
    turn(shop, 100, 700)
    month = this_month()
    for first, points in ((month, 28), (month_before(month), 59), (month_before(month, 11), 12)):
        told = spent(shop, first, month)
        bars = money_page.bars(told, first, month)
        assert len(bars) >= points
        assert sum(bar.price.micros for bar in bars) == told.price.micros
        assert max(sum(height for _, _, height in bar.pieces) for bar in bars) == pytest.approx(100, abs=0.1)
        assert all(0 <= top <= top + height <= 100.1 for bar in bars for _, top, height in bar.pieces)
    assert len(money_page.bars(told, month_before(month, 11), month)) == 12


def test_months_with_more_than_can_be_added_up_are_left_to_statements_and_exports(shop, monkeypatch):
    month, client = this_month(), logged_in((shop, "owner"))
    for _ in range(2):
        turn(shop, 100)
        a_month_passes(shop.tenant_id)
    turn(shop, 100, 700)
    for most, begins in ((9, 2), (3, 1), (2, 0), (1, 0)):
        monkeypatch.setattr(spending, "MOST_ENTRIES", most)
        html = page(client, first=f"{month_before(month, 2):%Y-%m}", last=f"{month:%Y-%m}")
        assert f'value="{month_before(month, begins) if begins else month:%Y-%m}" selected' in html
        assert ("can be added up" in html) is (begins < 2)


def test_the_chart_has_its_table_behind_it(shop):
    turn(shop, 100, 700)
    html = page(logged_in((shop, "owner")))
    assert re.search(r'<svg class="bars"[^>]*role="img"[^>]*aria-labelledby="over-time"', html)
    [table] = re.findall(r"<details>.*?</details>", html, re.DOTALL)
    assert "$0.000150" in table
    assert "$0.001050" in table


def test_who_has_nothing_yet_is_told_what_to_do_next(shop):
    html = page(logged_in((shop, "owner")))
    assert "Nothing was charged yet" in html
    assert reverse("admin:accounts_budget_add") in html
    assert reverse("admin:accounts_budget_add") not in page(logged_in((shop, "analyst")))
    turn(shop, 100)
    early = page(logged_in((shop, "owner")), first="2001-01", last="2001-01")
    assert "Nothing was charged in these months" in early
    assert early.count('value="2001-01" selected') == 2


def test_budgets_show_how_full_they_are(shop):
    with in_tenant(shop.tenant_id):
        for scope, limit in (("tenant", 1_000_000), ("customer", 200), ("segment", 5)):
            Budget.objects.create(tenant_id=shop.tenant_id, scope=scope, period="month", limit_micros=limit, hard=False)
    turn(shop, 100)
    with in_tenant(shop.tenant_id):
        bars = {bar.used.budget.scope: bar for bar in money_page.budget_bars(shop.tenant_id)}
    assert {scope: bar.used.share for scope, bar in bars.items()} == {"tenant": 0, "customer": 75, "segment": 0}
    assert (bars["customer"].who, bars["segment"].used.subjects) == ("Customer c1", 0)
    assert "Customer c1" in page(logged_in((shop, "owner")))


def test_it_asks_as_many_queries_for_much_as_for_little(shop):
    client = logged_in((shop, "owner"))
    with in_tenant(shop.tenant_id):
        Budget.objects.create(tenant_id=shop.tenant_id, scope="customer", period="total", limit_micros=10**9)
    turn(shop, 100)
    page(client)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page(client)
        return len(asked)

    few = queries()
    for _ in range(5):
        turn(shop, 100, 700)
    assert queries() == few


def test_support_does_not_see_it_and_nonsense_is_not_found(shop):
    assert logged_in((shop, "support")).get(reverse("admin:money")).status_code == 403
    owner = logged_in((shop, "owner"))
    assert owner.get(reverse("admin:money"), {"first": "soon"}).status_code == 404
    assert owner.get(reverse("admin:money"), {"first": "0001-01", "last": "2026-01"}).status_code == 404
    assert owner.get(reverse("admin:money"), {"first": "2000-01", "last": "2026-01"}).status_code == 200


# --- budgets and tariffs on pages of their own ----------------------------------------------------

BUDGET = {"scope": "tenant", "subject": "", "period": "month", "hard": "on", "limit": "12.5", "shares": "80,100",
          "cheapest_tiers": "", "refusal": "Later."}  # fmt: skip


def test_an_owner_adds_a_budget_and_changes_its_limit(shop):
    client, add = logged_in((shop, "owner")), reverse("admin:accounts_budget_add")
    assert client.post(add, BUDGET).status_code == 302
    with in_tenant(shop.tenant_id):
        budget = Budget.objects.get()
    assert (budget.limit_micros, budget.hard, budget.refusal) == (12_500_000, True, "Later.")
    assert "There is a budget for this already" in client.post(add, BUDGET).content.decode()
    change = reverse("admin:accounts_budget_change", args=[budget.id])
    assert "12.5" in client.get(change).content.decode()
    assert client.post(change, BUDGET | {"limit": "20", "period": "day"}).status_code == 302
    with in_tenant(shop.tenant_id):
        budget.refresh_from_db()
    assert (budget.limit_micros, budget.period) == (20_000_000, "month")
    assert "$20.000000" in logged_in((shop, "analyst")).get(change).content.decode()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": "-1"}, "greater than or equal to 0"),
        ({"limit": "0.0000001"}, "decimal places"),
        ({"scope": "chatbot", "subject": "x"}, "not the id of a chatbot"),
        ({"scope": "customer", "subject": str(uuid4())}, "there is no customer"),
        ({"subject": "x"}, "tenant_budget_has_no_subject"),
    ],
    ids=str,
)
def test_a_budget_that_makes_no_sense_is_refused(shop, wrong, said):
    answer = logged_in((shop, "owner")).post(reverse("admin:accounts_budget_add"), BUDGET | wrong)
    assert answer.status_code == 200
    assert said in answer.content.decode()


def test_a_tariff_says_in_words_what_is_paid(shop):
    set_tariff(shop.tenant_id, reply=Money(20_000), included=Money(5_000_000))
    html = logged_in((shop, "analyst")).get(reverse("admin:accounts_tariff_changelist")).content.decode()
    with in_tenant(shop.tenant_id):
        first = Tariff.objects.earliest("valid_from")
    page_of_it = logged_in((shop, "owner")).get(reverse("admin:accounts_tariff_change", args=[first.id]))
    assert "superseded" in page_of_it.content.decode()
    for told in ("50.00% on top", "superseded", "$0.020000 for each accepted reply", "$5.000000", "in force"):
        assert told in html
