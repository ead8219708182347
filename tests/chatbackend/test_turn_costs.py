"""The entries of a turn explain its whole cost, and what the cascade saved."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.models import LedgerEntry
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_db
from cascade.models import LanguageModel, Price
from tests.cast import open_shop
from tests.chatbackend.test_chat import ask, books_balance, engine, models, on_record  # noqa: F401
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
