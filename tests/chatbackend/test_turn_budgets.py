"""A budget is kept before any model is called, and the customer is told politely."""

from __future__ import annotations

import asyncio

import pytest

from accounts.models import Budget, BudgetSpending, Customer, Hold, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade.models import Turn
from tests.chatbackend.test_chat import (  # noqa: F401
    alice,
    ask,
    books_balance,
    engine,
    models,
    on_record,
    problems,
    said,
)
from tests.model_server import Reply

pytestmark = pytest.mark.usefixtures("database")


@in_db
def budget(shop, limit: int, **columns):
    with in_tenant(shop.tenant_id):
        columns = {"scope": "tenant", "period": "day", **columns}
        return Budget.objects.create(tenant_id=shop.tenant_id, limit_micros=limit, **columns)


async def test_a_hard_budget_refuses_before_any_call_with_a_polite_answer(models, alice):  # noqa: F811
    await budget(alice, 0, refusal="Our assistant rests until tomorrow.")
    frames = await ask(await in_db(alice.caller)(), engine=engine(models))
    assert models.calls == []
    assert said(frames) == "Our assistant rests until tomorrow."
    assert frames[-1].event == "message.created"
    assert problems(frames) == []
    [turn] = await on_record(alice, Turn)
    assert (turn.state, turn.problem) == ("refused", "budget_exceeded")
    assert await on_record(alice, LedgerEntry, kind="charge") == []
    assert await books_balance(alice)


async def test_past_a_soft_limit_a_person_comes_before_the_dear_model(models, alice):  # noqa: F811
    await budget(alice, 1, hard=False, cheapest_tiers=1)
    models.script("small", Reply("Your desk lamp is poor."))
    judge = engine(models, poor=0.1, excellent=0.8)
    caller = await in_db(alice.caller)()
    assert said(await ask(caller, engine=judge)) == "Your desk lamp is excellent."
    frames = await ask(caller, "And my other order?", engine=judge)
    assert frames[-1].event == "handoff.updated"
    assert [call.body["model"] for call in models.calls] == ["small", "large", "small"]


async def test_a_segments_budget_is_touched_by_its_customers_alone(models, alice):  # noqa: F811
    await budget(alice, 0, scope="segment", subject="trial")
    trial, paying = await in_db(alice.caller)("c1"), await in_db(alice.caller)("c2")
    await in_db(set_segment)(alice, trial.customer_id, "trial")
    await in_db(set_segment)(alice, paying.customer_id, "paying")
    assert "right now" in said(await ask(trial, engine=engine(models)))
    assert said(await ask(paying, engine=engine(models))) == "Your desk lamp is good."
    assert len(models.calls) == 1


def set_segment(shop, customer_id, segment):
    with in_tenant(shop.tenant_id):
        Customer.objects.filter(id=customer_id).update(attributes={"segment": segment})


async def test_turns_at_once_that_fit_wait_for_each_other_and_none_overruns(models, alice):  # noqa: F811
    judge = engine(models)
    callers = [await in_db(alice.caller)(f"c{number}") for number in range(6)]
    await ask(callers[0], engine=judge)
    [first] = await on_record(alice, LedgerEntry, kind="charge")
    most = await in_db(ceiling_of_first_turn)(alice)
    await budget(alice, most + 4 * first.cost_micros)  # room for one at its dearest beside what four others cost
    frames = await asyncio.gather(*(ask(caller, engine=judge) for caller in callers[1:]))
    assert [said(each) for each in frames] == ["Your desk lamp is good."] * 5
    [spending] = await on_record(alice, BudgetSpending)
    assert spending.held_micros == 0
    assert spending.spent_micros <= most + 4 * first.cost_micros
    assert await books_balance(alice)


def ceiling_of_first_turn(shop) -> int:
    with in_tenant(shop.tenant_id):
        return Hold.objects.get().amount_micros + 50  # another customer's name is as long, give or take
