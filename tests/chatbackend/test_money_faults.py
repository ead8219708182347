"""Whatever goes wrong, the books are right: every fault has a test, and every loss that a public gateway is known for."""

# ruff: noqa: E501  (the tables of faults)

from __future__ import annotations

import asyncio
import importlib
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import Hold, LedgerEntry
from accounts.tariffs import set_tariff
from accounts.tenancy import in_db
from cascade.models import LanguageModel, Price
from tests.chatbackend.test_chat import alice, ask, books_balance, engine, models, on_record, said  # noqa: F401
from tests.model_server import Reply
from tests.model_wires import Tokens

ANSWER = "Your desk lamp is good."

FAULTS = {
    "the server is killed 50 times in 200 turns": "chatbackend.test_killed:test_after_50_kills_in_200_turns_the_books_are_the_providers_to_the_micro_dollar",
    "the database goes away in mid-turn": "chatbackend.test_lost_database:test_lost_in_mid_reply_it_is_shown_all_the_same_and_charged_once_when_it_is_back",
    "no usage, or usage that cannot be": "chatbackend.test_money_faults:test_usage_that_cannot_be_is_charged_at_an_estimate_marked_so",
    "usage after the finish reason": "cascade.test_providers:test_the_usage_after_the_finish_reason_is_waited_for",
    "the price changes in mid-turn": "chatbackend.test_money_faults:test_a_price_that_changes_in_mid_turn_is_not_the_turns",
    "the tariff changes in mid-turn": "accounts.test_tariffs:test_a_turn_is_charged_by_the_tariff_of_its_beginning",
    "the day or month of a budget ends in mid-turn": "accounts.test_budgets:test_a_turn_is_counted_in_the_period_in_which_it_began",
    "the month ends in mid-turn": "accounts.test_statements:test_a_turn_that_runs_past_the_end_is_charged_to_the_month_in_which_it_began",
    "a clock is an hour off": "chatbackend.test_money_faults:test_a_clock_that_is_an_hour_off_changes_nothing_on_the_books",
    "a customer is erased": "chatbackend.test_erasure:test_nothing_in_any_table_says_a_word_of_an_erased_customer_and_the_books_balance",
    "a customer is erased in mid-turn": "chatbackend.test_erasure:test_a_reply_on_its_way_is_stopped_charged_and_forgotten",
    "two exports at once during writes": "accounts.test_exports:test_two_exports_at_once_during_writes_each_balance",
}

# Numbers of issues of BerriAI/litellm, and one of openai-agents-python, in which money was lost.
INCIDENTS = {
    "#34732, #40095: requests at once overrun a budget": "accounts.test_budgets:test_200_parallel_turns_overrun_nothing_and_refuse_nobody_who_fits",
    "#34238: a stale counter lets a budget be overrun": "accounts.test_budgets:test_a_turn_is_refused_exactly_when_a_budget_has_no_room",
    "#36926: a budget refuses though there is room": "accounts.test_budgets:test_200_parallel_turns_that_cost_less_than_they_might_are_all_served",
    "#33736, #37558: an aborted stream costs nothing": "chatbackend.test_chat:test_a_stopped_turn_ends_the_call_and_is_charged_for_what_was_written",
    "#36008, #39893: an aborted stream costs too little, or one token": "cascade.test_runner:test_cancelling_stops_the_call_and_charges_what_had_come",
    "#38157, #34805: rows are lost when the process ends": "chatbackend.test_processes:test_a_process_that_is_asked_to_end_finishes_its_turns_first",
    "#33872: a buffer is emptied before its rows are committed": "chatbackend.test_chat:test_a_database_lost_in_mid_turn_costs_neither_the_reply_nor_the_charge",
    "#23019: a Redis that is set up wrongly drops rows": "accounts.test_limits:test_a_redis_that_fails_refuses_nobody_and_is_logged_once",
    "agents#1973: usage of an interrupted stream is not there": "cascade.test_runner:test_a_draft_that_breaks_is_charged_marked_and_not_asked_for_again",
}


@pytest.mark.parametrize("place", [*FAULTS.values(), *INCIDENTS.values()], ids=[*FAULTS, *INCIDENTS])
def test_there_is_a_test_for_it(place):
    module, _, name = place.partition(":")
    assert callable(getattr(importlib.import_module(f"tests.{module}"), name))


async def charges(shop):
    return await on_record(shop, LedgerEntry, kind="charge")


async def test_a_price_that_changes_in_mid_turn_is_not_the_turns(database, models, alice):  # noqa: F811
    changed = threading.Event()
    models.script("small", Reply(lambda _: ANSWER if changed.wait(30) else ""))

    def change() -> None:
        models.wait_until(lambda: models.calls, 30)
        small = LanguageModel.objects.using("owner").get(name="small")
        Price.objects.using("owner").create(
            model=small, valid_from=timezone.now(), input=Decimal(500), output=Decimal(500), source="tests"
        )
        changed.set()

    changing = in_db(change)()
    caller = await in_db(alice.caller)()
    frames, _ = await asyncio.gather(ask(caller, engine=engine(models)), changing)
    assert said(frames) == ANSWER
    await ask(caller, engine=engine(models))
    first, second = await charges(alice)
    billed = models.calls[0].billed
    assert first.cost_micros == first.dearest_micros == billed.input + 4 * billed.output
    assert second.cost_micros == 500 * (second.input_tokens + second.output_tokens)
    assert first.price_version != second.price_version
    assert await books_balance(alice)


@pytest.mark.parametrize("usage", [None, Tokens(-5, 3), Tokens(40, -1), Tokens(10**9, 3), Tokens(0, 5)])
async def test_usage_that_cannot_be_is_charged_at_an_estimate_marked_so(database, models, alice, usage):  # noqa: F811
    models.script("small", Reply(ANSWER, usage=usage))
    assert said(await ask(await in_db(alice.caller)(), engine=engine(models))) == ANSWER
    [charge] = await charges(alice)
    [hold] = await on_record(alice, Hold)
    assert charge.estimated
    assert 0 < charge.cost_micros <= hold.amount_micros
    assert charge.input_tokens > 0 < charge.output_tokens
    assert await books_balance(alice)


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_clock_that_is_an_hour_off_changes_nothing_on_the_books(
    database,
    models,  # noqa: F811
    alice,  # noqa: F811
    monkeypatch,
    off,
):
    real = timezone.now
    soon = real() + timedelta(minutes=30)
    await in_db(set_tariff)(alice.tenant_id, margin=Decimal(9), valid_from=soon)
    dearer = {"input": "900", "output": "900", "valid_from": f"{soon:%Y-%m-%dT%H:%M%z}"}
    await in_db(call_command)("set_price", "alice", "small", **dearer)
    monkeypatch.setattr(timezone, "now", lambda: real() + off)
    assert said(await ask(await in_db(alice.caller)(), engine=engine(models))) == ANSWER
    [charge] = await charges(alice)
    assert abs(charge.created_at - real()) < timedelta(minutes=20)  # the database's time
    assert charge.amount_micros == -charge.cost_micros  # the tariff of half an hour later is not in force yet
    assert charge.cost_micros < 900 * charge.input_tokens  # nor is the price
    assert await books_balance(alice)
