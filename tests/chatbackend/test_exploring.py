"""Exploring: what was not needed is asked after the reply, unseen, within its bound, on a hold of its own."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone

from accounts import ledger
from accounts.models import Customer, Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade import exploration
from cascade.models import Exploration, Message, ModelCall, Turn
from chatbackend import exploring
from chatbackend.erasure import StillAnswering, erase
from chatbackend.live import conninfo
from tests.cast import make_model
from tests.chatbackend.test_chat import alice, ask, books_balance, engine, models, on_record, said  # noqa: F401
from tests.chatbackend.test_turn_budgets import budget
from tests.model_server import Fault, Reply

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop(alice):  # noqa: F811
    alice.change(explored_share=0.5, explored_micros_a_day=100_000)
    return alice


async def explore(shop, models, drawn: float = 0.0) -> int:  # noqa: F811
    return await exploration.explore(shop.tenant_id, engine(models, good=0.9, excellent=0.8), draw=lambda: drawn)


async def answered(shop, models, text="Where is my order?"):  # noqa: F811
    return await ask(await in_db(shop.caller)(), text, engine=engine(models))


async def test_what_the_dearer_model_would_have_said_is_recorded_scored_and_charged_but_never_shown(models, shop):  # noqa: F811
    frames = await answered(shop, models)
    assert said(frames) == "Your desk lamp is good."
    before = await on_record(shop, Message)
    assert await explore(shop, models) == 1
    [shown, explored] = sorted(await on_record(shop, ModelCall), key=lambda call: call.number)
    assert (shown.outcome, shown.number) == ("accepted", 1)
    assert (explored.outcome, explored.number, explored.tier, explored.model) == ("explored", 2, 1, "large")
    assert (explored.text, explored.score, explored.threshold) == ("Your desk lamp is excellent.", 0.8, 0.5)
    assert await on_record(shop, Message) == before
    [row] = await on_record(shop, Exploration)
    assert (row.state, row.chance, row.turn_id) == ("done", 0.5, shown.turn_id)
    [entry] = await on_record(shop, LedgerEntry, outcome="explored")
    assert (entry.call_id, entry.turn_id, -entry.amount_micros) == (explored.id, row.id, explored.cost_micros)
    assert await books_balance(shop)


async def test_the_models_are_asked_what_the_shown_one_was_asked(models, shop):  # noqa: F811
    await answered(shop, models)
    await explore(shop, models)
    live, explored = models.calls
    assert live.body["messages"] == explored.body["messages"]


async def test_a_turn_is_looked_at_once_and_its_chance_is_kept_when_it_was_not_drawn(models, shop):  # noqa: F811
    await answered(shop, models)
    assert await explore(shop, models, drawn=0.5) == 0
    assert await explore(shop, models, drawn=0.0) == 0
    [row] = await on_record(shop, Exploration)
    assert (row.state, row.chance) == ("passed", 0.5)
    assert len(models.calls) == 1


async def test_nothing_is_explored_unless_somebody_asked_for_it(models, alice):  # noqa: F811
    await answered(alice, models)
    assert await explore(alice, models) == 0
    assert await on_record(alice, Exploration) == []


async def test_the_days_bound_holds_to_the_micro_dollar(models, shop):  # noqa: F811
    await answered(shop, models)
    await explore(shop, models)
    [row] = await on_record(shop, Exploration)
    [hold] = await on_record(shop, Hold, turn_id=row.id)
    await in_db(shop.change)(explored_micros_a_day=hold.amount_micros + hold.spent_micros - 1)
    await answered(shop, models, "And again?")
    assert await explore(shop, models) == 0
    assert [row.chance for row in await on_record(shop, Exploration)] == [0.5, 0.0]


async def test_money_that_is_not_there_is_not_spent_and_no_customer_notices(models, shop):  # noqa: F811
    await answered(shop, models)
    await budget(shop, 0)
    assert await explore(shop, models) == 0
    [row] = await on_record(shop, Exploration)
    assert (row.state, row.chance) == ("passed", 0.0)
    assert await books_balance(shop)


def inside(shop, deed):
    with in_tenant(shop.tenant_id):
        return deed()


async def test_models_to_try_and_the_reference_are_asked_as_well_each_once(models, shop):  # noqa: F811
    await in_db(make_model)("new", models.base_url)
    await in_db(make_model)("unpriced", models.base_url, price=None)
    await in_db(shop.change)(explored_models=["new", "small", "unheard-of"], reference_model="new")
    models.script("new", Reply("Your desk lamp is good too."))
    await answered(shop, models)
    assert await explore(shop, models) == 1
    assert [call.model for call in models.calls] == ["small", "large", "new"]
    calls = await on_record(shop, ModelCall, outcome="explored")
    assert [(call.model, call.tier) for call in calls] == [("large", 1), ("new", 2)]


async def test_a_turn_that_asked_everything_is_looked_at_once(models, shop):  # noqa: F811
    models.script("small", Reply("Your desk lamp is poor."))
    await ask(await in_db(shop.caller)(), engine=engine(models, poor=0.1, excellent=0.8))
    assert await explore(shop, models) == 0
    [row] = await on_record(shop, Exploration)
    assert (row.state, row.chance) == ("passed", 0.0)


async def test_where_no_model_was_good_enough_the_models_to_try_are_asked(models, shop):  # noqa: F811
    await in_db(make_model)("new", models.base_url)
    await in_db(shop.change)(explored_models=["new"])
    for name in ("small", "large"):
        models.script(name, Reply("Your desk lamp is poor."))
    models.script("new", Reply("Your desk lamp is good."))
    frames = await ask(await in_db(shop.caller)(), engine=engine(models, poor=0.1))
    assert frames[-1].event == "handoff.updated"
    assert await explore(shop, models) == 1
    [call] = await on_record(shop, ModelCall, outcome="explored")
    assert (call.model, call.score) == ("new", 0.9)


async def test_a_model_that_fails_is_on_record_and_the_others_are_asked(models, shop):  # noqa: F811
    await in_db(make_model)("new", models.base_url)
    await in_db(shop.change)(explored_models=["new"])
    models.script("new", Reply("Your desk lamp is good."))
    models.script("large", Fault.status(400))
    await answered(shop, models)
    assert await explore(shop, models) == 1
    calls = await on_record(shop, ModelCall, outcome="explored")
    assert [(call.model, bool(call.error), call.score) for call in calls] == [
        ("large", True, None),
        ("new", False, 0.9),
    ]
    assert await books_balance(shop)


async def test_what_a_dead_process_left_half_asked_is_settled_once_at_an_estimate(models, shop):  # noqa: F811
    await answered(shop, models)
    await in_db(half_asked)(shop)
    assert (await on_record(shop, Hold, settled_at=None)) != []
    assert await explore(shop, models) == 0
    assert await on_record(shop, Hold, settled_at=None) == []
    [row] = await on_record(shop, Exploration)
    [call] = await on_record(shop, ModelCall, outcome="explored")
    assert (row.state, call.error, call.estimated) == ("broken_off", "process_died", True)
    [entry] = await on_record(shop, LedgerEntry, outcome="explored")
    assert entry.cost_micros == call.cost_micros > 0
    assert await explore(shop, models) == 0
    assert await books_balance(shop)


def half_asked(shop) -> None:
    """As a process leaves it that dies while the model writes."""
    with in_tenant(shop.tenant_id):
        [turn] = Turn.objects.all()
        row = Exploration.objects.create(tenant_id=shop.tenant_id, turn=turn, chance=0.5, state="asking")
        ledger.hold(shop.tenant_id, row.id, ledger.Money(5_000))
        price_id = turn.calls.get().price_id
        ModelCall.objects.create(
            tenant_id=shop.tenant_id, turn=turn, number=2, tier=1, model="large", threshold=0.5, outcome="explored",
            prompt_tokens=100, max_output_tokens=100, written_characters=40, price_id=price_id,
        )  # fmt: skip


async def test_a_customer_is_not_erased_while_their_turn_is_explored(models, shop):  # noqa: F811
    await answered(shop, models)
    await in_db(half_asked)(shop)
    [customer] = await on_record(shop, Customer)
    with pytest.raises(StillAnswering):
        await in_db(erase)(shop.tenant_id, customer.id, 0.2)
    await explore(shop, models)
    assert await in_db(erase)(shop.tenant_id, customer.id)
    [entry] = await on_record(shop, LedgerEntry, outcome="explored")
    assert entry.cost_micros > 0
    assert await on_record(shop, Hold, settled_at=None) == []
    assert await books_balance(shop)


async def test_one_process_explores_at_a_time(models, shop):  # noqa: F811
    await answered(shop, models)
    async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as another:
        await another.execute(exploring.ONE_AT_A_TIME)
        assert await exploring.explore(engine(models)) == 0
        assert await on_record(shop, Exploration) == []
    await exploring.explore(engine(models))
    assert len(await on_record(shop, Exploration)) == 1


async def test_what_was_answered_long_ago_or_judged_by_other_weights_is_left_alone(models, shop):  # noqa: F811
    await answered(shop, models)
    await in_db(inside)(shop, lambda: ModelCall.objects.update(scorer_version="older"))
    assert await explore(shop, models) == 0
    await in_db(inside)(shop, lambda: ModelCall.objects.update(scorer_version="scripted"))
    long_ago = timezone.now() - exploration.WITHIN - timedelta(minutes=1)
    await in_db(inside)(shop, lambda: Turn.objects.update(created_at=long_ago))
    assert await explore(shop, models) == 0
    assert await on_record(shop, Exploration) == []


async def test_turns_that_other_weights_judged_do_not_keep_later_ones_waiting(models, shop, monkeypatch):  # noqa: F811
    monkeypatch.setattr(exploration, "MOST_AT_ONCE", 1)
    await answered(shop, models)
    await in_db(inside)(shop, lambda: ModelCall.objects.update(scorer_version="older"))
    await answered(shop, models, "And what did it cost?")
    assert await explore(shop, models) == 1
