"""Remembered answers in a conversation: given again to whom they fit, judged like all others."""

from __future__ import annotations

import asyncio
import os

import psycopg
import pytest
from django.conf import settings
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.models import LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade import knowledge
from cascade.embedder import MODEL
from cascade.embedder.serving import Embedder
from cascade.local_models import path_of
from cascade.memory import recall
from cascade.memory.judge import load
from cascade.memory.recall import Memory
from cascade.models import Article, Chatbot, MemoryUse, ModelCall, RememberedAnswer
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat, lookup, remembering
from chatbackend.protocol import Send
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.test_chat import ask, books_balance, on_record, said
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")

POLICY = "What is your return policy?"
OWN = "Where is my order?"
FREE = "Returns are free for 30 days."
PATIENT = 60.0  # seconds for a vector: on a busy machine


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def memory(runner):
    embedder = Embedder(path_of(MODEL, settings.MODELS_ROOT))
    runner.run(embedder.start())
    yield Memory(embedder, load())
    runner.run(embedder.close())


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr(recall, "EMBED_SECONDS", PATIENT)
    monkeypatch.setattr(lookup, "VECTOR_SECONDS", PATIENT)


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(FREE))
        yield server


@pytest.fixture
def alice(models):
    shop = open_shop("alice", models.base_url)
    shop.change(check_share=0.0)
    return shop


def engine(models, memory, **scores: float) -> Engine:
    judge = ScriptedScorer(scores or {"free": 0.9, "lamp": 0.9})
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, judge, memory=memory, embedder=memory.embedder)


def test_the_second_return_policy_comes_from_memory_and_costs_nothing(runner, models, alice, memory):
    async def twice():
        with_memory = engine(models, memory)
        first = await ask(await in_db(alice.caller)(), POLICY, engine=with_memory)
        second = await ask(await in_db(alice.caller)("c2"), POLICY, engine=with_memory)
        return said(first), said(second), await on_record(alice, ModelCall), await on_record(alice, MemoryUse)

    first, second, calls, uses = runner.run(twice())
    assert first == second == FREE
    assert len(models.calls) == 1
    assert [(call.model, call.tier, call.outcome, call.score) for call in calls] == [
        ("small", 0, "accepted", 0.9),
        ("memory", -1, "accepted", 0.9),
    ]
    assert calls[1].cost_micros == calls[1].input_tokens == 0
    assert [use.outcome for use in uses] == ["served"]
    assert uses[0].saved_micros == calls[0].cost_micros
    entries = runner.run(on_record(alice, LedgerEntry, kind="charge"))
    assert [(entry.source, entry.tier, entry.amount_micros < 0) for entry in entries] == [
        ("model", 0, True),
        ("cache", None, False),
    ]
    assert entries[1].dearest_micros > 0  # the statement tells what memory saved
    assert runner.run(books_balance(alice))


def test_the_reply_does_not_wait_until_it_is_remembered(runner, models, alice, memory):
    async def told():
        send = Send(str(uuid7()), None, POLICY)
        caller = await in_db(alice.caller)()
        return [frame async for frame in chat.answer(caller, send, engine=engine(models, memory))]

    with psycopg.connect(os.environ["DATABASE_OWNER_URL"]) as owner:
        owner.execute("LOCK TABLE cascade_rememberedanswer IN EXCLUSIVE MODE")  # nothing can be remembered
        assert said(runner.run(told())) == FREE
        assert runner.run(on_record(alice, RememberedAnswer)) == []
        owner.rollback()
    runner.run(chat.kept())
    assert [each.answer for each in runner.run(on_record(alice, RememberedAnswer))] == [FREE]


def test_another_customers_where_is_my_order_never_comes_from_memory(runner, models, alice, memory):
    models.script("small", *(Reply(f"Your desk lamp A-c{n} is shipped.") for n in (1, 2)))

    async def twice():
        with_memory = engine(models, memory)
        await ask(await in_db(alice.caller)(), OWN, engine=with_memory)
        return said(await ask(await in_db(alice.caller)("c2"), OWN, engine=with_memory))

    assert runner.run(twice()) == "Your desk lamp A-c2 is shipped."
    assert len(models.calls) == 2
    kept = runner.run(on_record(alice, RememberedAnswer))
    assert all(each.customer_id for each in kept)


def test_a_general_question_whose_answer_names_the_customers_record_is_theirs_alone(runner, models, alice, memory):
    models.script("small", Reply("Returns are free for 30 days, so A-c1 can go back."))
    runner.run(ask_once(alice, engine(models, memory), POLICY))
    [kept] = runner.run(on_record(alice, RememberedAnswer))
    assert kept.customer_id is not None


def test_a_remembered_answer_that_does_not_fit_this_customer_is_not_shown(runner, models, alice, memory):
    async def twice():
        await ask(await in_db(alice.caller)(), POLICY, engine=engine(models, memory))
        models.script("small", Reply("Gold members return whenever they like."))
        stern = engine(models, memory, free=0.2, Gold=0.9)
        return said(await ask(await in_db(alice.caller)("c2"), POLICY, engine=stern))

    assert runner.run(twice()) == "Gold members return whenever they like."
    assert [use.outcome for use in runner.run(on_record(alice, MemoryUse))] == ["refused"]


def test_now_and_then_memory_is_checked_and_a_wrong_answer_forgotten(runner, models, alice, memory):
    alice.change(check_share=1.0)

    async def thrice():
        with_memory = engine(models, memory)
        for customer, reply in (("c1", FREE), ("c2", FREE), ("c3", "Returns are free for 14 days.")):
            models.script("small", Reply(reply))
            await ask(await in_db(alice.caller)(customer), POLICY, engine=with_memory)

    runner.run(thrice())
    assert len(models.calls) == 3
    assert [use.outcome for use in runner.run(on_record(alice, MemoryUse))] == ["right", "wrong"]
    kept = runner.run(on_record(alice, RememberedAnswer))
    assert [each.answer for each in kept] == ["Returns are free for 14 days."]


def test_a_changed_article_is_answered_afresh(runner, models, alice, memory):
    async def twice():
        with_memory = engine(models, memory)
        await ask(await in_db(alice.caller)(), POLICY, engine=with_memory)
        await in_db(change_article)(alice)
        models.script("small", Reply("Returns are no longer free."))
        return said(await ask(await in_db(alice.caller)("c2"), POLICY, engine=with_memory))

    assert runner.run(twice()) == "Returns are no longer free."


@pytest.mark.parametrize("setting", [{"wrong_hits": 0.0}, {"floor": 0.0}])
def test_a_chatbot_that_tolerates_no_wrong_hit_or_judges_nothing_remembers_nothing(
    runner, models, alice, memory, setting
):
    alice.change(**setting)
    runner.run(ask_once(alice, engine(models, memory), POLICY))
    assert runner.run(on_record(alice, RememberedAnswer)) == []


class Deaf:
    async def read(self, text: str, *, deadline_seconds: float) -> None:
        return None


class Broken:
    async def read(self, text: str, *, deadline_seconds: float) -> None:
        raise RuntimeError("the embedder is gone")


@pytest.mark.parametrize("embedder", [Deaf(), Broken()])
def test_without_an_embedder_turns_go_on_without_memory(runner, models, alice, memory, embedder):
    without = Memory(embedder, memory.judge)
    assert runner.run(ask_once(alice, engine(models, without), POLICY)) == FREE
    assert runner.run(on_record(alice, RememberedAnswer)) == []
    assert remembering.MEMORY not in [call.model for call in runner.run(on_record(alice, ModelCall))]


async def ask_once(shop, engine, text: str) -> str:
    return said(await ask(await in_db(shop.caller)(), text, engine=engine))


def change_article(shop) -> None:
    with in_tenant(shop.tenant_id):
        Article.objects.update(body="Returns cost $5.")
        assert Chatbot.objects.count() == 1
    assert ledger.check(shop.tenant_id) == []


def test_a_question_is_read_once_for_memory_and_for_the_search(runner, models, alice, memory):
    class Counting:
        asked = list[str]()

        async def read(self, text, *, deadline_seconds):
            self.asked.append(text)
            return await memory.embedder.read(text, deadline_seconds=deadline_seconds)

    counting = Counting()
    runner.run(knowledge.index(alice.tenant_id, alice.chatbot_id, memory.embedder.embed_many))
    runner.run(ask_once(alice, engine(models, Memory(counting, memory.judge)), POLICY))
    assert counting.asked == [POLICY, FREE]  # the answer is read to be kept
