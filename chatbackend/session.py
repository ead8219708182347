"""A caller at an open socket: the conversation they follow, and the turns they begin.

One task a turn, because a consumer reads no other frame while it awaits; the turn belongs to the process
(`turns`), so that a customer who disconnects finds the answer when they return. A stop is heard by all
web processes through PostgreSQL (`live`), since the turn may run where no socket of its conversation is.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from accounts.auth import Caller
from accounts.tenancy import in_db
from cascade import conversations
from cascade.conversations import ConversationView
from chatbackend import hints, protocol, turns
from chatbackend.following import Following
from chatbackend.live import ask_to_cancel, live
from chatbackend.outbox import Outbox, Pace
from chatbackend.protocol import Cancel, FeedbackSet, Frame, HistoryList, Resume, Send, Typing
from chatbackend.reporting import report

MAX_REPLAY = 2000  # frames; who missed more reads the history instead
DATABASE_GONE = (OperationalError, InterfaceError)

Answer = Callable[[Caller, Send], AsyncGenerator[Frame]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
log = logging.getLogger(__name__)


class Session:
    def __init__(self, caller: Caller, view: ConversationView, outbox: Outbox, answer: Answer, spawn: Spawn) -> None:
        self.caller, self._outbox, self._answer = caller, outbox, answer
        self._spawn = spawn  # for tasks that end with the socket
        self._following = Following(caller.tenant_id, view.id, view.last_seq, outbox.put)
        self._keeping_up: asyncio.Task[None] | None = None  # None: not live yet
        self._turn: asyncio.Task[None] | None = None  # None: none was begun here
        self._asked: Send | None = None  # what it answers
        self._woken = asyncio.Event()  # there may be frames to show
        self._name = secrets.token_hex(8)  # of the socket, among those of the conversation

    async def act(self, frame: Cancel | Resume | HistoryList | FeedbackSet | Typing) -> None:
        """Raises NotFound and what the database raises."""
        match frame:
            case Cancel():
                await self._cancel(frame)
            case Resume():
                await self._resume(frame)
            case HistoryList():
                await self._history(frame)
            case FeedbackSet():
                await self._feedback(frame)
            case Typing():
                wanted = await self._checked(frame)
                await hints.tell_typing(str(wanted), "customer", frame.on, self._name)

    # --- turns --------------------------------------------------------------------------------

    async def send(self, send: Send) -> None:
        """Begin a turn; the socket is live from here on."""
        self._go_live()
        if self._turn is None or self._turn.done():
            self._asked = send
            self._turn = turns.start(self._reply(send), str(self._following.conversation_id))
        elif self._asked and self._asked.id == send.id:
            if self._asked.text != send.text:  # else the same message again: its ack is on the way, or was sent
                await self._outbox.put(protocol.problem("idempotency_conflict", reply_to=send.id))
        else:
            await self._outbox.put(protocol.problem("busy", reply_to=send.id))

    async def _reply(self, send: Send) -> None:
        """Show a turn's frames. The socket may be gone: the turn goes on and is stored."""
        pace, following = Pace(), self._following
        try:
            async with aclosing(self._answer(self.caller, send)) as frames:
                async for frame in frames:
                    if frame.event == "ack":
                        following = self._followed_from(frame)
                    if not self._outbox.closed:
                        await pace.keep(frame)
                        await self._show(frame, following)
        except Exception as error:
            report(error)
            await self._outbox.put(protocol.problem("internal_error", reply_to=send.id))
        finally:
            self._woken.set()  # a turn that was stopped has stored frames that it did not show

    async def _show(self, frame: Frame, following: Following) -> None:
        try:
            await following.show(frame)
            if frame.event == "ack" and frame.reply_to and frame.data["duplicate"]:
                await following.replay(frame.reply_to, frame.data["seq"])
        except DATABASE_GONE:
            log.warning("a frame waits until the database is back")  # it is stored, and `_keep_up` will find it

    def _followed_from(self, ack: Frame) -> Following:
        """The turn's conversation: the one that is followed, or else it is followed from here on."""
        conversation_id = UUID(ack.data["conversation_id"])
        if conversation_id != self._following.conversation_id:
            self._follow(conversation_id, ack.data["seq"] - 1)
            self._go_live()
            if self._turn:
                turns.moved(self._turn, str(conversation_id))
        return self._following

    async def _cancel(self, frame: Cancel) -> None:
        """Stop the turn, wherever it runs. Without one this is acknowledged all the same."""
        wanted = await self._checked(frame)
        if not turns.cancel(str(wanted)):
            await in_db(ask_to_cancel)(str(wanted))
        await self._outbox.put(acknowledged(frame.id, wanted))

    # --- the conversation ---------------------------------------------------------------------

    def _wanted(self, frame: Cancel | Resume | HistoryList | Typing) -> UUID:
        return UUID(frame.conversation_id) if frame.conversation_id else self._following.conversation_id

    async def _checked(self, frame: Cancel | Typing) -> UUID:
        """The wanted conversation, which is this customer's."""
        wanted = self._wanted(frame)
        if wanted != self._following.conversation_id:
            await in_db(conversations.open_conversation)(self.caller, wanted)
        return wanted

    def _follow(self, conversation_id: UUID, sent_seq: int) -> None:
        """Another conversation from here on; live once `_go_live` is called."""
        if self._keeping_up:
            self._keeping_up.cancel()
            self._keeping_up = None
        self._following = Following(self.caller.tenant_id, conversation_id, sent_seq, self._outbox.put)

    def _go_live(self) -> None:
        if self._keeping_up is None:
            self._keeping_up = self._spawn(self._stay_live(self._following))

    async def _stay_live(self, following: Following) -> None:
        hearing = hints.hear(str(following.conversation_id), self._name, self._outbox.put)
        await asyncio.gather(self._keep_up(following), hearing)

    async def _keep_up(self, following: Following) -> None:
        """Show what others store; while this socket's own turn is shown, its frames come in their own time."""
        with live.subscribe(str(following.conversation_id), self._woken):
            self._woken.set()
            while True:
                await self._woken.wait()
                if self._turn and not self._turn.done():
                    await asyncio.wait([self._turn])
                self._woken.clear()
                try:
                    await following.catch_up()
                except DATABASE_GONE:
                    await asyncio.sleep(1.0)
                    self._woken.set()

    async def _resume(self, frame: Resume) -> None:
        view = await in_db(conversations.open_conversation)(self.caller, self._wanted(frame))
        if view.id != self._following.conversation_id:
            self._follow(view.id, view.last_seq)
        if 0 <= view.last_seq - frame.last_seq <= MAX_REPLAY:
            await self._following.resume(frame.last_seq)
            await self._outbox.put(acknowledged(frame.id, view.id))
        else:
            told = {"last_seq": view.last_seq}
            await self._outbox.put(Frame("resync.required", told, conversation_id=str(view.id), reply_to=frame.id))
            await self._following.resume(view.last_seq)
        self._go_live()

    async def _history(self, frame: HistoryList) -> None:
        wanted = self._wanted(frame)
        messages = await in_db(conversations.history)(self.caller, wanted, frame.before_seq, frame.limit)
        before = messages[0]["seq"] if len(messages) == frame.limit else None
        page = {"messages": messages, "before_seq": before}
        await self._outbox.put(Frame("history.page", page, conversation_id=str(wanted), reply_to=frame.id))

    async def _feedback(self, frame: FeedbackSet) -> None:
        message_id = UUID(frame.message_id)
        await in_db(conversations.set_feedback)(self.caller, message_id, frame.rating, frame.comment)
        await self._outbox.put(acknowledged(frame.id, self._following.conversation_id))


def acknowledged(reply_to: str, conversation_id: UUID) -> Frame:
    return Frame("ack", {"duplicate": False}, conversation_id=str(conversation_id), reply_to=reply_to)
