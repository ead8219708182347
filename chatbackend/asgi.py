"""The entry for HTTP and sockets, and what a web process does when it begins and ends.

At the end the server has closed its sockets with 1012 already; running turns are waited for, so that
their answers are stored and their holds settled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")
http = get_asgi_application()  # before anything that needs the models

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.db import InterfaceError, OperationalError  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from cascade import wiring  # noqa: E402
from chatbackend import recovery, turns  # noqa: E402
from chatbackend.consumers import ChatConsumer, answer_with  # noqa: E402
from chatbackend.live import live  # noqa: E402

DRAIN_SECONDS = 30.0
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sender = Callable[[MutableMapping[str, Any]], Awaitable[None]]
log = logging.getLogger(__name__)


async def begin() -> None:
    await live.start()
    try:
        await recovery.settle_dead_turns()
    except (OperationalError, InterfaceError):
        log.warning("the database is gone; dead turns are settled by the worker")


async def end() -> None:
    await turns.drain(DRAIN_SECONDS)
    await live.stop()
    if wiring.engine.cache_info().currsize:
        await wiring.engine().aclose()


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
application = ProtocolTypeRouter({"http": http, "websocket": sockets, "lifespan": lifespan})
