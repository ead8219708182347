"""One standing connection a web process: it hears what was stored, and proves that the process lives.

Whoever stores frames of a conversation (a web process, a worker) notifies PostgreSQL; here that wakes
the sockets of this process that follow the conversation. A wake-up says only "look": frames are read
from the database, so a lost one costs time, not frames, and all are woken after a gap. It is the same
with many web processes and needs no Redis.

The connection also holds `process_key` as a shared advisory lock. Turns carry the key, and a turn
whose key nobody holds is dead (`recovery`). It must reach PostgreSQL itself: a pooler that lends
connections by the transaction would drop the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection as django_connection
from psycopg.conninfo import make_conninfo

from cascade.conversations import CHANNEL
from chatbackend import turns

CANCELS = "conversation_cancels"
PROBE_SECONDS = 15.0  # of silence, after which the connection is tried
LONGEST_PAUSE = 5.0  # between two attempts to connect
log = logging.getLogger(__name__)


class Live:
    """`live` is the process's own; `process_key` is known before it has started."""

    def __init__(self) -> None:
        self.process_key = secrets.randbits(63)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()  # the lock is held, and notices are heard

    async def start(self, patience: float = 5.0) -> None:
        """Begin to listen; returns when the lock is held, or after `patience` seconds without a database."""
        if self._task is None or self._task.done():
            self._listening = asyncio.Event()
            self._task = asyncio.create_task(self._keep_listening(), name="live")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listening.wait(), patience)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @contextlib.contextmanager
    def subscribe(self, conversation_id: str, woken: asyncio.Event) -> Iterator[None]:
        """`woken` is set whenever there may be new frames of the conversation."""
        self._waiting[conversation_id].add(woken)
        try:
            yield
        finally:
            self._waiting[conversation_id].discard(woken)
            if not self._waiting[conversation_id]:
                del self._waiting[conversation_id]

    async def _keep_listening(self) -> None:
        pause = 0.1
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as connection:
                    await self._take_up(connection)
                    pause = 0.1
                    await self._relay(connection)
            except (psycopg.Error, OSError) as problem:
                log.warning("the listening connection is lost: %s", type(problem).__name__)
            finally:
                self._listening.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  spreads the processes
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _take_up(self, connection: psycopg.AsyncConnection) -> None:
        """The lock first: shared, so that what is left of a lost connection of ours cannot keep us out."""
        await connection.execute("SELECT pg_advisory_lock_shared(%s)", [self.process_key])
        await connection.execute(f"LISTEN {CHANNEL}")
        await connection.execute(f"LISTEN {CANCELS}")
        self._listening.set()
        for waiting in self._waiting.values():
            _wake(waiting)

    async def _relay(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            async for notice in connection.notifies(timeout=PROBE_SECONDS):
                if notice.channel == CANCELS:
                    turns.cancel(notice.payload)
                else:
                    _wake(self._waiting.get(notice.payload, set()))
            await connection.execute("SELECT 1")


def ask_to_cancel(conversation_id: str) -> None:
    """Tell every web process, this one too, to stop the conversation's turn; for `in_db`."""
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CANCELS, conversation_id])


def _wake(waiting: set[asyncio.Event]) -> None:
    for woken in waiting:
        woken.set()


def conninfo() -> str:
    """Django's own database, past its pool; a peer that vanished is noticed within half a minute."""
    database = settings.DATABASES["default"]
    names = {"HOST": "host", "PORT": "port", "NAME": "dbname", "USER": "user", "PASSWORD": "password"}
    parts: dict[str, Any] = {"application_name": "chatbackend live", "connect_timeout": 5}
    parts |= {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
    parts |= {key: value for key, value in database.get("OPTIONS", {}).items() if isinstance(value, str | int)}
    parts |= {ours: database[name] for name, ours in names.items() if database.get(name)}
    return make_conninfo("", **parts)


live = Live()
