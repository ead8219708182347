"""The whole way on a shop's own turns: asked, explored, searched, replayed, promoted; the next question is cheaper."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.urls import reverse

from accounts import ledger
from accounts.tenancy import in_db, in_tenant
from cascade import exploration
from cascade.models import Exploration, ModelCall, Proposal
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from tests.cast import ScriptedScorer, make_model, open_shop
from tests.chatbackend.test_admin import logged_in
from tests.chatbackend.test_chat import ask
from tests.chatbackend.test_tasks import work
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
# What the small model says to each kind of question, and what it is worth to the scorer; the large one is always fine.
KINDS = {"certain": 0.98, "easy": 0.96, "hard": 0.1}
TOO_STRICT = 0.97  # the live threshold: easy questions are asked of the large model too
ASKED = ["easy"] * 31 + ["hard"] * 12 + ["certain"] * 7


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(lambda body: f"It is {body['messages'][-1]['content'].split()[2]}."))
        server.script("large", Reply("It is fine, says the large model, at length and with care."))
        yield server


def engine(models) -> Engine:
    """A new one for each event loop: connections belong to theirs."""
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer(KINDS | {"fine": 0.95}))


def test_a_shop_learns_from_its_own_turns_and_the_next_easy_question_costs_less(models):
    make_model("large", models.base_url, price="20")
    shop = open_shop("alice", models.base_url, floor=0.3, thresholds=(TOO_STRICT, 0.3))
    shop.change(explored_share=1.0, explored_micros_a_day=1_000_000)
    async_to_sync(converse)(shop, engine(models))
    lead = logged_in((shop, "admin"))

    lead.post(reverse("admin:cascade_proposal_begin"), {"chatbot": str(shop.chatbot_id), "aim": "cheaper"})
    assert work() == {"optimise_cascade": "succeeded"}
    with in_tenant(shop.tenant_id):
        assert Exploration.objects.filter(state="done").count() == ASKED.count("certain")
        found = Proposal.objects.select_related("strategy").get()
    assert found.state == "proposed", found.refusal
    assert [tier["model"] for tier in found.strategy.tiers] == ["small", "large"]
    assert 0.1 < found.strategy.tiers[0]["threshold"] <= 0.96
    assert found.report["saved"]["low"] > 0

    assert "Expected quality against cost" in lead.get(reverse("admin:cascade_cascadestrategy_add")).content.decode()
    page = reverse("admin:cascade_strategy_replay") + f"?strategy={found.strategy_id}"
    assert "Who would have answered" in lead.get(page).content.decode()
    lead.post(reverse("admin:cascade_strategy_promote", args=[found.strategy_id]))
    asked = len(models.calls)
    async_to_sync(ask_one)(shop, engine(models), "easy")
    assert [call.model for call in models.calls[asked:]] == ["small"]
    assert ledger.check(shop.tenant_id) == []


async def converse(shop, engine) -> None:
    for kind in ASKED:
        await ask_one(shop, engine, kind)
    assert await exploration.explore(shop.tenant_id, engine) == ASKED.count("certain")
    calls = await in_db(outcomes)(shop)
    assert (calls.count("explored"), calls.count("accepted")) == (ASKED.count("certain"), len(ASKED))


async def ask_one(shop, engine, kind: str) -> None:
    await ask(await in_db(shop.caller)(), f"Is this {kind} ?", engine=engine)


def outcomes(shop) -> list[str]:
    with in_tenant(shop.tenant_id):
        return list(ModelCall.objects.values_list("outcome", flat=True))
