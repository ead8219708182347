"""A body that is too large is refused before it is read: Django would first put all of it on disk.

By its Content-Length at once, without one as soon as it has become too large.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from django.conf import settings

from accounts.rest import problems
from chatbackend.openai_wire import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Sender = Callable[[Scope], Awaitable[None]]
Application = Callable[..., Awaitable[None]]  # an ASGI application

OPENAI = "/v1/"
PROGRAMS = ("/api/", OPENAI)
UPLOADS = "/api/v1/uploads"  # files of articles, as pages send them
MOST_OF_A_PAGE = 32 * 1024 * 1024  # bytes: a file of articles, and the form around it
LINGER_SECONDS = 30.0  # with a sender who is still sending


class TooLarge(Exception):
    """More came than may come."""


def limited(application: Application, most: int | None = None, *, most_of_a_page: int = MOST_OF_A_PAGE) -> Application:
    """`application`, for bodies of `most` bytes from programs (None: what Django keeps in memory), else of a page's."""
    of_programs = settings.DATA_UPLOAD_MAX_MEMORY_SIZE if most is None else most

    async def serve(scope: Scope, receive: Receive, send: Sender) -> None:
        of_a_page = scope["path"] == UPLOADS or not scope["path"].startswith(PROGRAMS)
        limit = most_of_a_page if of_a_page else of_programs
        if _announced(scope) > limit:
            return await _refuse(scope, receive, send, limit)
        read = 0

        async def counted() -> Scope:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise TooLarge
            return message

        try:
            await application(scope, counted, send)
        except TooLarge:  # the body is read before anything is sent
            await _refuse(scope, receive, send, limit)

    return serve


def _announced(scope: Scope) -> int:
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(told) if told.isdigit() else 0


def _told(path: str, limit: int) -> tuple[str, bytes]:
    """Content type and body, as the door that was knocked at puts it."""
    if path.startswith(OPENAI):
        return "application/json", json.dumps(ApiError(413, "too_large", "the request is too large").told).encode()
    if path.startswith(PROGRAMS):
        return problems.CONTENT_TYPE, json.dumps(problems.body("too_large")).encode()
    told = f"This request is larger than {limit // 1024**2} MB: send a smaller file."
    return "text/plain; charset=utf-8", told.encode()


async def _refuse(scope: Scope, receive: Receive, send: Sender, limit: int) -> None:
    """The answer first; then what is on its way is dropped for a moment, or the sender would see a broken line."""
    kind, body = _told(scope["path"], limit)
    headers = {"content-type": kind, "content-length": str(len(body)), "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 413, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})
