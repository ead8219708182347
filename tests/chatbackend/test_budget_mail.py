"""Whoever answers for a budget hears of it: once, and again only if the mail could not be sent."""

from __future__ import annotations

from smtplib import SMTPException
from uuid import uuid4

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import override_settings
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.auth import create_widget
from accounts.budgets import Spender
from accounts.models import Budget, Customer, Tenant, User
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from cascade.models import Chatbot
from chatbackend import budget_mail
from tests.accounts.books import charge

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
def outbox(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    mail.outbox = []
    return mail.outbox


@pytest.fixture
def alice():
    tenant_id = create_tenant("Alice's shop", "alice", "alice@shop.example").id
    ledger.top_up(tenant_id, Money(1_000_000), "funds")
    call_command("set_budget", "alice", "month", "0.0001", soft=True, share=[50, 100])
    return tenant_id


def spend(tenant_id, micros: int) -> None:
    turn_id = uuid7()
    ledger.hold(tenant_id, turn_id, Money(micros), Spender(uuid4(), uuid4()))
    ledger.settle(tenant_id, turn_id, [charge(micros)])


def test_a_share_that_is_reached_is_mailed_once(alice, outbox):
    spend(alice, 49)
    assert budget_mail.send_due() == 0
    spend(alice, 1)
    assert budget_mail.send_due() == 1
    assert budget_mail.send_due() == 0
    spend(alice, 60)
    assert budget_mail.send_due() == 1
    assert [message.subject for message in outbox] == [
        "Alice's shop: 50 % of a budget is spent",
        "Alice's shop: 100 % of a budget is spent",
    ]
    assert outbox[0].to == ["alice@shop.example"]
    assert "Limit: $0.000100, soft" in outbox[0].body
    assert "Spent: $0.000050" in outbox[0].body


def test_a_mail_that_could_not_be_sent_is_sent_later_and_keeps_no_other_waiting(alice, outbox, monkeypatch):
    charlie = create_tenant("Charlie's", "charlie", "charlie@else.example").id
    ledger.top_up(charlie, Money(1_000_000), "funds")
    call_command("set_budget", "charlie", "month", "0.0001", soft=True)
    spend(alice, 60)
    spend(charlie, 90)
    send = budget_mail.send_mail

    def refuse(subject, *args, **kwargs):
        if subject.startswith("Alice"):
            raise SMTPException("no such mailbox")
        return send(subject, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(budget_mail, "send_mail", refuse)
        assert budget_mail.send_due() == 1
    assert [message.to for message in outbox] == [["charlie@else.example"]]
    assert budget_mail.send_due() == 1


def test_without_a_server_every_mail_waits(alice, outbox):
    spend(alice, 60)
    gone = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend", "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": 1}
    with override_settings(**gone), pytest.raises(OSError, match="refused"):
        budget_mail.send_due()
    with override_settings(EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend"):
        assert budget_mail.send_due() == 0
    assert budget_mail.send_due() == 1


def test_what_nobody_can_be_written_to_about_waits(alice, outbox):
    spend(alice, 60)
    User.objects.update(email="")
    assert budget_mail.send_due() == 0
    User.objects.update(email="alice@shop.example")
    assert budget_mail.send_due() == 1


def test_a_name_of_two_lines_is_a_subject_of_one(alice, outbox):
    with in_tenant(alice):
        Tenant.objects.update(name="Alice's\nshop")
    spend(alice, 60)
    assert budget_mail.send_due() == 1
    assert outbox[0].subject == "Alice's shop: 50 % of a budget is spent"


def test_a_tenant_hears_of_its_own_budgets_alone(alice, outbox):
    create_tenant("Charlie's", "charlie", "charlie@else.example")
    spend(alice, 60)
    budget_mail.send_due()
    assert [message.to for message in outbox] == [["alice@shop.example"]]


def test_the_operator_sets_and_changes_a_budget(alice):
    call_command("set_budget", "alice", "day", "0.05", scope="customer", refusal="Tomorrow again.")
    call_command("set_budget", "alice", "day", "0.07", scope="customer")
    with in_tenant(alice):
        found = Budget.objects.filter(hard=True).values_list("scope", "period", "limit_micros", "refusal")
        assert list(found) == [("customer", "day", 70_000, "Tomorrow again.")]
    for arguments, complaint in (
        (("alice", "day", "a lot"), "not an amount"),
        (("alice", "day", "-1"), "greater than or equal to 0"),
        (("nobody", "day", "1"), "no tenant"),
    ):
        with pytest.raises(CommandError, match=complaint):
            call_command("set_budget", *arguments)
    with pytest.raises(CommandError, match="tenant_budget_has_no_subject"):
        call_command("set_budget", "alice", "day", "1", subject="x")


def test_a_budget_of_one_chatbot_or_customer_names_one_that_is_there(alice):
    widget, *_ = create_widget(alice, ["http://localhost:8000"])
    with in_tenant(alice):
        customer = Customer.objects.create(tenant_id=alice, external_id="1")
        chatbot = Chatbot.objects.create(tenant_id=alice, name="Lamps", widget=widget)
    for scope, subject in (("customer", customer.id), ("chatbot", chatbot.id)):
        call_command("set_budget", "alice", "day", "1", scope=scope, subject=str(subject).upper())
        with in_tenant(alice):
            assert Budget.objects.get(scope=scope).subject == str(subject)
        for wrong, complaint in (("lamps", "is not the id of a"), (str(uuid4()), "there is no")):
            with pytest.raises(CommandError, match=f"{complaint} {scope}"):
                call_command("set_budget", "alice", "day", "1", scope=scope, subject=wrong)
    call_command("set_budget", "alice", "day", "1", scope="segment", subject="gold")
