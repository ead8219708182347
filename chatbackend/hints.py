"""Hints between the sockets of one conversation: who is typing. At most once, never stored.

They go through the channel layer `typing`: this process's memory or, between web processes, Redis.
Whatever happens there costs hints alone, so Channels' own way of listening, which ends a socket whose
layer fails, is not used. Frames that must arrive go through the database instead (`following`, `live`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable

from channels.layers import get_channel_layer

from chatbackend.protocol import Frame

JOIN_SECONDS = 60.0  # between two entries in the group: a Redis that was restarted has forgotten it
PAUSE_SECONDS = 15.0  # after the layer failed
PATIENCE_SECONDS = 1.0  # with the layer
log = logging.getLogger(__name__)
_failing = False  # it is told once


async def tell_typing(conversation_id: str, role: str, on: bool, socket: str) -> None:
    """Tell the conversation's other sockets. `role`: customer or staff; `socket`: the teller's own, left out."""
    message = {"type": "typing", "socket": socket, "data": {"role": role, "on": on}}
    await _tried(get_channel_layer("typing").group_send(_group(conversation_id), message))


async def hear(conversation_id: str, socket: str, put: Callable[[Frame], Awaitable[None]]) -> None:
    """Put the hints of the conversation's other sockets, until cancelled."""
    layer, group = get_channel_layer("typing"), _group(conversation_id)
    channel = await layer.new_channel()

    async def stay_in() -> None:
        while True:
            joined = await _tried(layer.group_add(group, channel))
            await asyncio.sleep(JOIN_SECONDS if joined else PAUSE_SECONDS)

    async def pass_on() -> None:
        message = await layer.receive(channel)
        if message["socket"] != socket:
            await put(Frame("typing", message["data"], conversation_id=conversation_id))

    async def listen() -> None:
        while True:
            if not await _tried(pass_on(), None):
                await asyncio.sleep(PAUSE_SECONDS)

    try:
        await asyncio.gather(stay_in(), listen())
    finally:
        await _tried(layer.group_discard(group, channel))


async def _tried(work: Awaitable[None], patience: float | None = PATIENCE_SECONDS) -> bool:
    """Whether it worked. Nothing is raised: a hint that is lost is lost."""
    global _failing
    try:
        async with asyncio.timeout(patience):
            await work
    except Exception as error:
        if not _failing:
            log.warning("nobody is seen typing: the channel layer fails with %s", type(error).__name__)
        _failing = True
        return False
    _failing = False
    return True


def _group(conversation_id: str) -> str:
    return f"typing.{hashlib.sha256(conversation_id.encode()).hexdigest()}"
