"""The socket door: frames in become calls, frames come out. It decides nothing about an answer.

Here are the socket's own matters: who is there and whether that still holds, how much may be sent, how
a socket is closed. What a caller does afterwards is in `session`; how it is answered, in `chat`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from channels.generic.websocket import AsyncWebsocketConsumer

from accounts import auth, limits
from accounts.auth import Caller, Proven, WidgetDoor
from accounts.identity import LEEWAY, IdentityRefused
from accounts.limits import RateLimited
from accounts.tenancy import in_db
from cascade.conversations import ConversationView, NotFound, open_conversation
from chatbackend import chat, parsing, protocol
from chatbackend.outbox import Outbox
from chatbackend.protocol import Auth, Frame, Ping, ProtocolError, Send
from chatbackend.reporting import report
from chatbackend.session import DATABASE_GONE, Answer, Session

AUTH_SECONDS = 10.0
AUTH_TRIES = 3  # of one socket: a conversation may be gone, the database away
CHECK_SECONDS = 60.0  # between two looks whether the identity still holds
FRAMES, PER_SECONDS = 30, 10.0  # what one socket may send


class Refusal(Exception):
    """The socket must be told `code` and closed."""

    def __init__(self, code: str, close: int) -> None:
        super().__init__(code)
        self.code = code
        self.close = close


class ChatConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    def __init__(self, answer: Answer, auth_seconds: float = AUTH_SECONDS, check_seconds: float = CHECK_SECONDS):
        super().__init__()
        self._answer = answer
        self._auth_seconds, self._check_seconds = auth_seconds, check_seconds
        self._session: Session | None = None  # None: not authenticated yet
        self._tries = 0  # to authenticate
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
            await self._act(parsing.parse_frame(text_data))
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
            self._outbox.close(protocol.CLOSE_INTERNAL)

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
        """No frame but the first is waited for: whatever it takes, the next one is read at once."""
        match frame:
            case Ping():
                await self._outbox.put(Frame("pong", {}, reply_to=frame.id))
            case Auth() if self._session is None:
                await self._guarded(frame.id, self._authenticate(frame))
            case Auth():
                await self._outbox.put(protocol.problem("already_authenticated", reply_to=frame.id))
            case _ if self._session is None:
                await self._refuse(Refusal("not_authenticated", protocol.CLOSE_IDENTITY), frame.id)
            case Send():
                await self._guarded(frame.id, self._begin(self._session, frame))
            case _:
                self._spawn(self._guarded(frame.id, self._session.act(frame)))

    async def _guarded(self, reply_to: str, work: Awaitable[None]) -> None:
        """Whatever goes wrong is told by a code; the socket stays, unless it is refused."""
        try:
            await work
        except Refusal as refusal:
            await self._refuse(refusal, reply_to)
        except NotFound:
            await self._outbox.put(protocol.problem("not_found", reply_to=reply_to))
        except RateLimited as limited:
            await self._outbox.put(protocol.rate_limited(limited.retry_after, reply_to=reply_to))
        except DATABASE_GONE:
            await self._outbox.put(protocol.problem("temporarily_unavailable", reply_to=reply_to))
        except Exception as error:
            report(error)
            await self._outbox.put(protocol.problem("internal_error", reply_to=reply_to))

    async def _begin(self, session: Session, send: Send) -> None:
        """Raises RateLimited."""
        caller = session.caller
        await asyncio.to_thread(limits.message, caller.tenant_id, caller.customer_id, self._address())
        await session.send(send)

    # --- who is there -------------------------------------------------------------------------

    async def _expect_identity(self) -> None:
        await asyncio.sleep(self._auth_seconds)
        raise Refusal("auth_timeout", protocol.CLOSE_AUTH_TIMEOUT)

    async def _authenticate(self, frame: Auth) -> None:
        self._tries += 1
        if self._tries > AUTH_TRIES:
            raise Refusal("rate_limited", protocol.CLOSE_RATE)
        wanted = UUID(frame.conversation_id) if frame.conversation_id else None
        caller = await in_db(self._identify)(frame)
        view = await in_db(open_conversation)(caller, wanted)
        self._deadline.cancel()
        self._session = Session(caller, view, self._outbox, self._answer, self._spawn)
        self._spawn(self._check_identity(frame, caller))
        await self._outbox.put(ready(caller, view, frame.id))

    def _verify(self, frame: Auth) -> tuple[WidgetDoor, Proven]:
        """Writes nothing. Raises Refusal and what the database raises."""
        with refusing():
            door = auth.find_widget(frame.widget_key)
            if not auth.origin_allowed(door, self._origin()):
                raise Refusal("origin_refused", protocol.CLOSE_ORIGIN)
            return door, auth.verify(door, frame.jwt, frame.visitor)

    def _identify(self, frame: Auth) -> Caller:
        """Raises Refusal and what the database raises."""
        door, proven = self._verify(frame)
        with refusing():
            if proven.is_new:
                limits.newcomer(self._address())
            return auth.admit(door, proven)

    def _origin(self) -> str | None:
        return next((value.decode("latin-1") for name, value in self.scope["headers"] if name == b"origin"), None)

    def _address(self) -> str:
        client = self.scope.get("client")  # None: a Unix socket
        return client[0] if client else ""

    async def _check_identity(self, frame: Auth, caller: Caller) -> None:
        """Close the socket when its identity has expired, was withdrawn or has become another."""
        again = replace(frame, visitor=caller.visitor)
        external_id = caller.external_id
        while external_id == caller.external_id and _seconds_left(caller) > 0:
            await asyncio.sleep(min(self._check_seconds, _seconds_left(caller)))
            with suppress(*DATABASE_GONE):  # nobody can say; the next look will
                external_id = (await in_db(self._verify)(again))[1].external_id
        raise Refusal("identity_refused", protocol.CLOSE_IDENTITY)


@contextmanager
def refusing() -> Iterator[None]:
    """What `accounts` refuses, as the socket says it."""
    try:
        yield
    except auth.UnknownWidget:
        raise Refusal("unknown_widget", protocol.CLOSE_ORIGIN) from None
    except IdentityRefused:
        raise Refusal("identity_refused", protocol.CLOSE_IDENTITY) from None
    except RateLimited:
        raise Refusal("rate_limited", protocol.CLOSE_RATE) from None


def ready(caller: Caller, view: ConversationView, reply_to: str) -> Frame:
    told = {
        "conversation_id": str(view.id),
        "customer": {"external_id": caller.external_id, "verified": caller.verified},
        "visitor": caller.visitor,
        "last_seq": view.last_seq,
        "state": view.state,
        "limits": {"text": protocol.MAX_TEXT, "history": protocol.MAX_HISTORY, "frames_per_10_seconds": FRAMES},
    }
    return Frame("session.ready", told, conversation_id=str(view.id), reply_to=reply_to)


def answer_with(engine: Callable[[], Any]) -> Answer:
    """The real answer; the engine is made when the first turn needs it."""
    return lambda caller, send: chat.answer(caller, send, engine=engine())


def _seconds_left(caller: Caller) -> float:
    """Until the identity expires, at the latest time that any clock in question says so."""
    if caller.expires_at is None:
        return float("inf")
    return max((caller.expires_at + LEEWAY - datetime.now(UTC)).total_seconds(), 0.0)
