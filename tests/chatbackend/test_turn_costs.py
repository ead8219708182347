"""The entries of a turn explain its whole cost, and what the cascade saved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from accounts.models import Hold, LedgerEntry
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_db
from cascade import conversations, exploration
from cascade.compute import Beside
from cascade.conversations import TurnResult
from cascade.models import LanguageModel, Price, Turn
from cascade.values import Price as PriceValue
from chatbackend import journal
from tests.cascade.test_saved_replies import save
from tests.cast import open_shop
from tests.chatbackend.test_chat import ask, books_balance, engine, models, on_record, said  # noqa: F401
from tests.chatbackend.test_lookup import Embedder
from tests.model_server import Reply

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice(models):  # noqa: F811
    """Her "large" costs ten times as much as her "small"."""
    shop = open_shop("alice", models.base_url)
    small = Price.objects.using("owner").get(model__name="small")
    Price.objects.using("owner").create(
        model=LanguageModel.objects.using("owner").get(name="large"),
        valid_from=small.valid_from + timedelta(days=1),
        input=small.input * 10,
        output=small.output * 10,
        source="tests",
    )
    return shop


async def charges(shop):
    return await on_record(shop, LedgerEntry, kind="charge")


async def test_a_cheap_answer_is_compared_with_the_dearest_model(models, alice):  # noqa: F811
    await ask(await in_db(alice.caller)(), engine=engine(models))
    [charge] = await charges(alice)
    billed = models.calls[0].billed
    assert charge.cost_micros == billed.input + 4 * billed.output
    assert charge.dearest_micros == 10 * charge.cost_micros
    assert charge.provider == "openai"


async def test_where_the_dearest_was_needed_nothing_was_saved(models, alice):  # noqa: F811
    models.script("small", Reply("Your desk lamp is poor."))
    await ask(await in_db(alice.caller)(), engine=engine(models, poor=0.1, excellent=0.8))
    draft, answer = await charges(alice)
    assert (draft.outcome, draft.dearest_micros) == ("rejected", 0)
    assert (answer.outcome, answer.dearest_micros) == ("accepted", answer.cost_micros)


async def test_a_turn_pays_by_tariff_and_its_drafts_are_on_the_books(models, alice):  # noqa: F811
    await in_db(set_tariff)(alice.tenant_id, reply=Money(20_000))
    models.script("small", Reply("Your desk lamp is poor."))
    await ask(await in_db(alice.caller)(), engine=engine(models, poor=0.1, excellent=0.8))
    draft, answer = await charges(alice)
    assert (draft.amount_micros, answer.amount_micros) == (0, -20_000)
    assert draft.cost_micros == -draft.result_micros > 0
    assert await books_balance(alice)


async def test_a_turn_is_refused_before_any_call_when_the_margin_cannot_be_paid(models):  # noqa: F811
    shop = await in_db(open_shop)("dear", models.base_url, funds="0.01")
    await in_db(set_tariff)(shop.tenant_id, margin=Decimal(1000))
    await ask(await in_db(shop.caller)(), engine=engine(models))
    assert models.calls == []
    assert await charges(shop) == []


# --- what is computed here ------------------------------------------------------------------------

QUESTION = "where is my order"


@pytest.fixture
def computing(alice):
    """An answer that is judged costs Alice 3 micro-dollars, an embedded question 2; what else there is to embed for is
    a saved reply."""
    for name, dollars in (("scorer", "0.000003"), ("embedding", "0.000002")):
        row = LanguageModel.objects.using("owner").create(name=name, provider="local", remote_name=name, enabled=False)
        since = datetime(2026, 1, 1, tzinfo=UTC)
        price = {"input": 0, "output": 0, "per_request": Decimal(dollars), "source": "tests"}
        Price.objects.using("owner").create(model=row, valid_from=since, **price)
    save(alice, "order", "Your {{ order.item }} is {{ order.status }}.", QUESTION)
    return alice


def reading(models, **scores):  # noqa: F811
    made = engine(models, **scores)
    made.embedder = Embedder()
    return made


async def test_what_is_judged_and_embedded_has_its_price_and_one_entry_a_turn(models, computing):  # noqa: F811
    models.script("small", Reply("Your desk lamp is poor."))
    await in_db(set_tariff)(computing.tenant_id, margin=Decimal(1))
    scores = {"poor": 0.1, "excellent": 0.8, "shipped": 0.2}
    await ask(await in_db(computing.caller)(), QUESTION, engine=reading(models, **scores))
    draft, answer, judged, embedded = await charges(computing)
    assert [(it.source, it.model, it.provider, it.number, it.cost_micros, it.outcome) for it in (judged, embedded)] == [
        ("scorer", "scorer", "local", 3, 9, ""),  # the saved reply, the draft, the answer
        ("embedding", "embedding", "local", 1, 2, ""),
    ]
    assert judged.amount_micros == -18
    assert judged.price_version
    assert [it.outcome for it in (draft, answer)] == ["rejected", "accepted"]
    [hold] = await on_record(computing, Hold)
    assert sum(-it.amount_micros for it in (draft, answer, judged, embedded)) == hold.spent_micros <= hold.amount_micros
    assert await books_balance(computing)


async def test_what_a_saved_reply_and_a_refused_turn_used_is_at_the_operators_expense(models, computing):  # noqa: F811
    frames = await ask(await in_db(computing.caller)(), QUESTION, engine=reading(models, shipped=0.9))
    assert said(frames) == "Your desk lamp is shipped."
    given = await charges(computing)
    assert [(it.source, it.cost_micros) for it in given] == [("cache", 0), ("scorer", 3), ("embedding", 2)]
    await in_db(set_tariff)(computing.tenant_id, margin=Decimal(9_000))
    await ask(await in_db(computing.caller)(), QUESTION, engine=reading(models, shipped=0.1))
    assert models.calls == []
    refused = (await charges(computing))[len(given) :]
    assert [(it.source, it.cost_micros) for it in refused] == [("scorer", 3), ("embedding", 2)]
    assert {(it.amount_micros, it.result_micros + it.cost_micros) for it in given + refused} == {(0, 0)}
    assert await books_balance(computing)


async def test_what_is_judged_while_exploring_is_charged_with_it(models, computing):  # noqa: F811
    await in_db(computing.change)(explored_share=0.5, explored_micros_a_day=100_000)
    await ask(await in_db(computing.caller)(), "Anything else?", engine=engine(models))
    judging = engine(models, excellent=0.8)
    assert await exploration.explore(computing.tenant_id, judging, draw=lambda: 0.0) == 1
    found = await on_record(computing, LedgerEntry, outcome="explored")
    assert [(it.source, it.cost_micros) for it in found if it.source != "model"] == [("scorer", 3)]
    assert await books_balance(computing)


async def test_a_turn_that_was_given_up_for_dead_has_what_it_used_on_the_books_once(models, computing):  # noqa: F811
    caller = await in_db(computing.caller)()
    turn = await in_db(conversations.open_turn)(caller, None, "m1", QUESTION, 1)
    assert await in_db(conversations.give_up)(computing.tenant_id) == 1
    assert await charges(computing) == []
    price = PriceValue(str(uuid4()), Decimal(0), Decimal(0), per_request=Decimal("0.000002"))
    used = Beside(judged=1, embedded=1, prices={"embedding": price})
    ids = (turn.tenant_id, turn.id, turn.conversation_id, turn.chatbot_id)
    result = TurnResult(*ids, state=Turn.State.REFUSED, problem="insufficient_funds", used=used)
    kept = journal.RESULT.validate_json(journal.RESULT.dump_json(result))
    assert kept == replace(result, frames=())
    for _ in range(2):
        await in_db(conversations.close_turn)(kept)
    [entry] = await charges(computing)
    assert (entry.source, entry.cost_micros, entry.amount_micros) == ("embedding", 2, 0)
    assert await books_balance(computing)
