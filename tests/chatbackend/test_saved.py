"""A saved reply answers without a model and without money, and only where the scorer accepts it for this customer."""

from __future__ import annotations

import pytest

from accounts.models import Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade.models import ModelCall, SavedReply, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from tests.cascade.test_saved_replies import save
from tests.cast import ORDER, ScriptedScorer, open_shop
from tests.chatbackend.test_chat import ask, books_balance, said
from tests.chatbackend.test_lookup import Embedder
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
QUESTION = "where is my order"


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("*", Reply("A model says: good."))
        yield server


@pytest.fixture
def alice(models):
    shop = open_shop("alice", models.base_url)
    save(shop, "order", "Your {{ order.item }} is {{ order.status }}.", QUESTION)
    return shop


def engine(models, *, saved: float | None = 0.9) -> Engine:
    scores = {"A model": 0.9} | ({} if saved is None else {"desk lamp is": saved})
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer(scores), embedder=Embedder())


@in_db
def on_record(shop, model):
    with in_tenant(shop.tenant_id):
        return list(model.objects.all())


async def test_it_is_shown_without_a_model_call_costs_the_tenant_nothing_and_is_counted(models, alice):
    frames = await ask(await in_db(alice.caller)(), QUESTION, engine=engine(models))
    assert said(frames) == "Your desk lamp is shipped."
    assert models.calls == []
    assert not await on_record(alice, ModelCall)
    assert [(hold.amount_micros, hold.spent_micros) for hold in await on_record(alice, Hold)] == [(0, 0)]
    _, entry = await on_record(alice, LedgerEntry)
    assert (entry.source, entry.model, entry.outcome) == ("cache", "saved reply", "accepted")
    assert entry.amount_micros == entry.cost_micros == 0 < entry.dearest_micros
    assert await books_balance(alice)
    [turn] = await on_record(alice, Turn)
    assert (turn.state, turn.context_report["saved_reply"]) == ("answered", "order (score 0.900)")
    assert [reply.given for reply in await on_record(alice, SavedReply)] == [1]


async def test_each_customer_reads_their_own_record(models, alice):
    for external_id, status in (("c1", "shipped"), ("c2", "packed")):
        caller = await in_db(alice.caller)(external_id, ORDER | {"status": status})
        assert said(await ask(caller, QUESTION, engine=engine(models))) == f"Your desk lamp is {status}."


@pytest.mark.parametrize("score", [0.3, None])
async def test_what_the_scorer_does_not_accept_for_this_customer_is_not_shown(models, alice, score):
    frames = await ask(await in_db(alice.caller)(), QUESTION, engine=engine(models, saved=score))
    assert said(frames) == "A model says: good."
    assert [reply.given for reply in await on_record(alice, SavedReply)] == [0]


class Broken(ScriptedScorer):
    async def score(self, context, answer, *, deadline_seconds=2.0):
        if "desk lamp is" in answer:
            raise RuntimeError("the scorer is gone")
        return await super().score(context, answer, deadline_seconds=deadline_seconds)


async def test_a_scorer_that_fails_accepts_no_saved_reply_and_the_turn_goes_on(models, alice):
    broken = engine(models)
    broken.scorer = Broken({"A model": 0.9})
    assert said(await ask(await in_db(alice.caller)(), QUESTION, engine=broken)) == "A model says: good."


async def test_without_a_value_or_a_vector_the_models_are_asked(models, alice):
    caller = await in_db(alice.caller)("c3", ORDER | {"status": ""})
    assert said(await ask(caller, QUESTION, engine=engine(models))) == "A model says: good."
    late = engine(models)
    late.embedder = Embedder(late=True)
    assert said(await ask(await in_db(alice.caller)(), QUESTION, engine=late)) == "A model says: good."
