"""One message from arrival to receipt: who is answered, what is shown, what is charged, whatever dies."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import timedelta

import psycopg
import pytest
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.models import Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Conversation, Message, ModelCall, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat, journal, recovery
from chatbackend.live import live
from chatbackend.protocol import Send
from tests.cast import ORDER, ScriptedScorer, make_model, open_shop
from tests.model_server import Fault, ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply("Your desk lamp is good."))
        server.script("large", Reply("Your desk lamp is excellent."))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


def engine(models, **scores: float) -> Engine:
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer(scores or {"good": 0.9}))


async def ask(caller, text="Where is my order?", *, engine, id=None, conversation_id=None):
    send = Send(id or str(uuid7()), conversation_id, text)
    async with aclosing(chat.answer(caller, send, engine=engine)) as frames:
        told = [frame async for frame in frames]
    await chat.kept()
    return told


def said(frames) -> str:
    return "".join(
        frame.data["delta"] for frame in frames if frame.event == "stream.chunk" and frame.data["type"] == "text-delta"
    )


def problems(frames) -> list[str]:
    return [frame.data["code"] for frame in frames if frame.event == "problem"]


@in_db
def on_record(shop, model, **filters):
    with in_tenant(shop.tenant_id):
        return list(model.objects.filter(**filters).order_by("created_at"))


@in_db
def books_balance(shop) -> bool:
    return ledger.check(shop.tenant_id) == []


async def test_an_accepted_answer_is_streamed_stored_and_charged(models, alice):
    frames = await ask(await in_db(alice.caller)(), engine=engine(models))
    assert frames[0].event == "ack"
    assert said(frames) == "Your desk lamp is good."
    assert [frame.seq for frame in frames[1:]] == list(range(1, len(frames)))
    assert frames[-1].data["text"] == said(frames)
    [call] = await on_record(alice, ModelCall)
    assert (call.outcome, call.score, call.error) == ("accepted", 0.9, "")
    [charge] = await on_record(alice, LedgerEntry, kind="charge")
    billed = models.calls[0].billed
    assert -charge.amount_micros == billed.input + 4 * billed.output == call.cost_micros
    assert await books_balance(alice)


async def test_a_rejected_draft_is_never_shown_and_charged_too(models, alice):
    models.script("small", Reply("Your desk lamp is poor."))
    frames = await ask(await in_db(alice.caller)(), engine=engine(models, poor=0.1, excellent=0.8))
    assert said(frames) == "Your desk lamp is excellent."
    assert "poor" not in json.dumps([dict(frame.data) for frame in frames])
    assert [call.outcome for call in await on_record(alice, ModelCall)] == ["rejected", "accepted"]
    assert len(await on_record(alice, LedgerEntry, kind="charge")) == 2
    assert await books_balance(alice)


async def test_under_the_floor_a_person_takes_over_and_no_model_is_asked_again(models, alice):
    caller = await in_db(alice.caller)()
    frames = await ask(caller, engine=engine(models, good=0.1, excellent=0.2))
    assert said(frames) == ""
    assert frames[-1].event == "handoff.updated"
    assert [conversation.state for conversation in await on_record(alice, Conversation)] == ["handed_over"]
    asked = len(models.calls)
    later = await ask(caller, "Hello?", engine=engine(models))
    assert [frame.event for frame in later] == ["ack", "message.created"]
    assert len(models.calls) == asked


async def test_each_customer_is_answered_from_their_own_record(models, alice):
    models.script("*", Reply(text=lambda request: "good " + json.dumps(request["messages"])))
    for external_id, item in (("c1", "desk lamp"), ("c2", "garden hose")):
        caller = await in_db(alice.caller)(external_id, ORDER | {"item": item})
        await ask(caller, engine=engine(models))
    prompts = [json.dumps(call.body["messages"]) for call in models.calls]
    assert "desk lamp" in prompts[0]
    assert "garden hose" not in prompts[0]
    assert "garden hose" in prompts[1]
    assert "desk lamp" not in prompts[1]


async def test_a_message_sent_twice_is_one_turn(models, alice):
    caller, id = await in_db(alice.caller)(), str(uuid7())
    await ask(caller, engine=engine(models), id=id)
    again = await ask(caller, engine=engine(models), id=id)
    assert [frame.data["duplicate"] for frame in again] == [True]
    assert len(models.calls) == len(await on_record(alice, Turn)) == 1


async def test_an_id_cannot_be_used_for_another_message(models, alice):
    caller, id = await in_db(alice.caller)(), str(uuid7())
    await ask(caller, engine=engine(models), id=id)
    assert problems(await ask(caller, "Another one", engine=engine(models), id=id)) == ["idempotency_conflict"]


async def test_anothers_conversation_is_not_found(models, alice):
    mine = await ask(await in_db(alice.caller)("c1"), engine=engine(models))
    theirs = await in_db(alice.caller)("c2")
    frames = await ask(theirs, engine=engine(models), conversation_id=mine[0].conversation_id)
    assert problems(frames) == ["not_found"]


async def test_a_closed_conversation_takes_no_message(models, alice):
    caller = await in_db(alice.caller)()
    first = await ask(caller, engine=engine(models))
    await in_db(close_conversation)(alice)
    again = await ask(caller, engine=engine(models), conversation_id=first[0].conversation_id)
    assert problems(again) == ["conversation_closed"]
    assert (await ask(caller, engine=engine(models)))[0].conversation_id != first[0].conversation_id


def close_conversation(shop):
    with in_tenant(shop.tenant_id):
        Conversation.objects.update(state=Conversation.State.CLOSED)


async def test_without_funds_no_model_is_asked_and_the_question_stays(models):
    shop = await in_db(open_shop)("poor", models.base_url, funds="0.000001")
    frames = await ask(await in_db(shop.caller)(), engine=engine(models))
    assert problems(frames) == ["temporarily_unavailable"]
    assert models.calls == []
    assert [message.text for message in await on_record(shop, Message)] == ["Where is my order?"]
    assert [(turn.state, turn.problem) for turn in await on_record(shop, Turn)] == [("refused", "insufficient_funds")]
    assert await books_balance(shop)


async def test_a_model_without_a_price_is_refused_before_anything_is_asked(models, alice):
    await in_db(make_model)("unpriced", models.base_url, price=None)
    tiers = [{"model": "unpriced", "threshold": 0.5, "deadline_seconds": 5, "max_output_tokens": 50}]
    await in_db(new_strategy)(alice, tiers)
    frames = await ask(await in_db(alice.caller)(), engine=engine(models))
    assert problems(frames) == ["temporarily_unavailable"]
    assert models.calls == []


def new_strategy(shop, tiers):
    from cascade.models import CascadeStrategy, Chatbot

    with in_tenant(shop.tenant_id):
        strategy = CascadeStrategy.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, version=2, tiers=tiers, deadline_seconds=5
        )
        Chatbot.objects.filter(id=shop.chatbot_id).update(live_strategy=strategy)


async def test_a_stopped_turn_ends_the_call_and_is_charged_for_what_was_written(models, alice):
    models.script("small", Reply("one two three four five six", pace=0.2))
    caller = await in_db(alice.caller)()
    task = asyncio.create_task(ask(caller, engine=engine(models)))
    await asyncio.to_thread(models.wait_until, lambda: models.calls)
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [call] = await on_record(alice, ModelCall)
    assert (call.outcome, call.estimated) == ("cancelled", True)
    assert call.cost_micros > 0
    assert [turn.state for turn in await on_record(alice, Turn)] == ["cancelled"]
    assert [hold.settled_at is not None for hold in await on_record(alice, Hold)] == [True]
    assert await books_balance(alice)
    await asyncio.to_thread(models.wait_until, lambda: models.calls[0].dropped)


async def test_a_chatbot_without_a_floor_shows_its_last_tier_while_it_writes(models):
    shop = await in_db(open_shop)("eager", models.base_url, floor=0)
    models.script("small", Fault.status(500))
    models.script("large", Reply("one two three four five six", pace=0.1))
    send, first_at, done_at = Send(str(uuid7()), None, "Hello"), None, None
    loop = asyncio.get_running_loop()
    frames = []
    async for frame in chat.answer(await in_db(shop.caller)(), send, engine=engine(models)):
        frames.append(frame)
        if frame.event == "stream.chunk" and frame.data["type"] == "text-delta":
            first_at = first_at or loop.time()
        done_at = loop.time()
    await chat.kept()
    assert said(frames) == "one two three four five six"
    assert done_at - first_at > 0.2
    assert [frame.seq for frame in frames[1:]] == list(range(1, len(frames)))
    assert frames[-1].data["text"] == said(frames)


async def test_a_stale_record_is_never_asserted_as_current(models, alice):
    await in_db(alice.change)(stale_after=timedelta(seconds=0))
    frames = await ask(await in_db(alice.caller)(), engine=engine(models))
    assert "good" in said(frames)
    assert said(frames) != "Your desk lamp is good."
    [turn] = await on_record(alice, Turn)
    assert turn.context_report["stale"]


# --- whatever dies -----------------------------------------------------------------------------


async def test_a_database_lost_in_mid_turn_costs_neither_the_reply_nor_the_charge(models, alice, monkeypatch):
    caller = await in_db(alice.caller)()
    monkeypatch.setattr(conversations, "close_turn", gone)
    frames = await ask(caller, engine=engine(models))
    monkeypatch.undo()
    assert said(frames) == "Your desk lamp is good."
    assert all(frame.seq is None for frame in frames if frame.event == "stream.chunk")
    assert await on_record(alice, LedgerEntry, kind="charge") == []
    assert await in_db(journal.replay)() == 1
    assert await in_db(journal.replay)() == 0
    assert len(await on_record(alice, LedgerEntry, kind="charge")) == 1
    assert [message.text for message in await on_record(alice, Message)][-1] == "Your desk lamp is good."
    assert await books_balance(alice)


def gone(*_):
    from django.db import OperationalError

    raise OperationalError("the database is gone")


async def test_a_database_lost_before_the_hold_refuses_the_turn(models, alice, monkeypatch):
    caller = await in_db(alice.caller)()
    monkeypatch.setattr(conversations, "open_turn", gone)
    assert problems(await ask(caller, engine=engine(models))) == ["temporarily_unavailable"]
    assert models.calls == []


@pytest.fixture
def dead_turn(models, alice, monkeypatch):
    """A turn whose process died while the model was writing: its open hold and its call on record."""

    async def run(*, billed: bool):
        caller = await in_db(alice.caller)()
        monkeypatch.setattr(conversations, "close_turn", died)
        monkeypatch.setattr(journal, "keep", died)
        if not billed:
            monkeypatch.setattr(conversations.CallRecord, "billed", lambda *_: gone())
        await ask(caller, engine=engine(models))
        monkeypatch.undo()

    return run


def died(*_):
    raise psycopg.OperationalError("killed")


@pytest.mark.parametrize("billed", [True, False])
async def test_a_dead_process_leaves_one_charge_reported_or_estimated(models, alice, dead_turn, billed):
    await dead_turn(billed=billed)
    assert [hold.settled_at for hold in await on_record(alice, Hold)] == [None]
    assert await recovery.settle_dead_turns() == 1
    assert await recovery.settle_dead_turns() == 0
    [charge] = await on_record(alice, LedgerEntry, kind="charge")
    reported = models.calls[0].billed
    assert charge.estimated is not billed
    if billed:
        assert -charge.amount_micros == reported.input + 4 * reported.output
    assert [turn.state for turn in await on_record(alice, Turn)] == ["interrupted"]
    assert await books_balance(alice)


async def test_a_living_process_keeps_its_turns(models, alice):
    await live.start()
    try:
        models.script("small", Reply("Your desk lamp is good.", pace=0.2))
        task = asyncio.create_task(ask(await in_db(alice.caller)(), engine=engine(models)))
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        assert await recovery.settle_dead_turns() == 0
        assert said(await task) == "Your desk lamp is good."
    finally:
        await live.stop()
