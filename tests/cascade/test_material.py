"""What a turn starts from: the chatbot's own record source, asked once a while, and a bounded number of rows."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from uuid_utils.compat import uuid7

from accounts.auth import create_widget
from accounts.models import CustomerRecord
from accounts.sealing import seal
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Article, Chatbot, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat
from chatbackend.protocol import Send
from tests.cast import ScriptedScorer, open_shop
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice():
    shop = open_shop("alice", "http://127.0.0.1:1")
    shop.change(record_source_url="https://alice.example/records", record_source_secret=seal(b"signs"))
    return shop


def opened(caller):
    """A turn of the caller's conversation, opened and over."""
    turn = conversations.open_turn(caller, None, str(uuid7()), "Where is my order?", 1)
    with in_tenant(caller.tenant_id):
        Turn.objects.filter(id=turn.id).update(state=Turn.State.ANSWERED)
    return turn


def test_the_record_source_is_asked_with_the_secret_that_was_sealed(alice):
    source = opened(alice.caller()).material.record_source
    assert (source.url, source.secret) == ("https://alice.example/records", b"signs")


def test_a_record_source_that_was_taken_away_is_not_asked_though_its_secret_is_kept(alice):
    alice.change(record_source_url="")
    material = opened(alice.caller()).material
    assert (material.record_source, material.source_error) == (None, None)


async def test_a_secret_that_no_key_opens_any_more_costs_fresh_records_and_not_the_reply(settings):
    with ModelServer() as models:
        models.script("small", Reply("Your desk lamp is good."))
        alice = await in_db(open_shop)("alice", models.base_url)
        await in_db(alice.change)(record_source_url="https://alice.example/", record_source_secret=seal(b"signs"))
        caller = await in_db(alice.caller)()
        settings.SECRET_SEALING_KEYS = [Fernet.generate_key().decode()]
        engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9}))
        send = Send(str(uuid7()), None, "Where is my order?")
        async with aclosing(chat.answer(caller, send, engine=engine)) as frames:
            problems = [frame.data async for frame in frames if frame.event == "problem"]
        await chat.kept()
        (turn,) = await in_db(turns_of)(alice)
    assert not problems
    assert (turn.state, turn.context_report["source_error"]) == ("answered", "secret_unreadable")


def turns_of(shop):
    with in_tenant(shop.tenant_id):
        return list(Turn.objects.all())


def test_what_one_chatbots_source_said_does_not_keep_anothers_from_being_asked(alice):
    caller = alice.caller()
    turn = opened(caller)
    conversations.store_records(turn, [], datetime.now(UTC))
    assert opened(caller).material.record_source is None  # asked just now
    other = opened(replace(caller, widget_id=another_chatbot(alice)))
    assert other.material.record_source.url == "https://other.example/records"


def another_chatbot(shop):
    widget, _, _ = create_widget(shop.tenant_id, ["http://localhost:8000"])
    with in_tenant(shop.tenant_id):
        Chatbot.objects.create(
            tenant_id=shop.tenant_id,
            name="Other",
            widget=widget,
            instructions="Answer.",
            live_strategy=Chatbot.objects.get(id=shop.chatbot_id).live_strategy,
            record_source_url="https://other.example/records",
            record_source_secret=seal(b"signs"),
        )
    return widget.id


def test_of_very_many_records_the_newest_are_read(alice):
    caller, now = alice.caller(), datetime.now(UTC)
    with in_tenant(alice.tenant_id):
        CustomerRecord.objects.bulk_create(
            CustomerRecord(
                tenant_id=alice.tenant_id,
                customer_id=caller.customer_id,
                type="visit",
                external_id=f"V-{days}",
                as_of=now - timedelta(days=days),
            )
            for days in range(1, 250)
        )
    records = opened(caller).material.context.customer.records
    assert [record.external_id for record in records] == ["A-c1", *(f"V-{days}" for days in range(1, 200))]


def test_of_very_many_articles_five_hundred_are_read(alice):
    with in_tenant(alice.tenant_id):
        Article.objects.bulk_create(
            Article(tenant_id=alice.tenant_id, chatbot_id=alice.chatbot_id, slug=f"a-{i}", title="A", body="B")
            for i in range(510)
        )
    assert len(opened(alice.caller()).material.context.passages) == 500
