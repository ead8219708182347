"""The socket door: frames in become calls, frames come out. It decides nothing about an answer.

One task a turn, because a consumer reads no other frame while it awaits; a turn belongs to the process
(`turns`), so that a customer who disconnects finds the answer when they return. A stop is heard by all
web processes through PostgreSQL (`live`), since the turn may run where no socket of its conversation is.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import InterfaceError, OperationalError

from accounts import auth
from accounts.auth import Caller
from accounts.identity import LEEWAY
from accounts.tenancy import in_db
from cascade import conversations
from cascade.conversations import ConversationView, NotFound
from chatbackend import chat, protocol, turns
from chatbackend.following import Following
from chatbackend.live import ask_to_cancel, live
from chatbackend.outbox import Outbox, Pace
from chatbackend.protocol import Auth, Cancel, FeedbackSet, Frame, HistoryList, Ping, ProtocolError, Resume, Send

AUTH_SECONDS = 10.0
CHECK_SECONDS = 60.0  # between two looks whether the identity still holds
FRAMES, PER_SECONDS = 30, 10.0  # what one socket may send
MAX_REPLAY = 2000  # frames; who missed more reads the history instead
DATABASE_GONE = (OperationalError, InterfaceError)

Answer = Callable[[Caller, Send], AsyncGenerator[Frame]]
log = logging.getLogger(__name__)


class Refusal(Exception):
    """The socket must be told `code` and closed."""

    def __init__(self, code: str, close: int) -> None:
        super().__init__(code)
        self.code = code
        self.close = close


class ChatConsumer(AsyncWebsocketConsumer):
    channel_layer_alias = "none"  # frames reach sockets through the database; there is no layer of that name

    def __init__(self, answer: Answer, auth_seconds: float = AUTH_SECONDS, check_seconds: float = CHECK_SECONDS):
        super().__init__()
        self._answer = answer
        self._auth_seconds, self._check_seconds = auth_seconds, check_seconds
        self._caller: Caller | None = None  # None: not authenticated yet
        self._following: Following | None = None  # None until then
        self._following_task: asyncio.Task[None] | None = None  # None: not live yet
        self._turn: asyncio.Task[None] | None = None  # None: none was begun here
        self._turn_client_id = ""
        self._received: deque[float] = deque(maxlen=FRAMES)
        self._tasks: set[asyncio.Task[None]] = set()  # they end with the socket

    # --- the socket ---------------------------------------------------------------------------

    async def connect(self) -> None:
        await self.accept()
        self._outbox = Outbox(self.send, self.close)
        self._spawn(self._outbox.run())
        self._deadline = self._spawn(self._expect_identity())

    async def disconnect(self, code: int) -> None:
        """Not a cancel: the turn goes on."""
        self._outbox.closed = True
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._outbox.closed:
            return
        if text_data is None:
            self._outbox.close(protocol.CLOSE_BINARY)
            return
        try:
            self._count()
            await self._act(protocol.parse_frame(text_data))
        except ProtocolError as error:
            await self._outbox.put(protocol.refusal(error))
        except Refusal as refusal:
            await self._refuse(refusal)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._for_the_socket(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _for_the_socket(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Refusal as refusal:
            await self._refuse(refusal)
        except Exception as error:
            report(error)
            self._outbox.close(1011)

    async def _refuse(self, refusal: Refusal, reply_to: str | None = None) -> None:
        await self._outbox.put(protocol.problem(refusal.code, reply_to=reply_to))
        self._outbox.close(refusal.close)

    def _count(self) -> None:
        now = time.monotonic()
        if len(self._received) == FRAMES and now - self._received[0] < PER_SECONDS:
            raise Refusal("rate_limited", protocol.CLOSE_RATE)
        self._received.append(now)

    # --- frames -------------------------------------------------------------------------------

    async def _act(self, frame: protocol.ClientFrame) -> None:
        match frame:
            case Ping():
                await self._outbox.put(Frame("pong", {}, reply_to=frame.id))
            case Auth() if self._caller is None:
                await self._guarded(frame.id, self._authenticate(frame))
            case Auth():
                await self._outbox.put(protocol.problem("already_authenticated", reply_to=frame.id))
            case _ if self._caller is None:
                await self._refuse(Refusal("not_authenticated", protocol.CLOSE_IDENTITY), frame.id)
            case Send():
                await self._begin_turn(frame)
            case Cancel():
                self._spawn(self._guarded(frame.id, self._cancel(frame)))
            case Resume():
                self._spawn(self._guarded(frame.id, self._resume(frame)))
            case HistoryList():
                self._spawn(self._guarded(frame.id, self._history(frame)))
            case FeedbackSet():
                self._spawn(self._guarded(frame.id, self._feedback(frame)))

    async def _guarded(self, reply_to: str, work: Awaitable[None]) -> None:
        """Whatever goes wrong is told by a code; the socket stays."""
        try:
            await work
        except Refusal as refusal:
            await self._refuse(refusal, reply_to)
        except NotFound:
            await self._outbox.put(protocol.problem("not_found", reply_to=reply_to))
        except DATABASE_GONE:
            await self._outbox.put(protocol.problem("temporarily_unavailable", reply_to=reply_to))
        except Exception as error:
            report(error)
            await self._outbox.put(protocol.problem("internal_error", reply_to=reply_to))

    # --- who is there -------------------------------------------------------------------------

    async def _expect_identity(self) -> None:
        await asyncio.sleep(self._auth_seconds)
        raise Refusal("auth_timeout", protocol.CLOSE_AUTH_TIMEOUT)

    async def _authenticate(self, frame: Auth) -> None:
        self._deadline.cancel()
        try:
            caller = await in_db(self._identify)(frame)
            view = await in_db(conversations.open_conversation)(caller, _uuid(frame.conversation_id))
        except (NotFound, *DATABASE_GONE):
            self._deadline = self._spawn(self._expect_identity())  # another try is welcome
            raise
        self._caller = caller
        self._follow(view.id, view.last_seq)
        self._spawn(self._check_identity(frame, caller))
        await self._outbox.put(ready(caller, view, frame.id))

    def _identify(self, frame: Auth) -> Caller:
        """Raises Refusal and what the database raises."""
        try:
            door = auth.find_widget(frame.widget_key)
            if not auth.origin_allowed(door, self._origin()):
                raise Refusal("origin_refused", protocol.CLOSE_ORIGIN)
            return auth.identify(door, frame.jwt, frame.visitor)
        except auth.UnknownWidget:
            raise Refusal("unknown_widget", protocol.CLOSE_ORIGIN) from None
        except auth.IdentityRefused:
            raise Refusal("identity_refused", protocol.CLOSE_IDENTITY) from None

    def _origin(self) -> str | None:
        return next((value.decode("latin-1") for name, value in self.scope["headers"] if name == b"origin"), None)

    async def _check_identity(self, frame: Auth, caller: Caller) -> None:
        """Close the socket when its identity has expired, was withdrawn or has become another."""
        again = replace(frame, visitor=caller.visitor)
        while True:
            await asyncio.sleep(min(self._check_seconds, _seconds_left(caller)))
            try:
                same = await in_db(self._identify)(again)
            except DATABASE_GONE:
                same = caller  # nobody can say; the next look will
            if same.customer_id != caller.customer_id or _seconds_left(caller) <= 0:
                raise Refusal("identity_refused", protocol.CLOSE_IDENTITY)

    # --- the conversation ---------------------------------------------------------------------

    def _follow(self, conversation_id: UUID, sent_seq: int) -> None:
        """This conversation from here on; live once `_go_live` is called."""
        assert self._caller is not None
        if self._following_task:
            self._following_task.cancel()
            self._following_task = None
        self._following = Following(self._caller.tenant_id, conversation_id, sent_seq, self._outbox.put)

    def _go_live(self) -> None:
        if self._following_task is None:
            self._following_task = self._spawn(self._keep_up(self._followed))

    @property
    def _followed(self) -> Following:
        assert self._following is not None
        return self._following

    async def _keep_up(self, following: Following) -> None:
        """Show what others store; while this socket's own turn is shown, its frames come in their own time."""
        with live.subscribe(str(following.conversation_id)) as woken:
            woken.set()
            while True:
                await woken.wait()
                if self._turn and not self._turn.done():
                    await asyncio.wait([self._turn])
                woken.clear()
                try:
                    await following.catch_up()
                except DATABASE_GONE:
                    await asyncio.sleep(1.0)
                    woken.set()

    async def _resume(self, frame: Resume) -> None:
        assert self._caller is not None
        wanted = _uuid(frame.conversation_id) or self._followed.conversation_id
        view = await in_db(conversations.open_conversation)(self._caller, wanted)
        if view.id != self._followed.conversation_id:
            self._follow(view.id, view.last_seq)
        if 0 <= view.last_seq - frame.last_seq <= MAX_REPLAY:
            await self._followed.resume(frame.last_seq)
            await self._outbox.put(acknowledged(frame.id, view.id))
        else:
            data = {"last_seq": view.last_seq}
            await self._outbox.put(Frame("resync.required", data, None, str(view.id), reply_to=frame.id))
            await self._followed.resume(view.last_seq)
        self._go_live()

    async def _history(self, frame: HistoryList) -> None:
        wanted = _uuid(frame.conversation_id) or self._followed.conversation_id
        messages = await in_db(conversations.history)(self._caller, wanted, frame.before_seq, frame.limit)
        before = messages[0]["seq"] if len(messages) == frame.limit else None
        page = {"messages": messages, "before_seq": before}
        await self._outbox.put(Frame("history.page", page, None, str(wanted), reply_to=frame.id))

    async def _feedback(self, frame: FeedbackSet) -> None:
        message_id = UUID(frame.message_id)
        await in_db(conversations.set_feedback)(self._caller, message_id, frame.rating, frame.comment)
        await self._outbox.put(acknowledged(frame.id, self._followed.conversation_id))

    # --- turns --------------------------------------------------------------------------------

    async def _begin_turn(self, send: Send) -> None:
        self._go_live()
        if self._turn is None or self._turn.done():
            self._turn_client_id = send.id
            self._turn = turns.start(self._reply(send), str(self._followed.conversation_id))
        elif self._turn_client_id != send.id:  # the same message again: its ack is on the way, or was sent
            await self._outbox.put(protocol.problem("busy", reply_to=send.id))

    async def _reply(self, send: Send) -> None:
        """Show a turn's frames. The socket may be gone: the turn goes on and is stored."""
        assert self._caller is not None
        pace = Pace()
        try:
            async with aclosing(self._answer(self._caller, send)) as frames:
                async for frame in frames:
                    if not self._outbox.closed:
                        await pace.keep(frame)
                        await self._show(frame)
        except Exception as error:
            report(error)
            await self._outbox.put(protocol.problem("internal_error", reply_to=send.id))

    async def _show(self, frame: Frame) -> None:
        try:
            if frame.event == "ack":
                await self._acknowledge(frame)
            else:
                await self._followed.show(frame)
        except DATABASE_GONE:
            log.warning("a frame waits until the database is back")  # it is stored, and `_keep_up` will find it

    async def _acknowledge(self, ack: Frame) -> None:
        conversation_id = UUID(ack.data["conversation_id"])
        if conversation_id != self._followed.conversation_id:  # the earlier one is closed
            self._follow(conversation_id, ack.data["seq"] - 1)
            self._go_live()
            if self._turn:
                turns.moved(self._turn, str(conversation_id))
        await self._outbox.put(ack)
        if ack.data["duplicate"] and ack.reply_to:
            await self._followed.replay(ack.reply_to, ack.data["seq"])

    async def _cancel(self, frame: Cancel) -> None:
        """Stop the turn, wherever it runs. Without one this is acknowledged all the same."""
        wanted = _uuid(frame.conversation_id) or self._followed.conversation_id
        if wanted != self._followed.conversation_id:
            await in_db(conversations.open_conversation)(self._caller, wanted)
        if not turns.cancel(str(wanted)):
            await in_db(ask_to_cancel)(str(wanted))
        await self._outbox.put(acknowledged(frame.id, wanted))


def ready(caller: Caller, view: ConversationView, reply_to: str) -> Frame:
    data = {
        "conversation_id": str(view.id),
        "customer": {"external_id": caller.external_id, "verified": caller.verified},
        "visitor": caller.visitor,
        "last_seq": view.last_seq,
        "state": view.state,
        "limits": {"text": protocol.MAX_TEXT, "history": protocol.MAX_HISTORY, "frames_per_10_seconds": FRAMES},
    }
    return Frame("session.ready", data, conversation_id=str(view.id), reply_to=reply_to)


def acknowledged(reply_to: str, conversation_id: UUID) -> Frame:
    return Frame("ack", {"duplicate": False}, conversation_id=str(conversation_id), reply_to=reply_to)


def report(error: Exception) -> None:
    """Where it went wrong and how, without its words: they may quote what a customer wrote."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)


def answer_with(engine: Callable[[], Any]) -> Answer:
    """The real answer; the engine is made when the first turn needs it."""
    return lambda caller, send: chat.answer(caller, send, engine=engine())


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None


def _seconds_left(caller: Caller) -> float:
    """Until the identity expires, at the latest time that any clock in question says so."""
    if caller.expires_at is None:
        return float("inf")
    return max((caller.expires_at + LEEWAY - datetime.now(UTC)).total_seconds(), 0.0)
