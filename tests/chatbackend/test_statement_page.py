"""A statement can be read by a person: printed, with names, in sums that can be followed."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts import ledger, statements
from accounts.models import Tenant
from accounts.money import Money
from accounts.tenancy import in_tenant
from cascade.models import Chatbot
from chatbackend import statement_page
from chatbackend.statement_page import page
from tests.accounts.books import a_month_passes, at_noon, charge, held_turn, month_before, this_month
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop():
    shop = open_shop("alice", "http://127.0.0.1:1", funds="1")
    at_noon(shop.tenant_id)
    with in_tenant(shop.tenant_id):
        Chatbot.objects.update(name="<b>Lamps & more</b>")
    draft = charge(1_000, chatbot_id=shop.chatbot_id, model="small")
    answer = charge(4_321, chatbot_id=shop.chatbot_id, model="large", outcome="accepted", dearest=Money(9_000))
    ledger.settle(shop.tenant_id, held_turn(shop.tenant_id, 9_000), [draft, answer])
    return shop


def test_a_draft_says_so_and_a_statement_says_its_number(shop):
    assert "Draft" in page(shop.tenant_id, statements.month(shop.tenant_id, this_month()))
    a_month_passes(shop.tenant_id)
    closed = page(shop.tenant_id, statements.close(shop.tenant_id, month_before(this_month())))
    assert "Statement 1" in closed
    assert "Draft" not in closed


def test_a_closed_months_page_stays_whatever_is_renamed(shop):
    month = month_before(this_month())
    a_month_passes(shop.tenant_id)
    assert "Draft" in statement_page.shown(shop.tenant_id, month)
    statement_page.close(shop.tenant_id, month)
    closed = statement_page.shown(shop.tenant_id, month)
    assert "Statement 1" in closed
    assert "&lt;b&gt;Lamps &amp; more&lt;/b&gt;" in closed
    with in_tenant(shop.tenant_id):
        Chatbot.objects.update(name="Renamed")
        Tenant.objects.update(name="Renamed", time_zone="Asia/Tokyo")
    assert statement_page.shown(shop.tenant_id, month) == closed


def test_a_page_names_chatbots_models_and_outcomes_harmlessly(shop):
    html = page(shop.tenant_id, statements.month(shop.tenant_id, this_month()))
    for told in ("&lt;b&gt;Lamps &amp; more&lt;/b&gt;", "small", "large", "accepted", "rejected"):
        assert f"<td>{told}</td>" in html
    for amount in ("$1.000000", "-$0.005321", "$0.994679", "$0.009000", "$0.003679"):
        assert amount in html


def test_the_operator_shows_and_closes_a_month(shop, tmp_path):
    told = StringIO()
    call_command("statement", "alice", f"{this_month():%Y-%m}", stdout=told)
    assert "draft" in told.getvalue()
    with pytest.raises(CommandError, match="not over"):
        call_command("statement", "alice", f"{this_month():%Y-%m}", close=True)
    a_month_passes(shop.tenant_id)
    file = tmp_path / "statement.html"
    call_command("statement", "alice", f"{month_before(this_month()):%Y-%m}", close=True, html=file, stdout=told)
    assert "statement 1" in told.getvalue()
    assert "Statement 1" in file.read_text()
    with pytest.raises(CommandError, match="no tenant"):
        call_command("statement", "bob", "2026-10")
    with pytest.raises(CommandError, match="month"):
        call_command("statement", "alice", "2026-13")
