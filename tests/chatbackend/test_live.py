"""Wake-ups over PostgreSQL, the lock that proves a process lives, and delivery of each frame once and in order."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Conversation, Message
from chatbackend import following, protocol, turns
from chatbackend.following import Following, stored_frame
from chatbackend.live import Live, ask_to_cancel
from chatbackend.outbox import ROOM, Outbox
from chatbackend.protocol import Frame
from tests.cast import open_shop


@pytest.fixture
async def live(database):
    live = Live()
    await live.start()
    yield live
    await live.stop()


@pytest.fixture
def alice(database):
    return open_shop("alice", "http://127.0.0.1:1")


def say(shop, conversation_id, text):
    with in_tenant(shop.tenant_id):
        conversations.say(Conversation.objects.get(id=conversation_id), Message.Role.STAFF, text)


def holds(process_key) -> bool:
    """Whether somebody holds the process's lock, as a recovering process sees it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [process_key])
        return not cursor.fetchone()[0]


async def test_a_stored_frame_wakes_who_follows_the_conversation_and_nobody_else(live, alice):
    caller = await in_db(alice.caller)()
    view = await in_db(conversations.open_conversation)(caller, None)
    mine, other = asyncio.Event(), asyncio.Event()
    with live.subscribe(str(view.id), mine), live.subscribe(str(uuid4()), other):
        mine.clear()
        await in_db(say)(alice, view.id, "Hello")
        await asyncio.wait_for(mine.wait(), 5)
        assert not other.is_set()


async def test_the_lock_is_held_for_life_and_taken_again_after_the_connection_was_lost(live):
    assert await in_db(holds)(live.process_key)
    woken = asyncio.Event()
    with live.subscribe("a conversation", woken):
        assert await in_db(cut)() >= 1
        await asyncio.wait_for(woken.wait(), 5)  # after a gap everybody looks
    assert await in_db(holds)(live.process_key)
    await live.stop()
    async with asyncio.timeout(5):  # the server notices a moment later
        while await in_db(holds)(live.process_key):
            pass


def cut() -> int:
    """The app role may end its own connections: they are of the same role."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chatbackend live'"
        )
        return len(cursor.fetchall())


async def test_a_stop_is_heard_by_every_process(live):
    async def turn():
        await asyncio.sleep(30)

    task = turns.start(turn(), "the conversation")
    await in_db(ask_to_cancel)("another conversation")
    await in_db(ask_to_cancel)("the conversation")
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_process_starts_without_a_database_and_listens_when_it_comes(database, monkeypatch):
    lonely, woken = Live(), asyncio.Event()
    with monkeypatch.context() as gone:
        gone.setitem(settings.DATABASES["default"], "PORT", 1)
        await lonely.start(patience=0.2)
    with lonely.subscribe("a conversation", woken):
        await asyncio.wait_for(woken.wait(), 5)
    await lonely.stop()


# --- each frame once, in order --------------------------------------------------------------------


class Store:
    """What is stored, as `events_after` tells it."""

    def __init__(self) -> None:
        self.frames: list[dict] = []

    def grow(self, count):
        for _ in range(count):
            self.frames.append({"event": "stream.chunk", "seq": len(self.frames) + 1, "data": {}})

    def after(self, tenant_id, conversation_id, seq, limit):
        return [frame for frame in self.frames if frame["seq"] > seq][:limit]


@examples(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["store", "own", "wake", "resume"]), st.integers(1, 5)), max_size=25))
def test_whatever_comes_when_each_frame_is_sent_once_and_in_order(steps):
    async def follow():
        store, conversation_id, sent, since = Store(), uuid4(), [], 0

        async def put(frame: Frame) -> None:
            sent.append(frame.seq)

        follower = Following(uuid4(), conversation_id, 0, put)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(following, "events_after", store.after)
            patch.setattr(following, "PAGE", 3)
            for step, count in steps:
                own = len(store.frames)
                if step in ("store", "own"):
                    store.grow(count)
                if step == "own":
                    for row in store.frames[own:]:
                        await follower.show(stored_frame(row, conversation_id))
                if step == "wake":
                    await follower.catch_up()
                if step == "resume":
                    since = max(0, len(store.frames) - count)
                    sent.clear()
                    await follower.resume(since)
                assert sent == list(range(since + 1, since + 1 + len(sent)))
            await follower.catch_up()
        assert sent == list(range(since + 1, len(store.frames) + 1))

    asyncio.run(follow())


# --- a slow reader --------------------------------------------------------------------------------


async def test_a_reader_who_is_too_slow_is_told_and_closed_and_costs_a_bounded_outbox():
    released, sent, closed = asyncio.Event(), [], []

    async def send(text):
        await released.wait()
        sent.append(text)

    async def close(code):
        closed.append(code)

    outbox = Outbox(send, close, patience_seconds=0.05)
    running = asyncio.create_task(outbox.run())
    for _ in range(ROOM * 2):
        await outbox.put(protocol.problem("busy"))
    assert outbox.closed
    released.set()
    await running
    assert closed == [1013]
    assert len(sent) < ROOM
    assert '"too_slow"' in sent[-1]


async def test_what_waits_is_sent_before_the_socket_is_closed():
    sent = []

    async def send(text):
        sent.append(text)

    async def close(code):
        sent.append(code)

    outbox = Outbox(send, close)
    await outbox.put(protocol.problem("auth_timeout"))
    outbox.close(4408)
    await outbox.put(protocol.problem("busy"))
    await outbox.run()
    assert [item if isinstance(item, int) else "problem" for item in sent] == ["problem", 4408]
