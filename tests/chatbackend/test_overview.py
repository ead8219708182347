"""The first page: the month's figures are the books', the weeks are counted where the tenant is, hand-overs lead on."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import spending
from accounts.models import Customer, Tenant
from accounts.templatetags.money import dollars
from accounts.tenancy import in_tenant
from cascade.models import Conversation, Feedback, ModelCall
from chatbackend import quality
from chatbackend.months import this_month
from tests.busy_months import busy_months
from tests.cascade.judged_turns import judged_turn
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import logged_in
from tests.chatbackend.test_staff import waiting

pytestmark = pytest.mark.usefixtures("database")
HOME = "admin:index"


@pytest.fixture
def shop() -> Shop:
    return open_shop("alice", "http://127.0.0.1:9/v1", funds="100")


def tenant(shop: Shop) -> Tenant:
    with in_tenant(shop.tenant_id):
        return Tenant.objects.get()


def test_the_months_figures_are_those_of_the_books_and_lead_to_them(shop):
    customer = shop.caller().customer_id
    busy_months(shop.tenant_id, shop.chatbot_id, [customer], 12)
    month = this_month(tenant(shop))
    spent = spending.spending(shop.tenant_id, month, month)
    page = logged_in((shop, "analyst")).get(reverse(HOME)).content.decode()
    for amount in (spent.price, spent.saved, spent.dearest):
        assert dollars(amount.micros) in page
    assert f'href="{reverse("admin:money")}"' in page
    assert f"Cost of {month:%B}" in page
    assert "As a table" in page  # behind the chart


def test_who_waits_the_longest_comes_first_for_every_role_and_money_for_those_who_read_the_books(shop):
    with in_tenant(shop.tenant_id):
        for name in ("second", "first"):
            talk = waiting(shop, customer=name)
            Customer.objects.filter(external_id=name).update(attributes={"name": name})
            Conversation.objects.filter(id=talk.id).update(
                updated_at=timezone.now() - timedelta(hours=2 if name == "first" else 1)
            )
    page = logged_in((shop, "support")).get(reverse(HOME)).content.decode()
    assert "2 waiting for a person" in page
    assert re.findall(r"/change/\">(first|second)<", page) == ["first", "second"]
    assert "Balance" not in page
    assert "$" not in re.sub(r"<script.*?</script>|<head.*?</head>", "", page, flags=re.S).split("<article")[1]


def test_weeks_tell_shares_and_nothing_of_what_nobody_said(shop):
    who = shop.caller().customer_id
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=who)
        right = judged_turn(talk, 1, True, 1, score=0.8)
        judged_turn(talk, 1, False, 3, score=0.6)
        judged_turn(talk, 1, False, 5, rating=None, state="handed_over")
        judged_turn(talk, 1, True, 7, rating=None, score=0.7)
        earlier = timezone.now() - timedelta(weeks=2)
        for rows in (right._meta.model.objects.filter(id=right.id), ModelCall.objects.filter(turn=right)):
            rows.update(created_at=earlier)
        Feedback.objects.filter(message__turn=right).update(created_at=earlier)
        told = quality.weeks(Tenant.objects.get())
    assert len(told) == quality.WEEKS
    before, between, now = told[-3:]
    assert (before.turns, before.answered, before.liked, before.score) == (1, 1.0, 1.0, 0.8)
    assert (between.turns, between.answered, between.liked, between.score) == (0, None, None, None)
    assert (now.turns, now.liked) == (3, 0.0)
    assert (now.answered, now.score) == (pytest.approx(2 / 3), pytest.approx(0.65))
    answered = quality.lines(told)[0]
    assert answered.path.count("M") == 2  # the week without a question breaks the line
    assert answered.last == now.answered


def test_a_week_begins_on_monday_where_the_tenant_is(shop):
    with in_tenant(shop.tenant_id):
        Tenant.objects.update(time_zone="Pacific/Kiritimati")
        told = quality.weeks(Tenant.objects.get())
    assert all(week.starts.weekday() == 0 for week in told)


def test_it_asks_as_many_queries_for_much_as_for_little(shop):
    client, customer = logged_in((shop, "owner")), shop.caller().customer_id

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(reverse(HOME)).status_code == 200
        return len(asked)

    busy_months(shop.tenant_id, shop.chatbot_id, [customer], 2)
    waiting(shop)
    queries()
    few = queries()
    busy_months(shop.tenant_id, shop.chatbot_id, [customer], 6)
    for number in range(3):
        waiting(shop, customer=f"another{number}")
    assert queries() <= few
