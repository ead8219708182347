"""How much the product adds to a raw SDK call, and how many replies a second it streams; side by side in one run.

    python -m bench.first_reply [--rounds 20] [--at-once 64]

The same scripted provider (a process of its own, forty pieces without a pause) is asked by the bare SDK, by the
engine and through the whole product: uvicorn, socket, PostgreSQL with fsync, ledger. With a floor of 0 a reply is
shown as it comes, so its first text is compared with the SDK's first text; with the scorer nothing is shown before
the reply is whole and accepted, so its first text is compared with the SDK's last. All of them take turns within a
round, so that whatever else the machine does weighs on each alike: read the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from openai import AsyncOpenAI

from bench.stage import database, one_tier_shop, provider, web
from cascade.runner import Engine, Released
from cascade.values import Context, Customer, LanguageModel, Price, Prompt, PromptMessage, Record, Strategy, Tier

REPLY = " ".join(["Your", "order", "A-1", "is", "on", "its", "way."] * 6)  # forty-two words
QUESTION = "Where is my order?"
ANY_SCORE = 1e-9  # asks the scorer and takes whatever it says

Ask = Callable[[int], Awaitable[tuple[float, float]]]  # of customer n: seconds to the first text and to the last


@dataclass
class Contestant:
    name: str
    ask: Ask
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    a_second: list[float] = field(default_factory=list)
    unanswered: int = 0


# --- who is measured --------------------------------------------------------------------------


def by_sdk(client: AsyncOpenAI) -> Ask:
    async def ask(number: int) -> tuple[float, float]:
        began, first = time.perf_counter(), 0.0
        messages: Any = [{"role": message.role, "content": message.content} for message in PROMPT.messages]
        async with await client.chat.completions.create(
            model="scripted", messages=messages, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            async for chunk in chunks:
                if not first and chunk.choices and chunk.choices[0].delta.content:
                    first = time.perf_counter() - began
        return first, time.perf_counter() - began

    return ask


def by_engine(engine: Engine, model: LanguageModel, threshold: float) -> Ask:
    strategy = Strategy("bench", (Tier(model, threshold, 30.0, 200),), 30.0)

    async def ask(number: int) -> tuple[float, float]:
        began, first = time.perf_counter(), 0.0
        async for event in engine.run(CONTEXT, PROMPT, strategy, Unrecorded()):
            if not first and isinstance(event, Released):
                first = time.perf_counter() - began
        if not first:
            raise Unanswered(event)
        return first, time.perf_counter() - began

    return ask


class Unrecorded:
    """A recorder that keeps nothing: the engine alone."""

    async def asked(self, attempt_id: str, number: int, tier: int, tier_value: Tier) -> None: ...
    async def wrote(self, attempt_id: str, characters: int) -> None: ...
    async def billed(self, attempt: Any) -> None: ...


class Unanswered(Exception):
    """A frame that says there will be no reply."""


class Sockets:
    """A widget's open sockets, a customer each, kept from one round to the next."""

    def __init__(self, address: str, shop: Any) -> None:
        self._address, self._shop = address, shop
        self._open, self._clients, self._left = AsyncExitStack(), dict[int, Any](), list[Any]()

    async def ask(self, number: int) -> tuple[float, float]:
        client = await self._client(number)
        began, first, last = time.perf_counter(), 0.0, 0.0
        id = await client.send("message.send", text=QUESTION)
        told = set[str]()  # its chunks and its row may end in either order
        while not {"finish", "message.created"} <= told:
            frame = await client.next(lambda frame: frame["reply_to"] == id, 60)
            if frame["event"] in ("problem", "handoff.updated"):
                self._left.append(self._clients.pop(number))  # with a person now: somebody else asks next time
                raise Unanswered(frame)
            kind = frame["data"].get("type") or frame["event"]
            if kind == "text-delta" and not first:
                first = time.perf_counter() - began
            if kind == "finish":
                last = time.perf_counter() - began
            told |= {kind} if kind != "message.created" or frame["data"]["role"] == "assistant" else set()
        return first, last

    async def _client(self, number: int) -> Any:
        from tests.chatbackend.sockets import at_door

        if number not in self._clients:
            at = at_door(self._address, self._shop, f"c{number}-{len(self._left)}")
            self._clients[number] = await self._open.enter_async_context(at)
        return self._clients[number]

    async def aclose(self) -> None:
        await self._open.aclose()


CONTEXT = Context(
    Customer("c1", records=(Record("order", "A-1", datetime.now(UTC), {"status": "shipped"}),)),
    QUESTION,
    datetime.now(UTC),
)
PROMPT = Prompt((PromptMessage("system", "Answer from the facts. " * 40), PromptMessage("user", QUESTION)), 1000)
PRICE = Price("bench", Decimal("0.15"), Decimal("0.60"))


# --- the measurement --------------------------------------------------------------------------


@asynccontextmanager
async def contestants(models: str, address: str, shops: dict[str, Any]) -> AsyncIterator[list[Contestant]]:
    from django.conf import settings

    from cascade.providers import OpenAIProvider
    from cascade.scorer.serving import Scorer

    scorer = Scorer(settings.SCORER_WEIGHTS)
    engine = Engine({"openai": OpenAIProvider("key", models)}, scorer, score_seconds=30.0)
    client = AsyncOpenAI(api_key="key", base_url=models, max_retries=0)
    model = LanguageModel("scripted", "openai", "scripted", PRICE)
    sockets = {name: Sockets(address, shop) for name, shop in shops.items()}
    await scorer.start()
    try:
        yield [
            Contestant("raw SDK", by_sdk(client)),
            Contestant("engine, no scorer", by_engine(engine, model, 0.0)),
            Contestant("engine, scorer", by_engine(engine, model, ANY_SCORE)),
            Contestant("product, no scorer", sockets["free"].ask),
            Contestant("product, scorer", sockets["scored"].ask),
        ]
    finally:
        for each in sockets.values():
            await each.aclose()
        await engine.aclose()
        await scorer.close()
        await client.close()


async def measure(everybody: list[Contestant], rounds: int, at_once: int) -> None:
    for one in everybody:
        await warm(one)
    for _ in range(rounds):
        for one in everybody:
            first, last = await one.ask(0)
            one.first.append(first)
            one.last.append(last)
    for one in everybody:
        await crowd(one, at_once)  # opens the sockets
    for _ in range(3):
        for one in everybody:
            began = time.perf_counter()
            unanswered = await crowd(one, at_once)
            one.a_second.append((at_once - unanswered) / (time.perf_counter() - began))
            one.unanswered += unanswered


async def crowd(one: Contestant, at_once: int) -> int:
    """Everybody asks at the same time; how many were not answered."""
    ends = await asyncio.gather(*(one.ask(number) for number in range(at_once)), return_exceptions=True)
    failed = [end for end in ends if isinstance(end, BaseException)]
    for failure in failed:
        if not isinstance(failure, Unanswered):
            raise failure
    return len(failed)


async def warm(one: Contestant) -> None:
    """Until the first reply: a web process starts its scorer with its first question, and a customer who comes
    before it is ready is handed over to a person."""
    for _ in range(30):
        try:
            await one.ask(0)
            return
        except Unanswered:
            await asyncio.sleep(2)
    raise RuntimeError(f"{one.name} does not answer")


def report(everybody: list[Contestant], rounds: int, at_once: int) -> None:
    raw = everybody[0]
    print(f"\nforty-two words, median of {rounds}; {at_once} at once for replies a second, median of 3\n")
    print(f"{'':20}{'first text':>12}{'added':>10}{'last text':>12}{'replies/s':>11}{'of raw':>8}{'unanswered':>12}")
    for one in everybody:
        compared = raw.last if "scorer" in one.name and "no scorer" not in one.name else raw.first
        added = median(one.first) - median(compared)
        rate = median(one.a_second)
        print(
            f"{one.name:20}{median(one.first) * 1000:9.1f} ms{added * 1000:7.1f} ms{median(one.last) * 1000:9.1f} ms"
            f"{rate:11.1f}{rate / median(raw.a_second):8.2f}{one.unanswered:12}"
        )
    print("\nadded: to the SDK's first text; with the scorer, to its last. The product shows an accepted reply")
    print("over about a second, which its last text includes.")
    print(f"again: python -m bench.first_reply --rounds {rounds} --at-once {at_once}")


async def run(models: str, address: str, shops: dict[str, Any], rounds: int, at_once: int) -> None:
    async with contestants(models, address, shops) as everybody:
        await measure(everybody, rounds, at_once)
        report(everybody, rounds, at_once)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatbackend-bench-")))
        models = stack.enter_context(provider(folder, REPLY))
        stack.enter_context(database(folder / "var"))
        shops = {name: one_tier_shop(name, models, floor) for name, floor in (("free", 0.0), ("scored", ANY_SCORE))}
        address = stack.enter_context(web(options.port))
        asyncio.run(run(models, address, shops, options.rounds, options.at_once))


if __name__ == "__main__":
    main()
