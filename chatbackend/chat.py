"""One customer message, from arrival to receipt. Read this first.

The doors (`consumers`, and any other) hand a message in and show the frames that come out; they
decide nothing. Closing the iterator stops the answer: what was done by then is charged and kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from pydantic import TypeAdapter
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.auth import Caller
from accounts.budgets import BudgetExceeded, Spender
from accounts.money import Money
from accounts.tenancy import in_db
from cascade import context, conversations, record_source
from cascade.citations import cited
from cascade.context import Built, CutReport
from cascade.conversations import CallRecord, OpenTurn, Refused, Reply, TurnResult
from cascade.errors import UnknownPrice
from cascade.material import Material
from cascade.models import Turn
from cascade.runner import Accepted, BrokenOff, Engine, Event, HandedOver, Released, Run, Scorer
from cascade.scorer.pool import Pool
from cascade.values import Attempt, Context, Strategy, Tier
from chatbackend import journal, protocol
from chatbackend.live import live
from chatbackend.lookup import Asked, Lookup, look_up, note, read
from chatbackend.protocol import Frame, Send
from chatbackend.remembering import Remembering
from chatbackend.reporting import report
from chatbackend.saved import Given, count, judged, saved_reply

DATABASE_GONE = (DatabaseError, InterfaceError)
PART = "t0"  # the one text part of a streamed reply
CLOSE_AGAIN_SECONDS = 5.0  # between two attempts when neither database nor disk takes a turn's result
TOLD = ("busy", "not_found", "conversation_closed", "idempotency_conflict", "internal_error")  # to a customer as is
HOLD_SECONDS = 10.0  # a turn waits so long for money that others hold
HOLD_AGAIN_SECONDS = 0.25
SHOW_SECONDS = 0.04  # between two chunks of a reply that is shown while it is written
REPORT: TypeAdapter[CutReport] = TypeAdapter(CutReport)
SERVED: set[asyncio.Task[None]] = set()  # turns of this process until all is done that follows from them

T = TypeVar("T")


async def answer(caller: Caller, send: Send, *, engine: Engine) -> AsyncGenerator[Frame]:
    """The frames that answer one message: its `ack` (after commit), then the reply, or why there is none.

    The turn is settled when they end; what is remembered of it is kept after them (`kept`).
    """
    turn = _Turn(caller, send, engine)
    task = asyncio.create_task(turn.serve())
    SERVED.add(task)
    task.add_done_callback(SERVED.discard)
    try:
        while (frame := await turn.frames.get()) is not None:
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
    frames: asyncio.Queue[Frame | None] = field(default_factory=asyncio.Queue)
    message_id: UUID = field(default_factory=uuid7)
    built: Built | None = None  # None: nothing was put before a model
    lookup: Lookup | None = None  # None: there is no index of articles
    run: Run | None = None  # None: no model was asked
    remembering: Remembering | None = None  # None: memory has no part in this turn
    shown: str = ""  # of a reply that is shown while it is written
    saved: Given | None = None  # None: no saved reply was given
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
            self.frames.put_nowait(None)
        try:
            if ended:
                await self._keep(*ended)
        except Exception as problem:
            report(problem)

    async def _serve(self) -> tuple[OpenTurn, TurnResult] | None:
        try:
            return await self._answer()
        except Refused as refused:
            self._refuse(refused.code, str(refused))
        except DATABASE_GONE as problem:
            report(problem)
            self._refuse("temporarily_unavailable")
        except Exception as problem:
            report(problem)
            self._refuse("internal_error")
        return None

    async def _answer(self) -> tuple[OpenTurn, TurnResult] | None:
        """The turn and how it ended; None: there is nothing to answer."""
        wanted = UUID(self.send.conversation_id) if self.send.conversation_id else None
        turn = await in_db(conversations.open_turn)(self.caller, wanted, self.send.id, self.send.text, live.process_key)
        self._acknowledge(turn)
        if turn.material is None:  # sent before, or a person answers
            return None
        self.asking = asyncio.create_task(self._ask(turn, turn.material))
        if self.stopped:
            self.asking.cancel()
        await asyncio.wait([self.asking])
        result = self._result(turn, self.asking)
        self._show(turn, await self._close(result))
        if result.state == Turn.State.REFUSED and result.reply is None:
            self._refuse(result.problem)
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
        match = await saved_reply(turn, material, known, asked.vector)
        if match and (given := await judged(match, material, self.built.context, judge, self.engine.score_seconds)):
            self.saved = given
            return given
        ceiling = self.engine.ceiling(self.built.prompt, material.strategy)
        await _hold(turn, ceiling, material.spender)
        record = CallRecord(turn.tenant_id, turn.id, self.built.prompt.input_tokens, getattr(judge, "version", ""))
        engine, strategy = await self._with_memory(turn, material, self.built, asked)
        recorder = _Recorder(record, strategy.tiers.index(material.strategy.tiers[0]))
        self.run = engine.run(self.built.context, self.built.prompt, strategy, recorder, judge)
        straight_through = material.strategy.tiers[-1].threshold <= 0
        try:
            return await self._follow(turn, self.run, straight_through)
        finally:
            await self.run.aclose()

    async def _with_memory(
        self, turn: OpenTurn, material: Material, built: Built, asked: Asked
    ) -> tuple[Engine, Strategy]:
        """Engine and strategy of the turn: with what memory has to offer, where the chatbot remembers."""
        if self.engine.memory is None or material.remembering is None:
            return self.engine, material.strategy
        self.remembering = Remembering(self.engine.memory, turn, material, built, asked)
        return await self.remembering.offer(self.engine)

    async def _follow(self, turn: OpenTurn, run: Run, straight_through: bool) -> Event:
        """Until the last event; what may be shown before it (a chatbot without a floor) is stored and shown."""
        written, shown_at = "", time.monotonic()
        async for event in run:
            if not isinstance(event, Released):
                return event
            written += event.text
            if straight_through and time.monotonic() - shown_at >= SHOW_SECONDS:
                await self._show_at_once(turn, self._told(written))
                shown_at = time.monotonic()
        raise RuntimeError("the cascade ended without saying how")

    async def _show_at_once(self, turn: OpenTurn, told: str) -> None:
        if not (chunks := self._chunks(told[len(self.shown) :])):
            return
        self.shown = told
        stored = in_db(conversations.stream_chunks)(turn.tenant_id, turn.id, chunks)
        try:
            self._show(turn, await uninterrupted(stored))
        except DATABASE_GONE:
            self._show(turn, chunks)

    # --- how it ended ------------------------------------------------------------------------

    def _result(self, turn: OpenTurn, asking: asyncio.Task[Event | Given]) -> TurnResult:
        result = TurnResult(
            tenant_id=turn.tenant_id,
            turn_id=turn.id,
            conversation_id=turn.conversation_id,
            chatbot_id=turn.chatbot_id,
            state=Turn.State.ANSWERED,
            attempts=self.run.attempts if self.run else (),
            outcomes=self.run.outcomes if self.run else (),
            context_report=self._report(turn.material) if self.built else {},
            context=self.built.context if self.built else None,
        )
        if asking.cancelled():
            return self._ended(replace(result, state=Turn.State.CANCELLED), self.shown, protocol.abort())
        match asking.exception() or asking.result():
            case Accepted(attempt):
                return self._answered(result, attempt.text)
            case Given(match):
                return self._answered(result, match.text)
            case BrokenOff(attempt):
                broken = replace(result, problem=attempt.error or "cut")
                return self._ended(broken, self._told(attempt.text), protocol.error_chunk("interrupted"))
            case HandedOver(reason):
                return replace(result, state=Turn.State.HANDED_OVER, problem=reason, hand_over=True)
            case ledger.InsufficientFunds():
                return self._refused(result, "insufficient_funds")
            case BudgetExceeded(refusal=refusal):
                refused = replace(result, state=Turn.State.REFUSED, problem="budget_exceeded")
                return self._ended(refused, refusal, protocol.finish("stop"))
            case UnknownPrice():
                return self._refused(result, "unknown_price")
            case DiskFull():
                return self._refused(result, "disk_full")
            case problem:
                assert isinstance(problem, Exception)
                report(problem)
                gone = isinstance(problem, DATABASE_GONE)
                return self._refused(result, "temporarily_unavailable" if gone else "internal_error")

    def _report(self, material: Material | None) -> dict[str, Any]:
        assert self.built
        report: dict[str, Any] = REPORT.dump_python(self.built.report, mode="json")
        if material and material.strictness:
            odds = f"the odds asked of an answer are {math.exp(material.strictness):.1f} times the chatbot's"
            report["stricter_for_this_customer"] = f"{odds}: accepted answers have disappointed"
        if self.saved:
            score = "not scored" if self.saved.score is None else f"score {self.saved.score:.3f}"
            report["saved_reply"] = f"{self.saved.match.name} ({score})"
        return report

    def _answered(self, result: TurnResult, text: str) -> TurnResult:
        assert self.built
        sources = cited(text, self.built.context)
        report = result.context_report | {"sources": [passage.source_id for passage in sources]}
        chunks = [protocol.source_document(passage.source_id, passage.title) for passage in sources]
        return self._ended(replace(result, context_report=report), self._told(text), *chunks, protocol.finish("stop"))

    def _refused(self, result: TurnResult, code: str) -> TurnResult:
        refused = replace(result, state=Turn.State.REFUSED, problem=code)
        return self._ended(refused, self.shown, protocol.error_chunk(_outward(code)))

    def _told(self, text: str) -> str:
        """A reply as the customer reads it: a warning first where a record behind it is out of date."""
        assert self.built is not None
        notice = context.stale_notice(self.built.report)
        return f"{notice} {text.lstrip()}" if notice else text.lstrip()

    def _ended(self, result: TurnResult, told: str, *ending: dict[str, Any]) -> TurnResult:
        """The reply (none, where nothing may be shown) and the chunks that are still to be shown."""
        rest = told[len(self.shown) :].rstrip()
        text = self.shown + rest
        closing = [protocol.text_end(PART), *ending] if text else list(ending)
        frames = (*self._chunks(rest), *(self._frame(chunk) for chunk in closing))
        return replace(result, reply=Reply(self.message_id, text) if text else None, frames=frames)

    def _chunks(self, text: str) -> list[dict[str, Any]]:
        deltas = [protocol.text_delta(PART, piece) for piece in protocol.pieces(text)]
        begun = bool(self.shown) or not deltas
        opening = [] if begun else [protocol.start(str(self.message_id)), protocol.text_start(PART)]
        return [self._frame(chunk) for chunk in (*opening, *deltas)]

    def _frame(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return {"event": "stream.chunk", "message_id": str(self.message_id), "data": chunk}

    async def _close(self, result: TurnResult) -> Sequence[dict[str, Any]]:
        """On record, or on disk until the database is back: then the chunks have no seq yet.

        With neither it waits, for as long as the process lives: what was done is never forgotten.
        """
        while True:
            try:
                return await in_db(conversations.close_turn)(result)
            except Exception as problem:
                report(problem)
            try:
                await asyncio.to_thread(journal.keep, result)
                return result.frames
            except OSError as problem:
                report(problem)
            await asyncio.sleep(CLOSE_AGAIN_SECONDS)

    # --- what is shown -----------------------------------------------------------------------

    def _acknowledge(self, turn: OpenTurn) -> None:
        told = {
            "turn_id": str(turn.id),
            "conversation_id": str(turn.conversation_id),
            "seq": turn.seq,
            "state": turn.state,
            "duplicate": turn.duplicate,
        }
        self.frames.put_nowait(Frame("ack", told, conversation_id=str(turn.conversation_id), reply_to=turn.reply_to))
        self._show(turn, turn.frames)

    def _show(self, turn: OpenTurn, frames: Sequence[dict[str, Any]]) -> None:
        for frame in frames:
            self.frames.put_nowait(
                Frame(**{"reply_to": turn.reply_to} | frame, conversation_id=str(turn.conversation_id))
            )

    def _refuse(self, code: str, detail: str = "") -> None:
        outward = _outward(code)
        told = detail if outward == code else ""  # else it would tell what the code does not
        self.frames.put_nowait(
            protocol.problem(outward, told, reply_to=self.send.id, conversation_id=self.send.conversation_id)
        )


def _judge(scorer: Scorer, material: Material) -> Scorer:
    """Who judges this turn: the tenant's own weights, where it has some."""
    return scorer.judge(material.scoring) if isinstance(scorer, Pool) else scorer


class DiskFull(Exception):
    """A turn that ended without a database could not be kept; nothing was asked."""


class _Recorder:
    """Puts attempts on record. Only `asked` may fail a turn; what a provider did is told once more at the end."""

    def __init__(self, record: CallRecord, in_front: int) -> None:
        """`in_front`: how many tiers stand before the strategy's own: memory's, or none."""
        self._record, self._in_front = record, in_front
        self._gone = False  # the database was: waiting for it again at each step would hold the reply up

    async def asked(self, attempt_id: str, number: int, tier: int, tier_value: Tier) -> None:
        await uninterrupted(in_db(self._record.asked)(attempt_id, number, tier - self._in_front, tier_value))

    async def wrote(self, attempt_id: str, characters: int) -> None:
        await self._try(self._record.wrote, attempt_id, characters)

    async def billed(self, attempt: Attempt) -> None:
        await self._try(self._record.billed, attempt)

    async def _try(self, step: Callable[..., None], *told: object) -> None:
        if self._gone:
            return
        try:
            await uninterrupted(in_db(step)(*told))
        except DATABASE_GONE as problem:
            self._gone = True
            report(problem)


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


async def uninterrupted(step: Coroutine[Any, Any, T]) -> T:
    """Await `step` to its end even when cancelled, then be cancelled: a thread cannot be called back."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _outward(code: str) -> str:
    """What a customer may know: not their tenant's money, nor how it has set things up."""
    return code if code in TOLD else "temporarily_unavailable"
