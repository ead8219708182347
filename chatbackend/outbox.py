"""What one socket still has to send: bounded, so that a slow reader costs no memory and stops nobody.

Whoever has a frame waits a moment for room. When there is none, the socket is closed with 1013; the
turn goes on, is stored, and the customer resumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from chatbackend import protocol
from chatbackend.protocol import Frame

ROOM = 64  # frames
PATIENCE_SECONDS = 5.0  # with a full outbox


class Outbox:
    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[int], Awaitable[None]],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._send, self._close = send, close
        self._patience_seconds = patience_seconds
        self._waiting: asyncio.Queue[Frame | int] = asyncio.Queue(ROOM)
        self.closed = False  # nothing more is taken; what waits may still be sent

    async def put(self, frame: Frame) -> None:
        """Queue a frame; dropped when the socket is closed."""
        if self.closed:
            return
        try:
            async with asyncio.timeout(self._patience_seconds):
                await self._waiting.put(frame)
        except TimeoutError:
            self._give_up()

    def close(self, code: int) -> None:
        """Send what waits, then close the socket."""
        if self.closed:
            return
        self.closed = True
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(code)

    def _give_up(self) -> None:
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(protocol.problem("too_slow"))
        self.close(protocol.CLOSE_SLOW)

    async def run(self) -> None:
        """Send until the socket is closed, from either side."""
        try:
            while True:
                waiting = await self._waiting.get()
                if isinstance(waiting, int):
                    await self._close(waiting)
                    return
                await self._send(protocol.to_wire(waiting))
        except OSError:  # the other side is gone
            return
        finally:
            self.closed = True


class Pace:
    """An accepted reply is there at once; it is shown word by word all the same, in about a second."""

    STEP_SECONDS = 0.04
    IN_ALL_SECONDS = 1.0

    def __init__(self) -> None:
        self._began: float | None = None  # None: no delta yet
        self._last = 0.0

    async def keep(self, frame: Frame) -> None:
        """Wait until `frame` may be sent: the first text at once, the next a step later."""
        if frame.event != "stream.chunk" or frame.data.get("type") != "text-delta":
            return
        now = time.monotonic()
        if self._began is None:
            self._began = now
        elif now - self._began < self.IN_ALL_SECONDS:
            await asyncio.sleep(self._last + self.STEP_SECONDS - now)
        self._last = time.monotonic()
