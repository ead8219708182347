"""The database goes away for good reasons and bad: really, under a real socket, and comes back."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import asynccontextmanager

import psycopg
import pytest
from django.db import OperationalError, connection

from accounts import ledger
from accounts.models import LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade.models import Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import journal, recovery
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.sockets import at_door, connected, is_reply, serving
from tests.model_server import ModelServer, Reply

ANSWER = "Your desk lamp is good and it comes on Wednesday."
CUT_THE_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE usename = current_user AND pid <> pg_backend_pid()
"""  # each is waited for, at most five seconds; cutting itself would end the statement before the rest


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(ANSWER))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


@pytest.fixture
async def engine(models):
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9}))
    yield engine
    await engine.aclose()


@pytest.fixture(autouse=True)
def reconnected(database):
    """The connection of the tests' own thread was cut too."""
    yield
    connection.close()


@asynccontextmanager
async def without_database():
    """Nobody of the app role is connected, and nobody of it can connect."""
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        with psycopg.connect(os.environ["DATABASE_URL"]) as app:
            limit_connections(owner, 0)
            app.execute(CUT_THE_OTHERS)
        try:
            yield
        finally:
            limit_connections(owner, -1)
    async with asyncio.timeout(30):
        while not await in_db(is_back)():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def limit_connections(owner: psycopg.Connection, count: int) -> None:
    owner.execute(f'ALTER DATABASE "{owner.info.dbname}" CONNECTION LIMIT {count}')


def is_back() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except OperationalError:
        return False
    return True


async def test_lost_before_a_message_it_is_refused_and_answered_when_sent_again(alice, engine, models):
    async with serving(engine) as address, at_door(address, alice) as client:
        async with without_database():
            id = await client.send("message.send", text="Where is my order?")
            await client.next("problem", seconds=20)
            assert client.problems == ["temporarily_unavailable"]
            async with connected(address) as stranger:
                await stranger.send("auth", widget_key=alice.widget_key)
                await stranger.next("problem", seconds=20)
                assert stranger.problems == ["temporarily_unavailable"]
            await client.send("ping")
            await client.next("pong")
            assert models.calls == []
        assert await client.ask(id=id) == ANSWER
        async with at_door(address, alice):
            pass


async def test_lost_in_mid_reply_it_is_shown_all_the_same_and_charged_once_when_it_is_back(alice, engine, models):
    gone = threading.Event()
    models.script("small", Reply(lambda _: ANSWER if gone.wait(30) else ""))
    async with serving(engine) as address, at_door(address, alice) as client:
        await client.send("message.send", text="Where is my order?")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        async with without_database():
            gone.set()
            await client.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "finish", seconds=40)
            assert client.shown == ANSWER
            assert len(list(journal.waiting())) == 1
        await recovery.settle_dead_turns()
        await recovery.settle_dead_turns()
        reply = await client.next(is_reply, seconds=10)
        assert reply["data"]["text"] == ANSWER
        assert client.seqs == list(range(1, len(client.seqs) + 1))
        assert [turn.state for turn in await in_db(rows)(alice, Turn)] == ["answered"]
        assert len(await in_db(rows)(alice, LedgerEntry, kind="charge")) == 1
        assert await in_db(ledger.check)(alice.tenant_id) == []


def rows(shop, model, **filters):
    with in_tenant(shop.tenant_id):
        return list(model.objects.filter(**filters))
