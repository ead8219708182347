"""One customer message, from arrival to receipt. Read this first.

The doors (`consumers`, and any other) hand a message in and show the frames that come out; they
decide nothing. Closing the iterator stops the answer: what was done by then is charged and kept.
"""

from __future__ import annotations

import asyncio
import logging
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
from accounts.tenancy import in_db
from cascade import context, conversations, record_source
from cascade.context import Built, CutReport
from cascade.conversations import CallRecord, OpenTurn, Refused, Reply, TurnResult
from cascade.errors import UnknownPrice
from cascade.material import Material
from cascade.models import Turn
from cascade.runner import Accepted, BrokenOff, Engine, Event, HandedOver, Released, Run
from cascade.values import Attempt, Context, Tier
from chatbackend import journal, protocol
from chatbackend.live import live
from chatbackend.protocol import Frame, Send

DATABASE_GONE = (DatabaseError, InterfaceError)
PART = "t0"  # the one text part of a streamed reply
SHOW_SECONDS = 0.04  # between two chunks of a reply that is shown while it is written
REPORT: TypeAdapter[CutReport] = TypeAdapter(CutReport)
_SERVED: set[asyncio.Task[None]] = set()  # asyncio itself forgets tasks that nobody holds

T = TypeVar("T")
log = logging.getLogger(__name__)


async def answer(caller: Caller, send: Send, *, engine: Engine) -> AsyncGenerator[Frame]:
    """The frames that answer one message: its `ack` (after commit), then the reply, or why there is none."""
    turn = _Turn(caller, send, engine)
    task = asyncio.create_task(turn.serve())
    _SERVED.add(task)
    task.add_done_callback(_SERVED.discard)
    try:
        while (frame := await turn.frames.get()) is not None:
            yield frame
    finally:
        turn.stop()
        await asyncio.shield(task)  # a second cancellation must not lose the bill for work already done


@dataclass
class _Turn:
    """A turn in the making. `serve` is never cancelled; `stop` ends only the asking of models."""

    caller: Caller
    send: Send
    engine: Engine
    frames: asyncio.Queue[Frame | None] = field(default_factory=asyncio.Queue)
    message_id: UUID = field(default_factory=uuid7)
    built: Built | None = None  # None: nothing was put before a model
    run: Run | None = None  # None: no model was asked
    shown: str = ""  # of a reply that is shown while it is written
    asking: asyncio.Task[Event] | None = None
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True
        if self.asking:
            self.asking.cancel()

    async def serve(self) -> None:
        """Every end is a frame; nothing is raised."""
        try:
            await self._serve()
        except Refused as refused:
            self._problem(_outward(refused.code), str(refused))
        except DATABASE_GONE as problem:
            log.error("a message could not be put on record: %s", type(problem).__name__)
            self._problem("temporarily_unavailable")
        except Exception:
            log.exception("a turn failed")
            self._problem("internal_error")
        finally:
            self.frames.put_nowait(None)

    async def _serve(self) -> None:
        wanted = UUID(self.send.conversation_id) if self.send.conversation_id else None
        turn = await in_db(conversations.open_turn)(self.caller, wanted, self.send.id, self.send.text, live.process_key)
        self._acknowledge(turn)
        if turn.material is None:  # sent before, or a person answers
            return
        self.asking = asyncio.create_task(self._ask(turn, turn.material))
        if self.stopped:
            self.asking.cancel()
        await asyncio.wait([self.asking])
        result = self._result(turn, self.asking)
        self._show(turn, await self._close(result))
        if result.state == Turn.State.REFUSED:
            self._problem(_outward(result.problem))

    # --- what is asked -----------------------------------------------------------------------

    async def _ask(self, turn: OpenTurn, material: Material) -> Event:
        """How the cascade ended. Raises InsufficientFunds or UnknownPrice before any model is called."""
        known, source_error = await _with_fresh_records(turn, material)
        self.built = context.build(
            known, material.instructions, input_token_budget=settings.PROMPT_TOKEN_BUDGET, source_error=source_error
        )
        ceiling = self.engine.ceiling(self.built.prompt, material.strategy)
        await uninterrupted(in_db(ledger.hold)(turn.tenant_id, turn.id, ceiling))
        record = CallRecord(
            turn.tenant_id, turn.id, self.built.prompt.input_tokens, getattr(self.engine.scorer, "version", "")
        )
        self.run = self.engine.run(self.built.context, self.built.prompt, material.strategy, _Recorder(record))
        straight_through = material.strategy.tiers[-1].threshold <= 0
        try:
            return await self._follow(turn, self.run, straight_through)
        finally:
            await self.run.aclose()

    async def _follow(self, turn: OpenTurn, run: Run, straight_through: bool) -> Event:
        """Until the last event; what may be shown before it (a chatbot without a floor) is stored and shown."""
        unshown, shown_at = "", time.monotonic()
        async for event in run:
            if not isinstance(event, Released):
                return event
            unshown += event.text
            if straight_through and time.monotonic() - shown_at >= SHOW_SECONDS:
                await self._show_at_once(turn, unshown)
                unshown, shown_at = "", time.monotonic()
        raise RuntimeError("the cascade ended without saying how")

    async def _show_at_once(self, turn: OpenTurn, text: str) -> None:
        chunks = self._chunks(text)
        self.shown += text
        stored = in_db(conversations.stream_chunks)(turn.tenant_id, turn.id, chunks)
        try:
            self._show(turn, await uninterrupted(stored))
        except DATABASE_GONE:
            self._show(turn, chunks)

    # --- how it ended ------------------------------------------------------------------------

    def _result(self, turn: OpenTurn, asking: asyncio.Task[Event]) -> TurnResult:
        result = TurnResult(
            tenant_id=turn.tenant_id,
            turn_id=turn.id,
            conversation_id=turn.conversation_id,
            chatbot_id=turn.chatbot_id,
            state=Turn.State.ANSWERED,
            attempts=self.run.attempts if self.run else (),
            outcomes=self.run.outcomes if self.run else (),
            context_report=REPORT.dump_python(self.built.report, mode="json") if self.built else {},
        )
        if asking.cancelled():
            return self._with_text(replace(result, state=Turn.State.CANCELLED), self.shown, [protocol.abort()])
        match asking.exception() or asking.result():
            case Accepted(attempt):
                return self._with_text(result, self._told(attempt), [protocol.text_end(PART), protocol.finish("stop")])
            case BrokenOff(attempt):
                ended = [protocol.text_end(PART), protocol.error_chunk("interrupted")]
                return self._with_text(replace(result, problem=attempt.error or "cut"), self._told(attempt), ended)
            case HandedOver(reason):
                return replace(result, state=Turn.State.HANDED_OVER, problem=reason, hand_over=True)
            case ledger.InsufficientFunds():
                return replace(result, state=Turn.State.REFUSED, problem="insufficient_funds")
            case UnknownPrice():
                return replace(result, state=Turn.State.REFUSED, problem="unknown_price")
            case problem:
                log.error("a turn failed while models were asked", exc_info=problem)  # type: ignore[arg-type]
                gone = isinstance(problem, DATABASE_GONE)
                code = "temporarily_unavailable" if gone else "internal_error"
                return replace(result, state=Turn.State.REFUSED, problem=code)

    def _told(self, attempt: Attempt) -> str:
        """The reply as the customer reads it: a warning first where a record behind it is out of date."""
        assert self.built is not None
        notice = context.stale_notice(self.built.report)
        return f"{notice} {attempt.text.strip()}" if notice else attempt.text.strip()

    def _with_text(self, result: TurnResult, text: str, ending: list[dict[str, Any]]) -> TurnResult:
        """The reply (none, where nothing may be shown) and the chunks that are still to be shown."""
        unshown = text.removeprefix(self.shown) if text else ""
        chunks = self._chunks(unshown) if unshown else []
        frames = (*chunks, *(self._frame(chunk) for chunk in ending))
        return replace(result, reply=Reply(self.message_id, text) if text else None, frames=frames)

    def _chunks(self, text: str) -> list[dict[str, Any]]:
        opening = [] if self.shown else [protocol.start(str(self.message_id)), protocol.text_start(PART)]
        deltas = [protocol.text_delta(PART, piece) for piece in protocol.pieces(text)]
        return [self._frame(chunk) for chunk in (*opening, *deltas)]

    def _frame(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return {"event": "stream.chunk", "message_id": str(self.message_id), "data": chunk}

    async def _close(self, result: TurnResult) -> Sequence[dict[str, Any]]:
        """On record, or, the database being gone, on disk until it is back: then the chunks have no seq yet."""
        try:
            return await in_db(conversations.close_turn)(result)
        except DATABASE_GONE as problem:
            log.error("a turn is kept in the journal: %s", type(problem).__name__)
            await asyncio.to_thread(journal.keep, result)
            return result.frames

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

    def _problem(self, code: str, detail: str = "") -> None:
        self.frames.put_nowait(
            protocol.problem(code, detail, reply_to=self.send.id, conversation_id=self.send.conversation_id)
        )


class _Recorder:
    """Puts attempts on record. Only `asked` may fail a turn; what a provider did is told once more at the end."""

    def __init__(self, record: CallRecord) -> None:
        self._record = record
        self._gone = False  # the database was: waiting for it again at each step would hold the reply up

    async def asked(self, attempt_id: str, number: int, tier: int, tier_value: Tier) -> None:
        await uninterrupted(in_db(self._record.asked)(attempt_id, number, tier, tier_value))

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
            log.error("an attempt is not on record yet: %s", type(problem).__name__)


async def _with_fresh_records(turn: OpenTurn, material: Material) -> tuple[Context, str | None]:
    """The context with what the tenant's record source says now, and the code of its failure, if it failed."""
    known = material.context
    if material.record_source is None:
        return known, None
    try:
        fetched = await record_source.fetch(material.record_source, known.customer.external_id, known.question)
    except record_source.RecordSourceError as problem:
        return known, problem.code
    records = record_source.merge(known.customer.records, fetched)
    await uninterrupted(in_db(conversations.store_records)(turn.tenant_id, turn.customer_id, records, known.now))
    return replace(known, customer=replace(known.customer, records=records)), None


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
    return (
        code if code in ("busy", "not_found", "idempotency_conflict", "internal_error") else "temporarily_unavailable"
    )
