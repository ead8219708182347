"""A server that is killed again and again under load loses no charge and invents none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
import websockets
from django.core.management import call_command
from django.db.models import Sum
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.models import Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade.conversations import tenants_with_open_turns
from cascade.models import ModelCall, Turn
from chatbackend import recovery
from tests.cast import Shop, open_shop
from tests.chatbackend.sockets import at_door, is_reply
from tests.model_server import NOTHING, Call, ModelServer, Reply
from tests.model_wires import Tokens

LANES, KILLS, AT_ONCE = 2, 25, 4  # 50 kills, 200 turns
ANSWER = "Your desk lamp is good and it comes on Wednesday."
LUCK = random.Random(6)
USAGES = ("counted", "counted", "counted", "counted", None, Tokens(-5, 3), Tokens(10**9, 3))

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def models():
    """Most calls report what they used; some nothing, or what cannot be."""
    with ModelServer() as server:
        server.script("small", *(Reply(ANSWER, pace=0.02, usage=LUCK.choice(USAGES)) for _ in range(400)))
        yield server


class Mother:
    """Whoever has the processes that are killed."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int]) -> None:
        self._process, self._turn = process, asyncio.Lock()
        self.addresses = [f"ws://127.0.0.1:{port}/ws/chat/" for port in ports]

    async def bear(self, number: int) -> int:
        """The id of a new web process at that address."""
        assert self._process.stdin
        assert self._process.stdout
        async with self._turn:
            self._process.stdin.write(f"{number}\n".encode())
            return int(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def mother(ports: int) -> AsyncIterator[Mother]:
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    env = os.environ | {f"RATE_{who}": "" for who in ("CUSTOMER", "ADDRESS", "TENANT", "NEWCOMERS")}
    command = (sys.executable, "-m", "tests.chatbackend.mortal", str(ports))
    process = await asyncio.create_subprocess_exec(*command, env=env, **pipes)
    assert process.stdout
    try:
        yield Mother(process, [int(port) for port in (await process.stdout.readline()).split()])
    finally:
        process.kill()
        await process.wait()


async def ask(address: str, shop: Shop, id: str) -> bool:
    """A customer's one message. Whether its end was told, before the server was killed."""
    with contextlib.suppress(websockets.WebSocketException, OSError):  # a TimeoutError too
        async with at_door(address, shop, id, open_timeout=60) as client:
            await client.send("message.send", id, text=f"Where is my order {id}?")
            await client.next(lambda frame: is_end(frame, id), seconds=60)
            return True
    return False


def is_end(frame: dict[str, Any], id: str) -> bool:
    if frame["reply_to"] != id:
        return False
    return is_reply(frame) or (frame["event"] == "stream.chunk" and frame["data"]["type"] == "error")


async def lane(number: int, at: Mother, shop: Shop, models: ModelServer) -> dict[str, bool]:
    """Turns by their ids, and whether their end was told: of a server killed at a random moment of each four."""
    told: dict[str, bool] = {}
    for _ in range(KILLS):
        process, before = await at.bear(number), len(models.calls)
        ids = [str(uuid7()) for _ in range(AT_ONCE)]
        asking = [asyncio.create_task(ask(at.addresses[number], shop, id)) for id in ids]
        far_enough = LUCK.randint(0, 2 * len(ANSWER.split()))  # pieces of the four answers together
        while written(models.calls[before:], ids) < far_enough and not all(task.done() for task in asking):
            await asyncio.wait(asking, timeout=0.005)
        await asyncio.sleep(LUCK.uniform(0, 0.1))
        os.kill(process, signal.SIGKILL)
        told |= dict(zip(ids, [await given_up(task) for task in asking], strict=True))
    return told


async def given_up(asking: asyncio.Task[bool], seconds: float = 0.5) -> bool:
    """Whether the end was told; whoever connected too late for the dead waits for the next in vain."""
    await asyncio.wait([asking], timeout=seconds)
    asking.cancel()
    await asyncio.wait([asking])
    return not asking.cancelled() and asking.result()


def written(calls: list[Call], ids: list[str]) -> int:
    """How many pieces have come of the answers to these messages."""
    return sum(call.billed.output for call in calls if any(id in call.question for id in ids))


async def settled(seconds: float = 60) -> None:
    """What each web process does at its start and each minute; the database notices the dead one by one."""
    async with asyncio.timeout(seconds):
        while await in_db(tenants_with_open_turns)():
            await recovery.settle_dead_turns()


async def until_told(address: str, shop: Shop, id: str, few: asyncio.Semaphore) -> None:
    async with few, asyncio.timeout(120):
        while not await ask(address, shop, id):
            pass


async def test_after_50_kills_in_200_turns_the_books_are_the_providers_to_the_micro_dollar(models, tmp_path):
    shop = await in_db(open_shop)("alice", models.base_url, funds="100")
    async with mother(LANES + 1) as at:
        lanes = await asyncio.gather(*(lane(number, at, shop, models) for number in range(LANES)))
        sent = {id: told for lane in lanes for id, told in lane.items()}
        await settled()
        process, few = await at.bear(LANES), asyncio.Semaphore(4)  # whoever was not told sends it again
        again = [until_told(at.addresses[LANES], shop, id, few) for id, told in sent.items() if not told]
        await asyncio.gather(*again)
        os.kill(process, signal.SIGTERM)
    await asyncio.to_thread(models.wait_until, lambda: all(it.finished or it.dropped for it in models.calls), 20)
    await in_db(every_hold_is_settled_once)(shop, list(sent))
    billed = {UUID(call.headers["x-client-request-id"]): call for call in models.calls if call.billed != NOTHING}
    await in_db(what_was_reported_is_charged_exactly)(shop, billed)
    await in_db(the_providers_log_corrects_the_rest)(shop, billed, tmp_path / "log.jsonl")


def every_hold_is_settled_once(shop: Shop, ids: list[str]) -> None:
    assert len(ids) == LANES * KILLS * AT_ONCE == 200
    with in_tenant(shop.tenant_id):
        states = dict(Turn.objects.values_list("client_id", "state"))
        assert states.keys() == set(ids)  # sent twice is asked once
        assert "open" not in states.values()
        assert {"answered", "interrupted"} <= set(states.values())
        assert not Hold.objects.filter(settled_at=None).exists()
        charged = LedgerEntry.objects.filter(kind="charge").values_list("call_id", flat=True)
        assert sorted(charged) == sorted(ModelCall.objects.values_list("id", flat=True))
    assert ledger.check(shop.tenant_id) == []


def what_was_reported_is_charged_exactly(shop: Shop, billed: dict[UUID, Call]) -> None:
    with in_tenant(shop.tenant_id):
        charges = list(LedgerEntry.objects.filter(kind="charge"))
    exact = [charge for charge in charges if not charge.estimated]
    assert {(charge.call_id, charge.cost_micros) for charge in exact} == {
        (charge.call_id, micros(billed[charge.call_id].billed)) for charge in exact
    }
    assert 0 < len(exact) < len(charges)


def the_providers_log_corrects_the_rest(shop: Shop, billed: dict[UUID, Call], log) -> None:
    lines = [
        {"client_request_id": str(call_id), "input_tokens": call.billed.input, "output_tokens": call.billed.output}
        for call_id, call in billed.items()
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    today = datetime.now(UTC).date()
    days = [str(today + timedelta(days=days)) for days in (-1, 1)]
    call_command("reconcile", "openai", str(log), "--correct", "--whole-days", *days, stdout=StringIO())
    with in_tenant(shop.tenant_id):
        booked = LedgerEntry.objects.aggregate(Sum("cost_micros"), Sum("input_tokens"), Sum("output_tokens"))
        observed = ModelCall.objects.aggregate(Sum("cost_micros"))
    tokens = [sum(getattr(call.billed, which) for call in billed.values()) for which in ("input", "output")]
    assert list(booked.values()) == [sum(micros(call.billed) for call in billed.values()), *tokens]
    assert observed["cost_micros__sum"] == booked["cost_micros__sum"]
    assert ledger.check(shop.tenant_id) == []
    call_command("reconcile", "openai", str(log), "--whole-days", *days, stdout=StringIO())  # and now they agree


def micros(tokens: Tokens) -> int:
    """At the shop's prices: a dollar a million in, four out."""
    return tokens.input + 4 * tokens.output
