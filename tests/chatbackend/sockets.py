"""A real uvicorn around the real socket door, and a client that speaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
import websockets
from channels.routing import URLRouter
from django.urls import path
from uuid_utils.compat import uuid7

from accounts.auth import mint_identity
from accounts.models import Widget
from accounts.tenancy import in_db, in_tenant
from chatbackend import chat, turns
from chatbackend.consumers import ChatConsumer, answer_with
from chatbackend.live import live
from tests.cast import Shop

ORIGIN = "http://localhost:8000"  # where the cast's widgets may stand
SERVER = {"ws": "websockets-sansio", "ws_max_size": 65536, "ws_per_message_deflate": False, "lifespan": "off"}


@contextlib.asynccontextmanager
async def serving(engine: Any, **consumer: Any) -> AsyncIterator[str]:
    """The socket's address; `consumer` may shorten the door's patience."""
    door = ChatConsumer.as_asgi(answer=answer_with(lambda: engine), **consumer)
    async with running(URLRouter([path("ws/chat/", door)])) as port:
        await live.start()
        try:
            yield f"ws://127.0.0.1:{port}/ws/chat/"
        finally:
            await turns.drain(5)
            await chat.kept()
            await live.stop()


@contextlib.asynccontextmanager
async def running(application: Any, **options: Any) -> AsyncIterator[int]:
    """A uvicorn in this event loop; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=5, **(SERVER | options))
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True  # what SIGTERM does
            await task


class Client:
    """One open socket. `received` keeps every frame that came, in order."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection
        self.received: list[dict[str, Any]] = []
        self.conversation_id: str | None = None

    async def send(self, type: str, id: str | None = None, conversation_id: str | None = None, **data: Any) -> str:
        id = id or str(uuid7())
        frame = {"v": 1, "id": id, "type": type, "conversation_id": conversation_id, "data": data}
        await self.connection.send(json.dumps(frame))
        return id

    async def next(self, wanted: str | Callable[[dict[str, Any]], bool], seconds: float = 5.0) -> dict[str, Any]:
        """The next frame of this event, or that fits; what comes before it is only kept."""
        fits = wanted if callable(wanted) else lambda frame: frame["event"] == wanted
        async with asyncio.timeout(seconds):
            while True:
                frame = json.loads(await self.connection.recv())
                self.received.append(frame)
                if fits(frame):
                    return frame

    async def auth(self, **data: Any) -> dict[str, Any]:
        await self.send("auth", **data)
        ready = await self.next("session.ready")
        self.conversation_id = ready["conversation_id"]
        return ready

    async def ask(self, text: str = "Where is my order?", id: str | None = None) -> str:
        """A whole turn; the reply."""
        id = await self.send("message.send", id, text=text)
        reply = await self.next(lambda frame: is_reply(frame) and frame["reply_to"] == id)
        return reply["data"]["text"]

    async def until_closed(self, seconds: float = 5.0) -> int:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    self.received.append(json.loads(await self.connection.recv()))
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def quiet(self, seconds: float = 0.3) -> list[dict[str, Any]]:
        """All that comes until nothing has come for a while."""
        came = []
        with contextlib.suppress(TimeoutError):
            while True:
                came.append(await self.next(lambda frame: True, seconds))
        return came

    @property
    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.received if frame["seq"] is not None]

    @property
    def problems(self) -> list[str]:
        return [frame["data"]["code"] for frame in self.received if frame["event"] == "problem"]

    @property
    def shown(self) -> str:
        chunks = [frame["data"] for frame in self.received if frame["event"] == "stream.chunk"]
        return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


def is_reply(frame: dict[str, Any]) -> bool:
    return frame["event"] == "message.created" and frame["data"]["role"] == "assistant"


async def typed(writer: Client, reader: Client, seconds: float = 5.0) -> dict[str, Any]:
    """Say that `writer` types until `reader` is told; the first time it may not be listening yet."""
    async with asyncio.timeout(seconds):
        while True:
            await writer.send("typing", on=True)
            with contextlib.suppress(TimeoutError):
                return await reader.next("typing", 0.5)


@contextlib.asynccontextmanager
async def connected(address: str, origin: str | None = ORIGIN, **options: Any) -> AsyncIterator[Client]:
    async with websockets.connect(address, origin=origin, compression=None, **options) as connection:
        yield Client(connection)


@contextlib.asynccontextmanager
async def at_door(address: str, shop: Shop, external_id: str = "c1", **options: Any) -> AsyncIterator[Client]:
    """A client who is signed in."""
    async with connected(address, **options) as client:
        await client.auth(widget_key=shop.widget_key, jwt=await signed(shop, external_id))
        yield client


async def signed(shop: Shop, external_id: str = "c1") -> str:
    def mint() -> str:
        with in_tenant(shop.tenant_id):
            widget = Widget.objects.get(id=shop.widget_id)
        return mint_identity(widget, external_id, {})

    return await in_db(mint)()
