"""The turns that run in this process. A turn belongs to no socket: it outlives the one that began it.

Here it is kept from being forgotten, found by its conversation when it is to be stopped, and waited
for when the process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

CANCELLED_SECONDS = 10.0  # for the settlement of turns that were stopped at the end of the process

_running: dict[asyncio.Task[None], str] = {}


def start(turn: Coroutine[Any, Any, None], conversation_id: str) -> asyncio.Task[None]:
    """Run `turn` to its end, whatever becomes of the socket."""
    task = asyncio.create_task(turn, name=f"turn of {conversation_id}")
    _running[task] = conversation_id
    task.add_done_callback(lambda done: _running.pop(done, None))
    return task


def moved(task: asyncio.Task[None], conversation_id: str) -> None:
    """The turn is part of another conversation than was thought (the earlier one was closed)."""
    if task in _running:
        _running[task] = conversation_id


def cancel(conversation_id: str) -> bool:
    """Stop the conversation's turn, if it runs here."""
    found = [task for task, running in _running.items() if running == conversation_id]
    for task in found:
        task.cancel()
    return bool(found)


async def drain(seconds: float) -> None:
    """Wait for all turns; those that are not done after `seconds` are stopped and settled."""
    if _running:
        await asyncio.wait(list(_running), timeout=seconds)
    late = list(_running)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CANCELLED_SECONDS)
