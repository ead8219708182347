"""Webhooks: what happens is told at least once, signed, and to nobody it should not be told."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError
from uuid_utils.compat import uuid7

from accounts import budgets, ledger, statements, webhooks
from accounts.models import Budget, Customer, Delivery, Webhook
from accounts.money import Money
from accounts.tenancy import in_tenant
from cascade import conversations, strategies
from cascade.models import Chatbot, Conversation, Message
from tests.accounts.books import charge
from tests.api_cast import Program
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import converse, logged_in
from tests.hook_server import HookServer

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop() -> Shop:
    return open_shop("alice", "http://127.0.0.1:9/v1")


@pytest.fixture
def hook():
    with HookServer() as server:
        yield server


def subscribed(shop: Shop, url: str, *events: str) -> tuple[Webhook, str]:
    return webhooks.create(shop.tenant_id, url, events or webhooks.EVENTS)


def tell(shop: Shop, event: str = "statement.closed", **content) -> None:
    with in_tenant(shop.tenant_id):
        webhooks.tell(shop.tenant_id, event, content)


def deliveries(shop: Shop) -> list[Delivery]:
    with in_tenant(shop.tenant_id):
        return list(Delivery.objects.order_by("id"))


def jobs() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = %s", [webhooks.JOB])
        return cursor.fetchone()[0]


def deliver_all(shop: Shop) -> list[Delivery]:
    """What the worker does, without waiting between attempts."""
    for delivery in deliveries(shop):
        with in_tenant(shop.tenant_id):
            Delivery.objects.filter(pk=delivery.pk, state="pending").update(due_at=timezone.now())
        webhooks.deliver(shop.tenant_id, delivery.id)
    return deliveries(shop)


def test_a_delivery_is_signed_as_standard_webhooks_has_it(shop, hook):
    _, secret = subscribed(shop, hook.url)
    tell(shop, number=1)
    [delivery] = deliver_all(shop)
    assert (delivery.state, delivery.attempts, delivery.problem) == ("delivered", 1, "")
    [(headers, body)] = hook.received
    told = Verifier(secret).verify(body, headers)
    assert (told["type"], told["data"]) == ("statement.closed", {"number": 1})
    assert headers["webhook-id"] == webhooks.message_id(delivery.id)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(body, headers | {"webhook-timestamp": "1700000000"})


def test_an_event_is_there_if_and_only_if_what_happened_is(shop, hook):
    subscribed(shop, hook.url)
    with suppress(ZeroDivisionError), in_tenant(shop.tenant_id):
        webhooks.tell(shop.tenant_id, "statement.closed", {})
        _ = 1 // 0
    assert (deliveries(shop), jobs()) == ([], 0)
    tell(shop)
    assert (len(deliveries(shop)), jobs()) == (1, 1)


def test_only_what_was_asked_for_is_told_and_only_to_the_tenant(shop, hook):
    subscribed(shop, hook.url, "feedback.created")
    other = open_shop("charlie", "http://127.0.0.1:9/v1")
    tell(shop)
    tell(other, "feedback.created")
    assert deliver_all(shop) == []
    assert hook.received == []


def test_a_failed_delivery_is_tried_again_for_a_day_and_then_dead_and_can_be_replayed(shop):
    with HookServer(500, 302, 500, 200) as server:
        subscribed(shop, server.url)
        tell(shop)
        waits = []
        for _ in range(3):
            [delivery] = deliver_all(shop)
            waits.append(round((delivery.due_at - timezone.now()).total_seconds(), -1))
        assert waits[1:] == [60, 300]
        assert (delivery.state, delivery.problem) == ("pending", "http_500")
        assert [delivery.state for delivery in deliver_all(shop)] == ["delivered"]
        assert len({headers["webhook-id"] for headers, _ in server.received}) == 1
    assert 86_400 <= sum(webhooks.DELAYS) <= 100_000
    tell(shop)
    for _ in range(len(webhooks.DELAYS) + 1):
        last = deliver_all(shop)[-1]
    assert (last.state, last.attempts, last.problem) == ("dead", len(webhooks.DELAYS) + 1, "unreachable")
    program = Program(shop)
    [dead] = program.get("/deliveries?state=dead").json()["results"]
    assert program.post(f"/deliveries/{dead['id']}/replay").json()["state"] == "pending"


def test_a_redirect_is_not_followed(shop):
    with HookServer(307) as server:
        subscribed(shop, server.url)
        tell(shop)
        [delivery] = deliver_all(shop)
        assert delivery.problem == "http_307"
        assert len(server.received) == 1


@pytest.mark.parametrize(
    "url",
    ["https://169.254.169.254/latest", "https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.1", "http://1.1.1.1"],
)
def test_no_address_inside_is_ever_asked(shop, settings, url):
    settings.PRIVATE_RECORD_SOURCES = False
    subscribed(shop, url)
    tell(shop)
    [delivery] = deliver_all(shop)
    assert delivery.problem == "refused_address"


def test_both_secrets_sign_until_the_next_rotation(shop, hook):
    made, first = subscribed(shop, hook.url)
    second = webhooks.rotate(made)
    tell(shop)
    deliver_all(shop)
    headers, body = hook.received[-1]
    for secret in (first, second):
        Verifier(secret).verify(body, headers)
    third = webhooks.rotate(made)
    tell(shop)
    deliver_all(shop)
    headers, body = hook.received[-1]
    for secret in (second, third):
        Verifier(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(first).verify(body, headers)


def test_a_secret_is_sealed_and_shown_once(shop, hook):
    program = Program(shop)
    made = program.post("/webhooks", {"url": hook.url, "events": ["feedback.created"]}).json()
    assert made["secret"].startswith("whsec_")
    assert "secret" not in program.get(f"/webhooks/{made['id']}").json()
    with in_tenant(shop.tenant_id):
        assert made["secret"].removeprefix("whsec_").encode() not in bytes(Webhook.objects.get().secret)
    assert program.post("/webhooks", {"url": "ftp://x", "events": ["feedback.created"]}).status_code == 400
    assert program.post("/webhooks", {"url": hook.url, "events": ["everything"]}).status_code == 400


def test_nothing_is_sent_of_a_customer_who_was_erased(shop, hook):
    subscribed(shop, hook.url)
    customer = shop.caller("ann@example.com").customer_id
    for _ in range(2):
        tell(shop, "feedback.created", customer_id=str(customer))
    first = deliveries(shop)[0]
    webhooks.deliver(shop.tenant_id, first.id)
    assert hook.events[0]["data"]["customer_external_id"] == "ann@example.com"
    assert all("ann@" not in str(delivery.content) for delivery in deliveries(shop))
    with in_tenant(shop.tenant_id):
        Customer.objects.filter(pk=customer).delete()
    assert [(row.state, row.problem) for row in deliver_all(shop)] == [("delivered", ""), ("dropped", "erased")]
    assert len(hook.received) == 1


def test_a_receiver_that_is_gone_is_told_no_more(shop):
    with HookServer(410) as server:
        subscribed(shop, server.url)
        tell(shop)
        tell(shop)
        assert [delivery.state for delivery in deliver_all(shop)] == ["dead", "dropped"]
        assert len(server.received) == 1


def test_a_delivery_whose_worker_died_is_taken_up_by_another(shop, hook):
    subscribed(shop, hook.url)
    tell(shop)
    with in_tenant(shop.tenant_id):
        Delivery.objects.update(attempts=1, due_at=timezone.now() - webhooks.LEASE - timedelta(seconds=1))
    webhooks.defer_lost(shop.tenant_id)
    assert jobs() == 2
    assert [delivery.state for delivery in deliver_all(shop)] == ["delivered"]
    webhooks.deliver(shop.tenant_id, deliveries(shop)[0].id)  # the other job comes late
    assert len(hook.received) == 1


def test_what_became_of_deliveries_is_forgotten_after_a_month(shop, hook):
    subscribed(shop, hook.url)
    tell(shop)
    deliver_all(shop)
    with in_tenant(shop.tenant_id):
        Delivery.objects.update(created_at=timezone.now() - webhooks.KEPT - timedelta(seconds=1))
    webhooks.forget_old(shop.tenant_id)
    assert deliveries(shop) == []


# --- what happens -----------------------------------------------------------------------------


def events(shop: Shop) -> list[str]:
    return [delivery.event for delivery in deliveries(shop)]


def test_what_happens_in_a_conversation_is_told(shop):
    subscribed(shop, "https://a.example/hook")
    talk, caller = converse(shop, "c1"), shop.caller("c1")
    with in_tenant(shop.tenant_id):
        Conversation.objects.update(last_seq=2)
        reply = Message.objects.get(role="assistant")
    conversations.set_feedback(caller, reply.id, -1)
    conversations.take_over(shop.tenant_id, talk.id, "user:1")
    assert events(shop) == ["feedback.created", "conversation.handed_over"]
    assert deliveries(shop)[1].content["reason"] == "taken_over"
    assert {row.content["customer_id"] for row in deliveries(shop)} == {str(caller.customer_id)}


def test_a_share_of_a_budget_a_closed_month_and_a_promotion_are_told(shop):
    subscribed(shop, "https://a.example/hook")
    with in_tenant(shop.tenant_id):
        bot = Chatbot.objects.select_related("live_strategy").get()
        Budget.objects.create(tenant_id=shop.tenant_id, scope="chatbot", period="total", limit_micros=1000)
    turn, spender = uuid7(), budgets.Spender(bot.id, shop.caller().customer_id)
    ledger.hold(shop.tenant_id, turn, Money(1000), spender)
    ledger.settle(shop.tenant_id, turn, [charge(900)])
    statements.close(shop.tenant_id, timezone.now().date().replace(year=2024, month=1, day=1))
    strategies.promote(strategies.add_version(bot, bot.live_strategy.tiers, 20), "user:1")
    assert sorted(events(shop)) == ["budget.threshold", "statement.closed", "strategy.promoted"]
    share = next(row for row in deliveries(shop) if row.event == "budget.threshold")
    assert (share.content["share"], share.content["spent"]) == (80, "0.000900")


def test_what_is_dead_is_shown_and_sent_again_from_its_page(shop, hook):
    lead, analyst = logged_in((shop, "admin")), logged_in((shop, "analyst"))
    subscribed(shop, hook.url)
    tell(shop, number=7)
    with in_tenant(shop.tenant_id):
        Delivery.objects.update(state="dead", attempts=9, problem="500")
    [dead] = deliveries(shop)
    page = reverse("admin:accounts_delivery_changelist")
    assert str(dead.id) in lead.get(f"{page}?state__exact=dead").content.decode()
    again = {"action": "send_again", "_selected_action": [str(dead.id)]}
    assert analyst.post(page, again).status_code == 403
    assert lead.post(page, again).status_code == 302
    [delivered] = deliver_all(shop)
    assert (delivered.state, delivered.attempts, len(hook.received)) == ("delivered", 1, 1)
