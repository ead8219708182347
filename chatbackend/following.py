"""How one socket follows one conversation: every stored frame once, in order, none left out.

Frames come from two sides: directly from the turn that this socket began, and from the database when
another process, tab or worker stored some. The sequence number decides which are still owed. What
carries none (answers to this socket alone, and chunks while the database is gone) is passed on as is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from accounts.tenancy import in_db
from cascade.conversations import events_after
from chatbackend.protocol import Frame

PAGE = 100  # frames read at once
Put = Callable[[Frame], Awaitable[None]]


class Following:
    def __init__(self, tenant_id: UUID, conversation_id: UUID, sent_seq: int, put: Put) -> None:
        self.tenant_id = tenant_id
        self.conversation_id = conversation_id
        self.sent_seq = sent_seq  # every frame up to this one has been sent
        self._put = put
        self._order = asyncio.Lock()

    async def show(self, frame: Frame) -> None:
        """Send a frame of this socket's own turn, and whatever is missing before it.

        Raises what the database raises; the frame is then still owed.
        """
        async with self._order:
            if frame.seq is None:
                await self._put(frame)
            elif frame.seq == self.sent_seq + 1:
                await self._send(frame)
            elif frame.seq > self.sent_seq:
                await self._catch_up()

    async def catch_up(self) -> None:
        """Send all that is stored and was not sent. Raises what the database raises."""
        async with self._order:
            await self._catch_up()

    async def resume(self, last_seq: int) -> None:
        """Send again all that is stored after `last_seq`. Raises what the database raises."""
        async with self._order:
            self.sent_seq = last_seq
            await self._catch_up()

    async def replay(self, reply_to: str, first_seq: int) -> None:
        """Send again what answered one message, from `first_seq` on. Raises what the database raises."""
        async with self._order:
            before, after = self.sent_seq, first_seq - 1
            while frames := [frame for frame in await self._stored_after(after) if (frame.seq or 0) <= before]:
                for frame in frames:
                    if frame.reply_to == reply_to:
                        await self._put(frame)
                after = frames[-1].seq or before
            await self._catch_up()

    async def _catch_up(self) -> None:
        while frames := await self._stored_after(self.sent_seq):
            for frame in frames:
                await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        await self._put(frame)
        self.sent_seq = frame.seq or self.sent_seq

    async def _stored_after(self, seq: int) -> list[Frame]:
        rows = await in_db(events_after)(self.tenant_id, self.conversation_id, seq, PAGE)
        return [stored_frame(row, self.conversation_id) for row in rows]


def stored_frame(row: dict[str, Any], conversation_id: UUID) -> Frame:
    return Frame(
        event=row["event"],
        data=row["data"],
        seq=row["seq"],
        conversation_id=str(conversation_id),
        message_id=row.get("message_id"),
        reply_to=row.get("reply_to"),
    )
