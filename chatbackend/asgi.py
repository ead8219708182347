"""The entry for HTTP and sockets, and what a web process does when it begins and ends.

At the end the server has closed its sockets with 1012 already; running turns are waited for, so that
their answers are stored and their holds settled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")
http = get_asgi_application()  # before anything that needs the models

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from accounts.checks import refuse_unbound_role  # noqa: E402
from accounts.tenancy import in_db  # noqa: E402
from cascade import wiring  # noqa: E402
from chatbackend import chat, recovery, turns  # noqa: E402
from chatbackend.body_limit import limited  # noqa: E402
from chatbackend.consumers import ChatConsumer, answer_with  # noqa: E402
from chatbackend.live import live  # noqa: E402
from chatbackend.reporting import report  # noqa: E402

DRAIN_SECONDS = 30.0
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sender = Callable[[MutableMapping[str, Any]], Awaitable[None]]


_working: set[asyncio.Task[None]] = set()  # for as long as the process serves


async def begin() -> None:
    """Raises ImproperlyConfigured when row-level security would not bind us; nothing is served then."""
    await in_db(refuse_unbound_role)()
    await live.start()
    _working.update({asyncio.create_task(recovery.keep_settling()), asyncio.create_task(warm())})


async def warm() -> None:
    """The first customer does not wait for these processes; one that does not come up is tried again by the next."""
    for each in (wiring.scorer(), wiring.embedder()):
        try:
            if each:
                await each.start()
        except Exception as problem:
            report(problem)


async def end() -> None:
    await turns.drain(DRAIN_SECONDS)
    await chat.kept(turns.CANCELLED_SECONDS)  # and settled, where a turn was stopped twice
    for task in _working:
        task.cancel()
    await live.stop()
    if wiring.engine.cache_info().currsize:
        await wiring.engine().aclose()
    if wiring.scorer.cache_info().currsize:
        await wiring.scorer().close()
    if wiring.embedder.cache_info().currsize and (embedder := wiring.embedder()):
        await embedder.close()


async def lifespan(scope: object, receive: Receive, send: Sender) -> None:
    await receive()  # lifespan.startup
    await begin()
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await end()
    await send({"type": "lifespan.shutdown.complete"})


async def nowhere(scope: object, receive: Receive, send: Sender) -> None:
    """A socket at an address that does not exist: refused with 403 before it is opened."""
    await receive()
    await send({"type": "websocket.close"})


sockets = URLRouter(
    [
        path("ws/chat/", ChatConsumer.as_asgi(answer=answer_with(wiring.engine))),
        re_path("", nowhere),  # type: ignore[arg-type]  # an ASGI application, as Channels routes to
    ]
)
application = ProtocolTypeRouter({"http": limited(http), "websocket": sockets, "lifespan": lifespan})
