"""A request that is too large is answered with what is wrong, and nothing of it is kept."""

from __future__ import annotations

from chatbackend.body_limit import limited


class Door:
    """An application that reads the whole body, and what it was given."""

    def __init__(self) -> None:
        self.read: list[dict] = []

    async def __call__(self, scope, receive, send):
        while True:
            self.read.append(await receive())
            if not self.read[-1].get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def ask(door: Door, *pieces: bytes, length: int | None) -> tuple[list[dict], int]:
    """What was answered, and how many pieces were left unread."""
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting[-1]["more_body"] = False
    sent: list[dict] = []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    await limited(door, most_of_a_page=100)({"type": "http", "path": "/admin/", "headers": headers}, receive, send)
    return sent, len(waiting)


async def test_what_fits_is_let_through():
    door = Door()
    sent, _ = await ask(door, b"a" * 60, b"b" * 40, length=100)
    assert sent[0]["status"] == 200
    assert b"".join(message["body"] for message in door.read) == b"a" * 60 + b"b" * 40


async def test_what_says_that_it_is_larger_is_refused_and_reaches_nobody():
    door = Door()
    sent, unread = await ask(door, b"a" * 60, b"b" * 60, length=120)
    assert (sent[0]["status"], unread, door.read) == (413, 0, [])
    assert b"larger than" in sent[1]["body"]


async def test_what_does_not_say_and_is_larger_is_refused_as_soon_as_it_is():
    door = Door()
    sent, unread = await ask(door, b"a" * 60, b"b" * 60, b"c", length=None)
    assert (sent[0]["status"], unread) == (413, 0)
    assert [message["body"] for message in door.read] == [b"a" * 60]
