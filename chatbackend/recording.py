"""A turn's steps, put on record as they happen: whatever dies, nothing that was done is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError

from accounts.tenancy import in_db
from cascade import conversations
from cascade.conversations import CallRecord, TurnResult
from cascade.values import Attempt, Tier
from chatbackend import journal
from chatbackend.reporting import report

DATABASE_GONE = (DatabaseError, InterfaceError)
CLOSE_AGAIN_SECONDS = 5.0  # between two attempts when neither database nor disk takes a turn's result

T = TypeVar("T")


class Recorder:
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


async def close(result: TurnResult) -> Sequence[dict[str, Any]]:
    """Put the turn on record, or on disk until the database is back; its frames, which have no seq yet in that case.

    With neither it waits, for as long as the process lives.
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


async def uninterrupted(step: Coroutine[Any, Any, T]) -> T:
    """Await `step` to its end even when cancelled, then be cancelled: a thread cannot be called back."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
