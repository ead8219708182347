"""One customer message, from arrival to receipt. Read this first.

The doors (`consumers`, and any other) hand a message in and show the frames that come out; they
decide nothing. Closing the iterator stops the answer: what was done by then is charged and kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.conf import settings

from accounts import ledger
from accounts.auth import Caller
from accounts.budgets import BudgetExceeded, Spender
from accounts.money import Money
from accounts.tenancy import in_db
from cascade import compute, context, conversations, pricing, record_source
from cascade.compute import Beside
from cascade.context import Built
from cascade.conversations import CallRecord, OpenTurn, Refused, TurnResult
from cascade.material import Material
from cascade.models import Turn
from cascade.runner import Engine, Event, Released, Run, Scorer
from cascade.scorer.pool import Pool
from cascade.values import Context, Strategy, Usage
from chatbackend import journal
from chatbackend.ending import DiskFull, Ending, warned
from chatbackend.live import live
from chatbackend.lookup import Asked, Lookup, look_up, note, read
from chatbackend.protocol import Frame, Send
from chatbackend.recording import DATABASE_GONE, Recorder, close, uninterrupted
from chatbackend.remembering import Remembering
from chatbackend.reporting import report
from chatbackend.saved import Given, count, judged, saved_reply
from chatbackend.telling import Telling

HOLD_SECONDS = 10.0  # a turn waits so long for money that others hold
HOLD_AGAIN_SECONDS = 0.25
SHOW_SECONDS = 0.04  # between two chunks of a reply that is shown while it is written
SERVED: set[asyncio.Task[None]] = set()  # turns of this process until all is done that follows from them


async def answer(caller: Caller, send: Send, *, engine: Engine) -> AsyncGenerator[Frame]:
    """The frames that answer one message: its `ack` (after commit), then the reply, or why there is none.

    The turn is settled when they end; what is remembered of it is kept after them (`kept`).
    """
    turn = _Turn(caller, send, engine, Telling(send))
    task = asyncio.create_task(turn.serve())
    SERVED.add(task)
    task.add_done_callback(SERVED.discard)
    try:
        while (frame := await turn.telling.frames.get()) is not None:
            yield frame
    except BaseException:
        turn.stop()
        await asyncio.shield(task)  # a second cancellation must not lose the bill for work already done
        raise


async def kept(seconds: float | None = None) -> None:
    """Until nothing is under way any more of the turns of this process; `seconds` at most."""
    if SERVED:
        await asyncio.wait(set(SERVED), timeout=seconds)


@dataclass
class _Turn:
    """A turn in the making. `serve` is never cancelled; `stop` ends only the asking of models."""

    caller: Caller
    send: Send
    engine: Engine
    telling: Telling
    built: Built | None = None  # None: nothing was put before a model
    lookup: Lookup | None = None  # None: there is no index of articles
    run: Run | None = None  # None: no model was asked
    remembering: Remembering | None = None  # None: memory has no part in this turn
    saved: Given | None = None  # None: no saved reply was given
    used: Beside = field(default_factory=Beside)
    asking: asyncio.Task[Event | Given] | None = None
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True
        if self.asking:
            self.asking.cancel()

    async def serve(self) -> None:
        """Every end is a frame; nothing is raised."""
        try:
            ended = await self._serve()
        finally:
            self.telling.frames.put_nowait(None)
        try:
            if ended:
                await self._keep(*ended)
        except Exception as problem:
            report(problem)

    async def _serve(self) -> tuple[OpenTurn, TurnResult] | None:
        try:
            return await self._answer()
        except Refused as refused:
            self.telling.refuse(refused.code, str(refused))
        except DATABASE_GONE as problem:
            report(problem)
            self.telling.refuse("temporarily_unavailable")
        except Exception as problem:
            report(problem)
            self.telling.refuse("internal_error")
        return None

    async def _answer(self) -> tuple[OpenTurn, TurnResult] | None:
        """The turn and how it ended; None: there is nothing to answer."""
        wanted = UUID(self.send.conversation_id) if self.send.conversation_id else None
        turn = await in_db(conversations.open_turn)(self.caller, wanted, self.send.id, self.send.text, live.process_key)
        self.telling.acknowledge(turn)
        if turn.material is None:  # sent before, or a person answers
            return None
        self.asking = asyncio.create_task(self._ask(turn, turn.material))
        if self.stopped:
            self.asking.cancel()
        await asyncio.wait([self.asking])
        result = Ending(turn, self.telling, self.built, self.run, self.saved, self.used).of(self.asking)
        self.telling.show(turn, await close(result))
        if result.state == Turn.State.REFUSED and result.reply is None:
            self.telling.refuse(result.problem)
        return turn, result

    async def _keep(self, turn: OpenTurn, result: TurnResult) -> None:
        """What is learnt from the turn; nobody waits for it."""
        if self.remembering:
            await self.remembering.close(result)
        if self.lookup and self.built:
            await note(turn, self.built.context, self.lookup)
        if self.saved and result.state == Turn.State.ANSWERED:
            await count(turn, self.saved)

    # --- what is asked -----------------------------------------------------------------------

    async def _ask(self, turn: OpenTurn, material: Material) -> Event | Given:
        """How the cascade ended.

        Raises InsufficientFunds, BudgetExceeded, UnknownPrice or DiskFull before any model is called.
        """
        known, source_error = await _with_fresh_records(turn, material)
        asked = await read(known, material, self.engine)
        self.used = Beside(embedded=int(asked.reading is not None), prices=material.compute)
        if material.knowledge_version:
            known, self.lookup = await look_up(turn, known, asked)
        self.built = await asyncio.to_thread(
            context.build,
            known,
            material.instructions,
            input_token_budget=settings.PROMPT_TOKEN_BUDGET,
            source_error=source_error,
        )
        if not await asyncio.to_thread(journal.has_room):
            raise DiskFull
        judge = _judge(self.engine.scorer, material)
        if match := await saved_reply(turn, material, known, asked.vector):
            given = await judged(match, material, self.built.context, judge, self.engine.score_seconds)
            self.used = replace(self.used, judged=int(given.score is not None))
            if given.good:
                return self._spare(given, self.built)
        ceiling = self.engine.ceiling(self.built.prompt, material.strategy)
        await _hold(turn, ceiling + compute.most(material.compute, len(material.strategy.tiers)), material.spender)
        record = CallRecord(turn.tenant_id, turn.id, self.built.prompt.input_tokens, getattr(judge, "version", ""))
        engine, strategy = await self._with_memory(turn, material, self.built, asked)
        recorder = Recorder(record, strategy.tiers.index(material.strategy.tiers[0]))
        self.run = engine.run(self.built.context, self.built.prompt, strategy, recorder, judge)
        straight_through = material.strategy.tiers[-1].threshold <= 0
        try:
            return await self._follow(turn, self.run, straight_through)
        finally:
            await self.run.aclose()

    def _spare(self, given: Given, built: Built) -> Given:
        """No model is asked: the saved reply stands on the books with about what one would have used."""
        written = -(-len(given.match.text) // pricing.CHARACTERS_PER_TOKEN)
        spared = Usage(built.prompt.input_tokens, written)
        self.used, self.saved = replace(self.used, saved_reply=spared), given
        return given

    async def _with_memory(
        self, turn: OpenTurn, material: Material, built: Built, asked: Asked
    ) -> tuple[Engine, Strategy]:
        """Engine and strategy of the turn: with what memory has to offer, where the chatbot remembers."""
        if self.engine.memory is None or material.remembering is None:
            return self.engine, material.strategy
        self.remembering = Remembering(self.engine.memory, turn, material, built, asked)
        engine, strategy = await self.remembering.offer(self.engine)
        self.used = replace(self.used, spared=self.remembering.spared)
        return engine, strategy

    async def _follow(self, turn: OpenTurn, run: Run, straight_through: bool) -> Event:
        """Until the last event; what may be shown before it (a chatbot without a floor) is stored and shown."""
        written, shown_at = "", time.monotonic()
        async for event in run:
            if not isinstance(event, Released):
                return event
            written += event.text
            if straight_through and time.monotonic() - shown_at >= SHOW_SECONDS:
                await self._show_at_once(turn, written)
                shown_at = time.monotonic()
        raise RuntimeError("the cascade ended without saying how")

    async def _show_at_once(self, turn: OpenTurn, written: str) -> None:
        assert self.built
        if not (chunks := self.telling.more(warned(written, self.built))):
            return
        stored = in_db(conversations.stream_chunks)(turn.tenant_id, turn.id, chunks)
        try:
            self.telling.show(turn, await uninterrupted(stored))
        except DATABASE_GONE:
            self.telling.show(turn, chunks)


def _judge(scorer: Scorer, material: Material) -> Scorer:
    """Who judges this turn: the tenant's own weights, where it has some."""
    return scorer.judge(material.scoring) if isinstance(scorer, Pool) else scorer


async def _with_fresh_records(turn: OpenTurn, material: Material) -> tuple[Context, str | None]:
    """The context with what the tenant's record source says now, and the code of its failure, if it failed."""
    known = material.context
    if material.record_source is None:
        return known, material.source_error
    try:
        fetched = await record_source.fetch(material.record_source, known.customer.external_id, known.question)
    except record_source.RecordSourceError as problem:
        return known, problem.code
    records = record_source.merge(known.customer.records, fetched)
    await uninterrupted(in_db(conversations.store_records)(turn, fetched, known.now))
    return replace(known, customer=replace(known.customer, records=records)), None


async def _hold(turn: OpenTurn, ceiling: Money, spender: Spender | None) -> None:
    """Set the turn's money aside; what other turns hold may be free again in a moment: nobody is refused who fits.

    Raises InsufficientFunds or BudgetExceeded.
    """
    until = time.monotonic() + HOLD_SECONDS
    while True:
        try:
            await uninterrupted(in_db(ledger.hold)(turn.tenant_id, turn.id, ceiling, spender))
            return
        except (ledger.InsufficientFunds, BudgetExceeded) as refused:
            if not refused.for_now or time.monotonic() >= until:
                raise
        await asyncio.sleep(HOLD_AGAIN_SECONDS)
