"""A model provider of our own: speaks both vendors' wires over real HTTP, as scripted, faults and all.

    with ModelServer() as server:
        server.script("small", Fault.status(429, retry_after=1), Reply("It is on its way."))
        provider = OpenAIProvider("a-key", server.base_url)  # AnthropicProvider takes the same address
        ...
        assert [call.model for call in server.calls] == ["small", "small"]

A model's script is played in order and its last line again and again; "*" stands for every model that
has none. `Reply(text=a_function)` answers by the request's JSON. Each call keeps what a provider would
bill (`Call.billed`), reported or not, so that a ledger can be reconciled with it.

Stands alone too: `python -m tests.model_server --port 9000 --script replies.json`, where the file
holds {"model": [{"text": "Hello", "pace": 0.02}, {"status": 429}]}; GET /calls tells what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tests.model_wires import WIRES, Tokens, Wire

NOTHING = Tokens(0, 0)
Break = Literal["reset", "close", "truncate", "hang", "error", "not json", "wrong shape"]


@dataclass(frozen=True)
class Reply:
    """An answer. `breaks_after` pieces something happens instead of the rest; None: it runs well."""

    text: str | Callable[[dict[str, Any]], str] = ""
    finish: str = "stop"  # OpenAI's words: "length", "content_filter", ...
    delay: float = 0.0  # seconds before the first byte
    pace: float = 0.0  # seconds between pieces
    usage: Tokens | Literal["counted"] | None = "counted"  # what is reported; None: nothing
    breaks_after: int | None = None
    how: Break = "reset"
    done: bool = True  # ends with the vendor's end mark
    split: bool = False  # every byte in a chunk of its own
    cached: int = 0  # of the counted prompt
    reasoning: int = 0  # on top of the counted output


@dataclass(frozen=True)
class Fault:
    """No answer at all. `code` 0: no HTTP either, the connection is reset, or hangs."""

    code: int
    kind: str = ""  # the vendor's short code for it; "": the usual one
    headers: tuple[tuple[str, str], ...] = ()
    hangs: bool = False
    text: str = "Something the vendor says, with sk-secret-key in it."

    @classmethod
    def status(cls, code: int, kind: str = "", *, retry_after: float | str | None = None) -> Fault:
        return cls(code, kind, () if retry_after is None else (("retry-after", str(retry_after)),))

    @classmethod
    def reset(cls) -> Fault:
        return cls(0)

    @classmethod
    def hang(cls) -> Fault:
        return cls(0, hangs=True)


@dataclass
class Call:
    """One request, and what became of it."""

    wire: Literal["openai", "anthropic"]
    model: str
    body: dict[str, Any]
    headers: dict[str, str]
    status: int = 0
    billed: Tokens = NOTHING  # what a provider would charge for so far
    finished: bool = False
    dropped: bool = False  # the client went away before the end
    at: float = field(default_factory=time.monotonic)

    @property
    def question(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def prompt_characters(self) -> int:
        system = self.body.get("system", "")
        blocks = [system] if isinstance(system, str) else [block["text"] for block in system]
        parts = [*blocks, *(message["content"] for message in self.body["messages"])]
        return sum(len(str(part)) for part in parts)


class Gone(Exception):
    """Nobody reads any more, or we left ourselves."""


class ModelServer:
    """A context manager; runs on a thread of its own, so tests may be sync or async."""

    def __init__(self, port: int = 0) -> None:
        self.port, self.calls = port, list[Call]()
        self._scripts: dict[str, list[Reply | Fault]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._mistakes = list[Exception]()  # our own, raised at the end

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, model: str, *lines: Reply | Fault) -> None:
        self._scripts[model] = list(lines)

    def wait_until(self, happened: Callable[[], object], seconds: float = 5.0) -> None:
        """For what another thread does, like noticing that a client has gone."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)

    def __enter__(self) -> ModelServer:
        self._thread.start()
        assert self._ready.wait(10), "the model server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        if self._mistakes:
            raise ExceptionGroup("the model server itself failed", self._mistakes)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                await self._answer(Exchange(reader, writer), *request)
        except (Gone, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the connection is over, or the server is
        except Exception as mistake:
            self._mistakes.append(mistake)
        finally:
            writer.close()

    async def _answer(self, http: Exchange, path: str, headers: dict[str, str], body: bytes) -> None:
        if path == "/calls":
            return await http.send_json(200, [asdict(call) for call in self.calls])
        wire = WIRES.get(path.rsplit("/", 1)[-1])
        if wire is None:
            return await http.send_json(200 if path == "/health" else 404, {})
        request = json.loads(body)
        call = Call(wire.name, request["model"], request, headers)
        self.calls.append(call)
        line = self._next_line(call.model)
        try:
            await (_fail(http, wire, call, line) if isinstance(line, Fault) else _reply(http, wire, call, line))
            call.finished = isinstance(line, Reply)
        except (Gone, ConnectionError):
            call.dropped = http.left_by_client
            raise
        return None

    def _next_line(self, model: str) -> Reply | Fault:
        lines = self._scripts.get(model) or self._scripts.get("*")
        if not lines:
            return Fault.status(404, "model_not_found")
        return lines.pop(0) if len(lines) > 1 else lines[0]


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    """Path, headers in small letters, body; None: the client is done."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return head[0].split(" ")[1], headers, body


class Exchange:
    """One answer on an open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.left_by_client = False
        self.split = False

    async def send_json(self, status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        raw = json.dumps(body).encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{more}content-length: {len(raw)}\r\n\r\n"
        await self._send(head.encode() + raw)

    async def open_stream(self, *, last: bool) -> None:
        """`last`: no other request is taken on this connection, and the client is told so."""
        more = "connection: close\r\n" if last else ""
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{more}transfer-encoding: chunked\r\n\r\n"
        await self._send(head.encode())

    async def send(self, event: str) -> None:
        raw = event.encode()
        pieces = [raw[i : i + 1] for i in range(len(raw))] if self.split else [raw]
        await self._send(b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces))

    async def close_stream(self) -> None:
        await self._send(b"0\r\n\r\n")

    async def pause(self, seconds: float | None) -> None:
        """Wait, for ever if None, unless the client leaves. Raises Gone."""
        if seconds == 0:
            return
        try:
            await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return
        except ConnectionError:
            pass
        self.left_by_client = True
        raise Gone

    def reset(self) -> None:
        """Raises Gone."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        raise Gone

    async def _send(self, raw: bytes) -> None:
        try:
            self._writer.write(raw)
            await self._writer.drain()
        except ConnectionError:
            self.left_by_client = True
            raise


async def _fail(http: Exchange, wire: Wire, call: Call, fault: Fault) -> None:
    if fault.hangs:
        await http.pause(None)
    if not fault.code:
        http.reset()
    call.status = fault.code
    await http.send_json(fault.code, wire.error(fault.kind or wire.kind_of(fault.code), fault.text), fault.headers)


async def _reply(http: Exchange, wire: Wire, call: Call, reply: Reply) -> None:
    text = reply.text(call.body) if callable(reply.text) else reply.text
    pieces = re.findall(r"\s*\S+\s*|\s+", text)
    prompt = call.prompt_characters // 5 + 1
    whole = Tokens(prompt, len(pieces) + reply.reasoning, reply.cached, 0, reply.reasoning)
    reported = whole if reply.usage == "counted" else reply.usage
    await http.pause(reply.delay)
    call.status, call.billed, http.split = 200, Tokens(prompt, 0, reply.cached), reply.split
    if not call.body.get("stream"):
        call.billed = whole
        return await http.send_json(200, wire.whole(call, text, reply.finish, reported))
    await http.open_stream(last=reply.breaks_after is not None)
    await http.send("".join(wire.start(call, reported)))
    for number, piece in enumerate(pieces):
        if number == reply.breaks_after:
            await _break(http, wire, reply.how)
        await http.send(wire.piece(piece))
        call.billed = Tokens(prompt, number + 1, reply.cached)
        await http.pause(reply.pace)
    if reply.breaks_after is not None and reply.breaks_after >= len(pieces):
        await _break(http, wire, reply.how)
    call.billed = whole
    for event in wire.end(call, reply.finish, reported, done=reply.done):
        await http.send(event)
    return await http.close_stream()


async def _break(http: Exchange, wire: Wire, how: Break) -> None:
    match how:
        case "reset":
            await asyncio.sleep(0.05)  # let what was sent arrive: a reset overtakes it
            http.reset()
        case "hang":
            await http.pause(None)
        case "close":
            await http.close_stream()
        case "error":
            await http.send(wire.error_event("overloaded_error"))
        case "not json":
            await http.send('event: message_delta\ndata: {"choices": [{\n\n')
        case "wrong shape":
            await http.send('event: content_block_delta\ndata: {"type": "content_block_delta", "choices": null}\n\n')
    raise Gone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--script", type=argparse.FileType("r"), required=True)
    options = parser.parse_args()
    with ModelServer(options.port) as server:
        for model, lines in json.load(options.script).items():
            server.script(model, *(Fault.status(**_fault(x)) if "status" in x else Reply(**x) for x in lines))
        print(server.base_url, flush=True)
        threading.Event().wait()


def _fault(line: dict[str, Any]) -> dict[str, Any]:
    return {"code" if key == "status" else key: value for key, value in line.items()}


if __name__ == "__main__":
    main()
