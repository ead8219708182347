"""Several web processes on one database: what one stores the other shows, stops and, when one was killed, settles."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from accounts import ledger
from accounts.models import Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade.models import ModelCall, Turn
from chatbackend import recovery
from tests.cast import open_shop
from tests.chatbackend.sockets import at_door, is_reply
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
ANSWER = "Your desk lamp is good and it comes on Wednesday."


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(ANSWER, pace=0.1))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


class Web:
    """A process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.address = f"ws://127.0.0.1:{port}/ws/chat/"

    async def end(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        await asyncio.wait_for(self.process.wait(), 30)


@contextlib.asynccontextmanager
async def web_process() -> AsyncIterator[Web]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["-m", "uvicorn", "tests.chatbackend.web_process:application", f"--port={port}", "--ws=websockets-sansio"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, "--log-level=warning", env=os.environ)
    web = Web(process, port)
    try:
        await answering(port)
        yield web
    finally:
        await web.end(signal.SIGKILL)


async def answering(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.1)


def rows(shop, model, **filters):
    with in_tenant(shop.tenant_id):
        return list(model.objects.filter(**filters))


async def test_what_one_process_answers_another_shows_and_can_stop(alice, models):
    async with web_process() as first, web_process() as second:
        async with at_door(first.address, alice) as one, at_door(second.address, alice) as two:
            await two.send("session.resume", last_seq=0)
            await two.next("ack")
            assert await one.ask() == ANSWER
            await two.next(is_reply)
            assert [f for f in two.received if f["seq"]] == [f for f in one.received if f["seq"]]

            models.script("small", Reply(ANSWER, pace=0.5))
            await one.send("message.send", text="And the other one?")
            await asyncio.to_thread(models.wait_until, lambda: len(models.calls) == 2)
            await two.send("stream.cancel")
            for tab in (one, two):
                await tab.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "abort")
        assert [turn.state for turn in await in_db(rows)(alice, Turn)] == ["answered", "cancelled"]
        assert await in_db(ledger.check)(alice.tenant_id) == []


async def test_a_killed_process_leaves_a_turn_that_is_settled_once_and_a_customer_who_is_told(alice, models):
    models.script("small", Reply("good " * 50, pace=0.2))
    async with web_process() as doomed:
        async with at_door(doomed.address, alice) as client:
            await client.send("message.send", text="Where is my order?")
            await client.next("message.created")
            await asyncio.to_thread(models.wait_until, lambda: models.calls and models.calls[0].billed.output > 5)
            assert await recovery.settle_dead_turns() == 0  # it is alive
            last = client.seqs[-1]
            await doomed.end(signal.SIGKILL)
        settled = await asyncio.gather(*(recovery.settle_dead_turns() for _ in range(3)))
        assert sum(settled) == 1
    [hold] = await in_db(rows)(alice, Hold)
    [call] = await in_db(rows)(alice, ModelCall)
    [charge] = await in_db(rows)(alice, LedgerEntry, kind="charge")
    assert (charge.estimated, call.outcome, call.error) == (True, "failed", "process_died")
    assert hold.spent_micros == -charge.amount_micros == call.cost_micros > 0
    assert await in_db(ledger.check)(alice.tenant_id) == []
    models.script("small", Reply(ANSWER))
    async with web_process() as next_one, at_door(next_one.address, alice) as back:
        await back.send("session.resume", last_seq=last)
        await back.next(lambda f: f["event"] == "stream.chunk" and f["data"]["type"] == "error")
        assert await back.ask("Where is it, then?") == ANSWER


async def test_a_process_that_is_asked_to_end_finishes_its_turns_first(alice, models):
    async with web_process() as web, at_door(web.address, alice) as client:
        await client.send("message.send", text="Where is my order?")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        await web.end(signal.SIGTERM)
        assert await client.until_closed() == 1012
    assert [turn.state for turn in await in_db(rows)(alice, Turn)] == ["answered"]
    assert [hold.settled_at is not None for hold in await in_db(rows)(alice, Hold)] == [True]
