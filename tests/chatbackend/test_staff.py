"""A person answers from the admin pages: who may, what the customer sees at once, how the chatbot gets it back."""

from __future__ import annotations

import re
import threading
import time
from contextlib import asynccontextmanager

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from playwright.async_api import expect
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from accounts.models import Member
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.conversations import LONGEST_REPLY, Refused
from cascade.models import CascadeStrategy, Chatbot, Conversation, Message, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from cascade.story import earlier, story
from tests.cast import ScriptedScorer, Shop, open_shop
from tests.chatbackend import test_widget
from tests.chatbackend.desk import PATIENCE, log_in, pages
from tests.chatbackend.sockets import Client as Customer
from tests.chatbackend.sockets import at_door, is_reply, serving
from tests.chatbackend.test_admin import TIER, list_url, logged_in, strategy_form
from tests.chatbackend.test_widget import ask, open_by_keyboard, shop_page
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
chromium = test_widget.chromium
GOOD, BAD = "Your desk lamp is good.", "Your desk lamp is bad."
STATE = Conversation.State


@pytest.fixture
def shop() -> Shop:
    return open_shop("alice", "http://127.0.0.1:9/v1")


def waiting(shop: Shop, state: str = STATE.HANDED_OVER, customer: str = "c1") -> Conversation:
    who = shop.caller(customer).customer_id
    with in_tenant(shop.tenant_id):
        return Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=who, state=state
        )


def post(client: Client, talk_id, **form: str):
    return client.post(reverse("admin:cascade_conversation_answer", args=[talk_id]), form)


def page(client: Client, talk: Conversation) -> str:
    return client.get(reverse("admin:cascade_conversation_change", args=[talk.id])).content.decode()


def now(shop: Shop, talk: Conversation) -> tuple[str, list[str]]:
    with in_tenant(shop.tenant_id):
        said = Message.objects.filter(conversation=talk, role=Message.Role.STAFF).order_by("seq")
        return Conversation.objects.get(id=talk.id).state, [message.text for message in said]


# --- what is shown ----------------------------------------------------------------------------


def test_a_long_story_is_told_a_page_at_a_time_from_its_end(shop):
    client, talk = logged_in((shop, "support")), waiting(shop)
    with in_tenant(shop.tenant_id):
        row = {"tenant_id": shop.tenant_id, "conversation": talk, "role": Message.Role.STAFF}
        Message.objects.bulk_create(Message(**row, text=f"word {seq:03}.", seq=seq) for seq in range(1, 251))
    told, address = [], reverse("admin:cascade_conversation_change", args=[talk.id])
    for before in ("", "?before=151", "?before=51"):
        shown = client.get(address + before).content.decode()
        told.append([int(number) for number in re.findall(r"word (\d{3})\.", shown)])
        assert ("Earlier messages" in shown) == (before != "?before=51")
        assert ("every 3s" in shown) == (before == "")
    assert told == [[*range(151, 251)], [*range(51, 151)], [*range(1, 51)]]
    assert client.get(f"{address}?before=x{'9' * 30}").status_code == 200


def test_what_a_person_says_inside_a_turn_is_told_with_it(shop):
    talk = waiting(shop)
    with in_tenant(shop.tenant_id):
        turn = Turn.objects.create(
            tenant_id=shop.tenant_id, conversation=talk, client_id="1", state=Turn.State.ANSWERED, process_key=1
        )
        row = {"tenant_id": shop.tenant_id, "conversation": talk, "text": "x"}
        asked, said = Message.Role.CUSTOMER, Message.Role.STAFF
        for seq, role, of in ((10, asked, turn), (11, said, None), (12, Message.Role.ASSISTANT, turn)):
            Message.objects.create(**row, seq=seq, role=role, turn=of)
        Message.objects.bulk_create(Message(**row, seq=seq, role=said) for seq in range(13, 112))
        told = story(talk)
        assert [message.seq for step in told for message in step.messages] == [10, 12, *range(11, 12), *range(13, 112)]
        assert earlier(talk, told) is None


# --- who may ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["owner", "admin", "support"])
def test_who_serves_customers_replies_gives_back_and_closes(shop, role):
    client, talk = logged_in((shop, role)), waiting(shop)
    assert "Give back to the chatbot" in page(client, talk)
    assert post(client, talk.id, text="Hello,\r\nI am Bob <b>").status_code == 302
    assert now(shop, talk) == ("handed_over", ["Hello,\nI am Bob <b>"])
    assert "I am Bob &lt;b&gt;" in page(client, talk)
    assert post(client, talk.id, deed="give_back").status_code == 302
    assert now(shop, talk)[0] == "open"
    assert "Give back" not in page(client, talk)
    assert post(client, talk.id, deed="close").status_code == 302
    assert now(shop, talk)[0] == "closed"
    assert 'name="text"' not in page(client, talk)


def test_an_analyst_reads_and_answers_nobody(shop):
    client, talk = logged_in((shop, "analyst")), waiting(shop)
    assert 'name="text"' not in page(client, talk)
    for form in ({"text": "Hello"}, {"deed": "give_back"}, {"deed": "close"}):
        assert post(client, talk.id, **form).status_code == 403
    assert now(shop, talk) == ("handed_over", [])


def test_for_another_tenant_the_conversation_does_not_exist(shop):
    charlie, talk = logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner")), waiting(shop)
    for form in ({"text": "Hello"}, {"deed": "give_back"}, {"deed": "close"}):
        answers = [post(charlie, which, **form) for which in (talk.id, uuid7())]
        assert [answer.status_code for answer in answers] == [404, 404]
    assert now(shop, talk) == ("handed_over", [])


def test_a_stranger_and_a_forged_form_are_refused(shop):
    talk = waiting(shop)
    assert post(Client(), talk.id, text="Hello")["Location"].startswith(reverse("admin:login"))
    forged = Client(enforce_csrf_checks=True)
    forged.cookies = logged_in((shop, "owner")).cookies
    assert post(forged, talk.id, text="Hello").status_code == 403
    assert now(shop, talk) == ("handed_over", [])


# --- what is said -----------------------------------------------------------------------------


def reply(shop: Shop, talk: Conversation, text: str):
    with in_tenant(shop.tenant_id):
        user = Member.objects.select_related("user").earliest("created_at").user
    return conversations.reply_as_staff(shop.tenant_id, talk.id, f"user:{user.pk}", text)


@pytest.mark.parametrize("text", ["", " \n ", "a\0b", "x" * (LONGEST_REPLY + 1)], ids=["empty", "blank", "nul", "long"])
def test_a_reply_that_cannot_be_shown_is_refused_and_the_member_is_told(shop, text):
    talk = waiting(shop)
    with pytest.raises(Refused, match="1 to 8000 characters"):
        reply(shop, talk, text)
    client = logged_in((shop, "support"))
    post(client, talk.id, text=text)
    assert "1 to 8000 characters" in page(client, talk)
    assert now(shop, talk) == ("handed_over", [])


def test_the_longest_reply_is_taken(shop):
    talk = waiting(shop)
    reply(shop, talk, "x" * LONGEST_REPLY)
    assert now(shop, talk) == ("handed_over", ["x" * LONGEST_REPLY])


def test_a_closed_conversation_stays_closed(shop):
    client, talk = logged_in((shop, "owner")), waiting(shop, STATE.CLOSED)
    for form in ({"text": "Hello"}, {"deed": "give_back"}, {"deed": "close"}):
        assert post(client, talk.id, **form).status_code == 302
        assert "This conversation is closed" in page(client, talk)
    assert now(shop, talk) == ("closed", [])


def test_who_did_it_is_logged_without_what_they_wrote(shop):
    client, talk = logged_in((shop, "support")), waiting(shop)
    with capture_logs() as lines:
        post(client, talk.id, text="a secret word")
        post(client, talk.id, deed="give_back")
        post(client, talk.id, deed="close")
    assert [line["event"] for line in lines] == ["staff_replied", "staff_given_back", "staff_closed"]
    who = {
        "tenant_id": str(shop.tenant_id),
        "conversation_id": str(talk.id),
        "by": f"user:{client.session['_auth_user_id']}",
    }
    assert all(who.items() <= line.items() for line in lines)
    assert "secret" not in str(lines)


def test_support_begins_with_who_waits_and_finds_the_others(shop):
    for number, state in enumerate(STATE):
        waiting(shop, state, f"in-{state}-{number}")
    url = list_url(Conversation)

    def shown(client: Client, query: str = "") -> list[str]:
        content = client.get(url + query).content.decode()
        return [state for number, state in enumerate(STATE) if f"in-{state}-{number}</a>" in content]

    bob, alice = logged_in((shop, "support")), logged_in((shop, "owner"))
    assert shown(bob) == shown(alice, "?state=handed_over") == ["handed_over"]
    assert shown(bob, "?state=any") == shown(bob, "?q=in-") == shown(alice) == list(STATE)


# --- as the customer sees it ------------------------------------------------------------------


@pytest.fixture
def models():
    with ModelServer() as server:
        yield server


async def answer_to(customer: Customer, text: str) -> str:
    await customer.send("message.send", text=text)
    return (await customer.next(is_reply, PATIENCE))["data"]["text"]


@asynccontextmanager
async def customer_with_person(models, shop):
    """A customer at an open socket, whose question no model answered well enough."""
    models.script("*", Reply(BAD))
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9, "bad": 0.1}))
    async with serving(engine) as address, at_door(address, shop) as client:
        await client.send("message.send", text="Where is my order?")
        await client.next("handoff.updated", PATIENCE)
        yield client
    await engine.aclose()


async def test_an_open_socket_shows_the_persons_reply_at_once(models):
    shop = await in_db(open_shop)("alice", models.base_url)
    bob = await in_db(logged_in)((shop, "support"))
    async with customer_with_person(models, shop) as customer:
        await in_db(post)(bob, customer.conversation_id, text="I am Bob. It is on its way.")
        frame = await customer.next("message.created", PATIENCE)
        assert (frame["data"]["role"], frame["data"]["text"]) == ("staff", "I am Bob. It is on its way.")
        assert customer.seqs == list(range(1, frame["seq"] + 1))


async def test_given_back_the_chatbot_answers_again(models):
    shop = await in_db(open_shop)("alice", models.base_url)
    bob = await in_db(logged_in)((shop, "support"))
    async with customer_with_person(models, shop) as customer:
        await customer.send("message.send", text="Is anybody there?")
        assert (await customer.next("ack", PATIENCE))["data"]["state"] == "handed_over"
        asked = len(models.calls)
        await in_db(post)(bob, customer.conversation_id, deed="give_back")
        frame = await customer.next("handoff.updated", PATIENCE)
        assert frame["data"] == {"state": "open", "reason": "given_back"}
        models.script("*", Reply(GOOD))
        assert await answer_to(customer, "And now?") == GOOD
        assert len(models.calls) == asked + 1


async def test_closed_it_is_told_and_what_is_asked_next_begins_anew(models):
    shop = await in_db(open_shop)("alice", models.base_url)
    bob = await in_db(logged_in)((shop, "support"))
    async with customer_with_person(models, shop) as customer:
        closed = customer.conversation_id
        await in_db(post)(bob, closed, deed="close")
        frame = await customer.next("handoff.updated", PATIENCE)
        assert frame["data"] == {"state": "closed", "reason": "closed"}
        await customer.send("message.send", conversation_id=closed, text="Hello?")
        await customer.next("problem", PATIENCE)
        models.script("*", Reply(GOOD))
        assert await answer_to(customer, "Hello again?") == GOOD
        assert customer.received[-1]["conversation_id"] != closed


async def test_the_widget_shows_who_answers(chromium, models):
    shop = await in_db(open_shop)("alice", models.base_url)
    bob = await in_db(logged_in)((shop, "support"))
    models.script("*", Reply("I do not know."))  # not scored: a person is asked
    async with shop_page(shop, models) as address:
        tab = await chromium.new_page()
        log, status = tab.get_by_role("log"), tab.get_by_role("status")
        await open_by_keyboard(tab, address)
        await ask(tab, "Where is my order?")
        await expect(status).to_contain_text("A colleague will answer here.")
        talk_id = await in_db(only_conversation)(shop)
        await in_db(post)(bob, talk_id, text="I am Bob.")
        await expect(log.get_by_text("Staff:")).to_be_visible()
        await expect(log).to_contain_text("I am Bob.")
        await in_db(post)(bob, talk_id, deed="give_back")
        await expect(status).to_have_text("")
        await in_db(post)(bob, talk_id, deed="close")
        await expect(status).to_contain_text("closed")
        models.script("*", Reply(GOOD))
        await ask(tab, "And now?")
        await expect(log).to_contain_text(f"Assistant: {GOOD}")


async def test_who_waits_appears_in_the_open_inbox_and_is_answered_at_once(chromium, models):
    shop = await in_db(open_shop)("alice", models.base_url)
    models.script("*", Reply("I do not know."))  # not scored: a person is asked
    async with shop_page(shop, models) as address, pages() as base:
        desk = await (await log_in(chromium, shop, base, "support")).new_page()
        await desk.goto(base + list_url(Conversation))
        await expect(desk.get_by_role("status")).to_contain_text("Nobody waits")
        tab = await chromium.new_page()
        await open_by_keyboard(tab, address)
        await ask(tab, "Where is my order?")
        await expect(desk.get_by_role("status")).to_contain_text("1 customer waits")
        row = desk.locator("#result_list tbody tr")
        await expect(row).to_contain_text("Where is my order?")
        await row.get_by_role("link").first.click()
        await desk.get_by_label("Reply to the customer").fill("I am Bob.")
        await desk.get_by_role("button", name="Send").click()
        await expect(tab.get_by_role("log")).to_contain_text("I am Bob.")
        await desk.get_by_label("Reply to the customer").fill("half a")
        await ask(tab, "And when?")
        await expect(desk.get_by_role("log")).to_contain_text("And when?")
        await expect(desk.get_by_label("Reply to the customer")).to_have_value("half a")  # nothing typed is lost
        await desk.context.clear_cookies()
        await ask(tab, "Anybody?")
        await expect(desk.get_by_label("Username")).to_be_visible()  # not half a page


def test_an_open_page_is_left_alone_while_nothing_happens(shop):
    client, talk = logged_in((shop, "support")), waiting(shop)
    address = reverse("admin:cascade_conversation_change", args=[talk.id])
    seen = client.get(address).context["seen"]
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address, headers={"X-Seen": seen}).status_code == 204
    assert not [query for query in asked if '"cascade_turncontext"' in query["sql"]]  # nothing long is read
    post(client, talk.id, text="Hello")
    changed = client.get(address, headers={"X-Seen": seen})
    assert "every 3s" in changed.content.decode()
    post(client, talk.id, deed="close")
    assert "every 3s" not in page(client, talk)  # nothing can happen any more


def only_conversation(shop: Shop):
    with in_tenant(shop.tenant_id):
        return Conversation.objects.get().id


# --- the strategy that answers otherwise ------------------------------------------------------


def add_strategy(client: Client, shop: Shop, deadline: str = "60", **change: object) -> int:
    form = strategy_form(shop, TIER | change) | {"deadline_seconds": deadline}
    return client.post(list_url(CascadeStrategy) + "add/", form).status_code


@pytest.mark.parametrize("deadline", ["0", "-1", "600.1", "nan", "inf", ""])
def test_a_deadline_out_of_bounds_is_refused(shop, deadline):
    assert add_strategy(logged_in((shop, "owner")), shop, deadline) == 200


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_seconds": 0}, {"deadline_seconds": 601}, {"deadline_seconds": float("nan")},
        {"max_output_tokens": 4097}, {"max_output_tokens": 1.5}, {"threshold": -0.1}, {"threshold": 1.01},
    ],
    ids=str,
)  # fmt: skip
def test_a_tier_out_of_bounds_is_refused(shop, change):
    assert add_strategy(logged_in((shop, "owner")), shop, **change) == 200


def test_the_bounds_themselves_are_taken(shop):
    alice = logged_in((shop, "owner"))
    most = {"deadline_seconds": 600, "max_output_tokens": 4096, "threshold": 1}
    least = {"deadline_seconds": 0.1, "max_output_tokens": 1, "threshold": 0}
    assert [add_strategy(alice, shop, "600", **most), add_strategy(alice, shop, "0.1", **least)] == [302, 302]


def test_two_new_versions_at_once_get_two_numbers(shop):
    alice, answers = logged_in((shop, "owner")), []
    with in_tenant(shop.tenant_id):
        Chatbot.objects.select_for_update().get()
        other = CascadeStrategy(tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, version=2)
        other.tiers, other.deadline_seconds = [TIER], 60
        other.save()
        thread = threading.Thread(target=lambda: answers.append(add_strategy(alice, shop)) or connection.close())
        thread.start()
        until_somebody_waits()
    thread.join(10)
    assert answers == [302]
    with in_tenant(shop.tenant_id):
        assert sorted(CascadeStrategy.objects.values_list("version", flat=True)) == [1, 2, 3]


def until_somebody_waits(seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits for the lock")
