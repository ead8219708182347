"""A request that is too large is answered before anything of it is kept, whatever address it is for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_BYTES = 32 * 1024 * 1024  # of a request's body: a file of articles, and the form around it

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def bounded(app: Any, most: int = MOST_BYTES) -> App:
    """`app` for HTTP bodies of at most `most` bytes. One that says it is larger is answered with 413; one that does not
    say and is larger is taken as broken off."""

    async def serve(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) <= most:
            await app(scope, _counting(receive, most), send)
        else:
            await _refuse(receive, send, f"This request is larger than {most // 1024**2} MB: send a smaller file.")

    return serve


def _counting(receive: Receive, most: int) -> Receive:
    got = 0

    async def counted() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        return {"type": "http.disconnect"} if got > most else message

    return counted


async def _refuse(receive: Receive, send: Send, told: str) -> None:
    """Read on and drop what comes: a browser that is still sending would not show the answer."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": told.encode()})
