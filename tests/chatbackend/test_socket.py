"""The socket over a real server: who is let in, what is refused, and that nothing is lost, doubled or shown twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from functools import partial

import pytest
import websockets
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path
from django.utils import timezone
from limits import parse
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.models import Customer, LedgerEntry, WidgetSecret
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Conversation, Feedback, Message, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import asgi, consumers, session
from chatbackend.consumers import ChatConsumer, answer_with
from chatbackend.outbox import Outbox
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.sockets import ORIGIN, Client, at_door, connected, is_reply, running, serving, signed
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
ANSWER = "Your desk lamp is good and it comes on Wednesday."
SLOW = Reply(ANSWER, pace=0.05)


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(ANSWER))
        server.script("large", Reply("Your desk lamp is excellent."))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


@pytest.fixture
def served(models):
    """`async with served() as address`: the real door before the real engine."""

    @asynccontextmanager
    async def serve(**door):
        engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9}))
        async with serving(engine, **door) as address:
            yield address
        await engine.aclose()

    return serve


def customers(shop):
    with in_tenant(shop.tenant_id):
        return list(Customer.objects.values())


def rows(shop, model, **filters):
    with in_tenant(shop.tenant_id):
        return list(model.objects.filter(**filters).order_by("created_at"))


async def until(happened, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not await in_db(happened)():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# --- one turn ---------------------------------------------------------------------------------


async def test_an_accepted_reply_streams_in_and_every_frame_has_its_number(served, alice):
    async with served() as address, at_door(address, alice) as client:
        assert await client.ask() == ANSWER
        assert client.shown == ANSWER
        assert client.seqs == list(range(1, len(client.seqs) + 1))
        kinds = [f["data"]["type"] for f in client.received if f["event"] == "stream.chunk"]
        assert kinds[:2] == ["start", "text-start"]
        assert kinds[-2:] == ["text-end", "finish"]
        assert [f["event"] for f in client.received][:3] == ["session.ready", "ack", "message.created"]


async def test_an_accepted_reply_is_paced_within_about_a_second(served, alice, models):
    models.script("small", Reply("good " * 300))
    async with served() as address, at_door(address, alice) as client:
        await client.send("message.send", text="Tell me everything")
        loop = asyncio.get_running_loop()
        moments = []
        while not client.received or not is_reply(client.received[-1]):
            frame = await client.next(lambda frame: True)
            if frame["event"] == "stream.chunk" and frame["data"]["type"] == "text-delta":
                moments.append(loop.time())
        assert len(moments) > 5
        assert 0.2 < moments[-1] - moments[0] < 2.0


async def test_a_reply_that_is_stopped_ends_the_model_call_and_is_charged(served, alice, models):
    models.script("small", SLOW)
    async with served() as address, at_door(address, alice) as client:
        await client.send("message.send", text="Hello?")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        await client.send("stream.cancel")
        await client.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "abort")
        await until(lambda: [turn.state for turn in rows(alice, Turn)] == ["cancelled"])
        assert await in_db(ledger.check)(alice.tenant_id) == []
        assert len(await in_db(rows)(alice, LedgerEntry, kind="charge")) == 1
        models.script("small", Reply(ANSWER))
        assert await client.ask("And now?") == ANSWER


async def test_stopping_when_nothing_runs_is_acknowledged(served, alice):
    async with served() as address, at_door(address, alice) as client:
        id = await client.send("stream.cancel")
        assert (await client.next("ack"))["reply_to"] == id


async def test_while_a_turn_runs_the_socket_still_listens(served, alice, models):
    models.script("small", SLOW)
    async with served() as address, at_door(address, alice) as client:
        await client.send("message.send", text="Hello?")
        await client.next("ack")
        id = await client.send("ping")
        assert (await client.next("pong", seconds=0.3))["reply_to"] == id


async def test_a_second_message_while_one_is_answered_is_told_to_wait_and_nothing_is_lost(served, alice, models):
    models.script("small", SLOW)
    async with served() as address, at_door(address, alice) as client:
        first = await client.send("message.send", text="One")
        second = await client.send("message.send", text="Two")
        assert (await client.next("problem"))["reply_to"] == second
        assert client.problems == ["busy"]
        assert (await client.next(is_reply))["reply_to"] == first
        assert await client.ask("Two", second) == ANSWER


async def test_a_message_sent_twice_at_once_is_answered_once(served, alice, models):
    models.script("small", SLOW)
    async with served() as address, at_door(address, alice) as client:
        id = await client.send("message.send", text="One")
        await client.send("message.send", id, text="One")
        await client.send("message.send", id, text="Another one")
        await client.next(is_reply)
        await client.quiet()
        assert len(models.calls) == 1
        assert len(client.seqs) == len(set(client.seqs))
        assert client.problems == ["idempotency_conflict"]


async def test_a_message_sent_again_is_replayed_and_another_under_its_id_refused(served, alice, models):
    async with served() as address:
        async with at_door(address, alice) as client:
            id = await client.send("message.send", text="One")
            await client.next(is_reply)
        async with at_door(address, alice) as again:
            await again.send("message.send", id, text="One")
            assert (await again.next("ack"))["data"]["duplicate"] is True
            await again.next(is_reply)
            assert again.shown == ANSWER
            await again.send("message.send", id, text="Two")
            await again.next("problem")
            assert again.problems == ["idempotency_conflict"]
        assert len(models.calls) == 1


# --- coming back, and several tabs --------------------------------------------------------------


async def test_a_lost_connection_loses_nothing_and_shows_nothing_twice(served, alice, models):
    models.script("small", SLOW)
    async with served() as address:
        async with at_door(address, alice) as client:
            await client.send("message.send", text="Hello?")
            await client.next("message.created")
            last = client.seqs[-1]
        async with at_door(address, alice) as back:
            await back.send("session.resume", last_seq=last)
            await back.next(is_reply)
            assert back.shown == ANSWER
            assert back.seqs == list(range(last + 1, last + 1 + len(back.seqs)))
        assert [charge.outcome for charge in await in_db(rows)(alice, LedgerEntry, kind="charge")] == ["accepted"]


async def test_resuming_after_the_end_or_too_far_back_asks_for_the_history(served, alice, monkeypatch):
    async with served() as address, at_door(address, alice) as client:
        await client.ask()
        await client.send("session.resume", last_seq=10_000)
        assert (await client.next("resync.required"))["data"]["last_seq"] == client.seqs[-1]
        monkeypatch.setattr(session, "MAX_REPLAY", 3)
        await client.send("session.resume", last_seq=0)
        await client.next("resync.required")
        await client.send("history.list")
        assert [m["text"] for m in (await client.next("history.page"))["data"]["messages"]][-1] == ANSWER


async def test_another_tab_gets_the_same_frames_in_the_same_order(served, alice):
    async with served() as address, at_door(address, alice) as one, at_door(address, alice) as two:
        await two.send("session.resume", last_seq=0)
        await two.next("ack")
        await one.ask()
        await two.next(is_reply)
        stored = [f for f in one.received if f["seq"]]
        assert [f for f in two.received if f["seq"]] == stored


async def test_another_tab_can_stop_the_turn(served, alice, models):
    models.script("small", SLOW)
    async with served() as address:
        async with at_door(address, alice) as one:
            await one.send("message.send", text="Hello?")
            await one.next("ack")
        async with at_door(address, alice) as two:
            await two.send("session.resume", last_seq=0)
            await two.send("stream.cancel")
            await two.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "abort")
        await until(lambda: [turn.state for turn in rows(alice, Turn)] == ["cancelled"])


async def test_going_to_another_conversation_mixes_nothing_up(served, alice, models):
    models.script("small", SLOW)
    async with served() as address, at_door(address, alice) as client:
        other = await in_db(new_conversation)(alice)
        await client.send("message.send", text="Hello?", conversation_id=client.conversation_id)
        await client.next("message.created")
        await client.send("session.resume", conversation_id=other, last_seq=0)
        assert (await client.next(is_reply))["conversation_id"] == client.conversation_id
        await client.ask("And here?")  # the newest open conversation
        for conversation_id in (client.conversation_id, other):
            seqs = [f["seq"] for f in client.received if f["seq"] and f["conversation_id"] == conversation_id]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) > 4


def new_conversation(shop):
    caller = shop.caller()
    with in_tenant(shop.tenant_id):
        known = Conversation.objects.get(customer_id=caller.customer_id)
        made = Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=known.chatbot_id, customer_id=known.customer_id
        )
        return str(made.id)


async def test_what_a_member_writes_reaches_an_open_socket_between_turns(served, alice):
    async with served() as address, at_door(address, alice) as client:
        await client.ask()

        def write():
            with in_tenant(alice.tenant_id):
                conversation = Conversation.objects.get()
                conversations.say(conversation, Message.Role.STAFF, "A colleague here.")

        await in_db(write)()
        assert (await client.next("message.created"))["data"]["text"] == "A colleague here."
        assert client.seqs == list(range(1, len(client.seqs) + 1))


# --- history and feedback ------------------------------------------------------------------------


async def test_history_comes_in_pages(served, alice):
    async with served() as address, at_door(address, alice) as client:
        for text in ("One", "Two"):
            await client.ask(text)
        await client.send("history.list", limit=3)
        page = (await client.next("history.page"))["data"]
        assert [m["text"] for m in page["messages"]] == [ANSWER, "Two", ANSWER]
        await client.send("history.list", limit=3, before_seq=page["before_seq"])
        page = (await client.next("history.page"))["data"]
        assert ([m["text"] for m in page["messages"]], page["before_seq"]) == (["One"], None)


async def test_feedback_is_kept_and_a_strangers_is_not_found(served, alice):
    async with served() as address, at_door(address, alice) as client:
        await client.ask()
        reply = client.received[-1]["data"]["id"]
        await client.send("feedback.set", message_id=reply, rating=-1, comment="wrong lamp")
        await client.next("ack")
        async with at_door(address, alice, "c2") as stranger:
            await stranger.send("feedback.set", message_id=reply, rating=1)
            await stranger.next("problem")
            assert stranger.problems == ["not_found"]
        assert [f.rating for f in await in_db(rows)(alice, Feedback)] == [-1]


# --- who is let in -------------------------------------------------------------------------------


async def test_a_visitor_gets_a_secret_and_comes_back_as_the_same_one(served, alice):
    async with served() as address:
        async with connected(address) as client:
            first = await client.auth(widget_key=alice.widget_key)
        async with connected(address) as client:
            second = await client.auth(widget_key=alice.widget_key, visitor=first["data"]["visitor"])
    assert second["data"]["customer"] == first["data"]["customer"]
    assert second["data"]["customer"]["verified"] is False
    assert second["conversation_id"] == first["conversation_id"]


async def refused(address, auth, **options):
    async with connected(address, **options) as client:
        await client.send("auth", **auth)
        return await client.until_closed(), client.problems


async def test_whom_the_door_refuses_and_how(served, alice):
    key = alice.widget_key
    stranger = "wk_" + "A" * 22
    async with served() as address:
        assert await refused(address, {"widget_key": key, "jwt": "a.b.c"}) == (4401, ["identity_refused"])
        assert await refused(address, {"widget_key": stranger}) == (4403, ["unknown_widget"])
        evil = await refused(address, {"widget_key": key}, origin="https://evil.example")
        assert evil == (4403, ["origin_refused"])
        assert await refused(address, {"widget_key": key}, origin=None) == (4403, ["origin_refused"])


async def test_who_says_nothing_or_something_else_first_is_closed(served, alice):
    async with served(auth_seconds=0.2) as address:
        async with connected(address) as client:
            assert (await client.until_closed(), client.problems) == (4408, ["auth_timeout"])
        async with connected(address) as client:
            await client.send("message.send", text="Hello?")
            assert (await client.until_closed(), client.problems) == (4401, ["not_authenticated"])
    assert await in_db(rows)(alice, Turn) == []


async def test_a_stranger_who_tries_again_and_again_is_closed(served, alice):
    made_up = {"widget_key": alice.widget_key}
    async with served(auth_seconds=2) as address:
        async with connected(address) as client:
            for _ in range(consumers.AUTH_TRIES + 1):
                await client.send("auth", conversation_id=str(uuid7()), **made_up)
            assert (await client.until_closed(), client.problems) == (4429, ["not_found"] * 3 + ["rate_limited"])
        async with connected(address) as client:
            await asyncio.sleep(1)
            await client.send("auth", conversation_id=str(uuid7()), **made_up)
            assert (await client.until_closed(1.9), client.problems) == (4408, ["not_found", "auth_timeout"])


async def test_an_unexpected_fault_at_the_door_leaves_the_deadline_running(served, alice, monkeypatch):
    def fail(*_):
        raise ValueError

    monkeypatch.setattr(consumers, "open_conversation", fail)
    async with served(auth_seconds=1) as address, connected(address) as client:
        await client.send("auth", widget_key=alice.widget_key)
        assert (await client.until_closed(), client.problems) == (4408, ["internal_error", "auth_timeout"])


async def test_an_address_becomes_so_many_new_visitors_and_no_more(served, alice, settings):
    settings.RATE_NEWCOMERS = parse("2/hour")
    key = alice.widget_key
    async with served() as address:
        async with connected(address) as one, connected(address) as two:
            visitors = [(await client.auth(widget_key=key))["data"]["visitor"] for client in (one, two)]
        known = await in_db(customers)(alice)
        assert await refused(address, {"widget_key": key}) == (4429, ["rate_limited"])
        assert await refused(address, {"widget_key": key, "visitor": "made:up"}) == (4429, ["rate_limited"])
        assert await in_db(customers)(alice) == known
        async with connected(address) as back, at_door(address, alice):
            await back.auth(widget_key=key, visitor=visitors[0])


async def test_who_sends_too_much_is_told_when_there_is_room_again_and_loses_nothing(served, alice, settings):
    settings.RATE_CUSTOMER = parse("2/minute")
    async with served() as address, at_door(address, alice) as client, at_door(address, alice, "c2") as other:
        for _ in range(2):
            await client.ask()
        id = await client.send("message.send", text="And the third?")
        problem = await client.next("problem")
        assert (problem["data"]["code"], problem["reply_to"]) == ("rate_limited", id)
        assert 1 <= problem["data"]["retry_after"] <= 60
        assert len(await in_db(rows)(alice, Turn)) == 2
        await other.ask()
        settings.RATE_CUSTOMER = None
        await client.ask(id=id)


async def test_a_withdrawn_identity_closes_the_socket(served, alice):
    async with served(check_seconds=0.1) as address, at_door(address, alice) as client:
        assert await client.quiet(0.3) == []

        def withdraw():
            with in_tenant(alice.tenant_id):
                WidgetSecret.objects.update(revoked_at=timezone.now())

        await in_db(withdraw)()
        assert await client.until_closed() == 4401


async def test_looking_whether_an_identity_holds_changes_no_customer(served, alice):
    async with served(check_seconds=0.05) as address, at_door(address, alice) as client:

        def edit():
            with in_tenant(alice.tenant_id):
                Customer.objects.update(attributes={"plan": "changed by a member"}, locale="de", verified=False)
            return customers(alice)

        edited = await in_db(edit)()
        assert await client.quiet(0.5) == []
        assert await in_db(customers)(alice) == edited


async def test_anothers_conversation_is_as_unknown_as_one_that_never_was(served, alice):
    async with served() as address, at_door(address, alice, "c1") as one, at_door(address, alice, "c2") as two:
        await one.ask()
        answers = []
        for conversation_id in (one.conversation_id, str(uuid7())):
            for type, data in (
                ("message.send", {"text": "Hello?"}),
                ("session.resume", {"last_seq": 0}),
                ("history.list", {}),
                ("stream.cancel", {}),
            ):
                await two.send(type, conversation_id=conversation_id, **data)
                problem = (await two.next("problem"))["data"]
                answers.append((type, problem["code"], problem["detail"]))
        assert len(set(answers)) == 4
        assert {code for _, code, _ in answers} == {"not_found"}
        async with connected(address) as client:
            await client.send(
                "auth",
                conversation_id=one.conversation_id,
                widget_key=alice.widget_key,
                jwt=await signed(alice, "c2"),
            )
            await client.next("problem")
            assert client.problems == ["not_found"]


async def test_another_tenants_identity_opens_nothing_here(served, alice, models):
    charlie = await in_db(open_shop)("charlie", models.base_url)
    async with served() as address:
        jwt = await signed(charlie)
        assert await refused(address, {"widget_key": alice.widget_key, "jwt": jwt}) == (4401, ["identity_refused"])


# --- bad input and faults ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("not json", "invalid_json"),
        ("[]", "invalid_json"),
        ('{"v":1,"v":1}', "invalid_json"),
        (json.dumps({"v": 2, "id": "a", "type": "ping"}), "unsupported_version"),
        (json.dumps({"v": 1, "id": "a", "type": "shout"}), "unknown_type"),
        (json.dumps({"v": 1, "id": "a", "type": "message.send", "data": {}}), "invalid_frame"),
        (json.dumps({"v": 1, "id": "a", "type": "message.send", "data": {"text": "x" * 8001}}), "message_too_long"),
        (json.dumps({"v": 1, "id": "a", "type": "message.send", "data": {"text": "a\0b"}}), "invalid_frame"),
    ],
)
async def test_a_bad_frame_is_told_and_the_socket_stays(served, alice, raw, code):
    async with served() as address, at_door(address, alice) as client:
        await client.connection.send(raw)
        await client.next("problem")
        assert client.problems == [code]
        assert await client.ask() == ANSWER


async def test_a_frame_that_is_too_big_or_binary_closes_the_socket(served, alice):
    async with served() as address:
        async with at_door(address, alice) as client:
            await client.connection.send("x" * 70_000)
            assert await client.until_closed() == 1009
        async with at_door(address, alice) as client:
            await client.connection.send(b"\x00")
            assert await client.until_closed() == 1003


async def test_too_many_frames_close_the_socket(served, alice):
    async with served() as address, at_door(address, alice) as client:
        for _ in range(consumers.FRAMES):
            await client.send("ping")
        assert (await client.until_closed(), client.problems) == (4429, ["rate_limited"])


async def test_without_a_database_the_door_says_so_and_waits(served, alice, monkeypatch):
    async with served() as address, connected(address) as client:
        with monkeypatch.context() as lost:
            lost.setattr(consumers, "open_conversation", gone)
            await client.send("auth", widget_key=alice.widget_key)
            await client.next("problem")
            assert client.problems == ["temporarily_unavailable"]
        await client.auth(widget_key=alice.widget_key)
        assert await client.ask() == ANSWER


async def test_a_database_lost_in_mid_turn_still_shows_the_reply(served, alice, monkeypatch):
    async with served() as address, at_door(address, alice) as client:
        monkeypatch.setattr(conversations, "close_turn", gone)
        await client.send("message.send", text="Hello?")
        await client.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "finish")
        assert client.shown == ANSWER


def gone(*_):
    from django.db import OperationalError

    raise OperationalError("the database is gone")


async def test_an_unexpected_fault_is_told_by_a_code_alone_and_logged_without_words(served, alice, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("secret words of a customer")

    async with served() as address, at_door(address, alice) as client:
        monkeypatch.setattr(conversations, "history", fail)
        await client.send("history.list")
        problem = await client.next("problem")
        assert problem["data"]["code"] == "internal_error"
        assert "secret" not in json.dumps(problem)
        assert "ValueError" in caplog.text
        assert "secret" not in caplog.text
        assert await client.ask() == ANSWER


async def test_a_reader_who_does_not_read_is_closed_and_the_turn_goes_on(served, alice, monkeypatch):
    monkeypatch.setattr(consumers, "Outbox", partial(Outbox, patience_seconds=0.2))

    def write_a_lot(conversation_id):
        with in_tenant(alice.tenant_id):
            conversation = Conversation.objects.get(id=conversation_id)
            for _ in range(300):
                conversations.say(conversation, Message.Role.STAFF, "x" * 60_000)

    async with served() as address, at_door(address, alice, max_queue=1) as client:
        await in_db(write_a_lot)(client.conversation_id)
        await client.send("session.resume", last_seq=0)
        await asyncio.sleep(1)
        await client.send("message.send", text="Hello?")
        assert await client.until_closed() == 1013
        assert client.problems == ["too_slow"]
        assert client.seqs == list(range(1, len(client.seqs) + 1))


async def test_the_end_of_the_process_waits_for_its_turns(models, alice):
    models.script("small", SLOW)
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9}))
    door = URLRouter([path("ws/chat/", ChatConsumer.as_asgi(answer=answer_with(lambda: engine)))])
    application = ProtocolTypeRouter({"websocket": door, "lifespan": asgi.lifespan})
    async with running(application, lifespan="on") as port:
        client = await websockets.connect(f"ws://127.0.0.1:{port}/ws/chat/", origin=ORIGIN)
        speaker = Client(client)
        await speaker.auth(widget_key=alice.widget_key)
        await speaker.send("message.send", text="Hello?")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
    assert await speaker.until_closed() == 1012
    assert [turn.state for turn in await in_db(rows)(alice, Turn)] == ["answered"]
    assert await in_db(ledger.check)(alice.tenant_id) == []
    await engine.aclose()


async def test_an_unknown_address_is_refused_before_the_socket_opens():
    async with running(asgi.sockets) as port:
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"ws://127.0.0.1:{port}/ws/other/")
