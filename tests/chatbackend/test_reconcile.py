"""A provider's report and the books are compared to the last token and the last micro-dollar."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts import ledger, provider_usage
from accounts.money import Money
from accounts.provider_usage import Unreadable, Used
from tests.accounts.books import charge, held_turn
from tests.cast import open_shop

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def openai(*results: dict) -> str:
    bucket = {"object": "bucket", "start_time": int(TODAY.timestamp()), "end_time": 0, "results": list(results)}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None})


def tokens(model: str, entering: int, leaving: int) -> dict:
    return {"model": model, "input_tokens": entering, "output_tokens": leaving, "input_cached_tokens": 1}


def anthropic(*results: dict) -> str:
    bucket = {"starting_at": f"{TODAY:%Y-%m-%dT%H:%M:%SZ}", "ending_at": "", "results": list(results)}
    return json.dumps({"data": [bucket], "has_more": False, "next_page": None})


# --- reading ------------------------------------------------------------------------------------


def test_tokens_of_openai_are_summed_by_model_whatever_its_snapshot():
    report = openai(tokens("gpt-x-2026-01-31", 100, 10), tokens("gpt-x", 7, 1), tokens("gpt-y", 5, 5))
    assert provider_usage.read(report) == {
        (TODAY.date(), "gpt-x"): Used(107, 11),
        (TODAY.date(), "gpt-y"): Used(5, 5),
    }


def test_tokens_of_anthropic_include_those_read_from_and_written_to_its_cache():
    result = {
        "model": "claude-z-20260131",
        "uncached_input_tokens": 100,
        "cache_creation": {"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 3},
        "cache_read_input_tokens": 1000,
        "output_tokens": 9,
    }
    assert provider_usage.read(anthropic(result)) == {(TODAY.date(), "claude-z"): Used(1123, 9)}


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6))
def test_costs_of_anthropic_are_cents_and_rounded_once(parts):
    results = [{"model": "claude-z", "currency": "USD", "amount": f"{part}e-6"} for part in parts]
    [used] = provider_usage.read(anthropic(*results)).values()
    assert used == Used(cost=Money((sum(parts) + 50) // 100))


@pytest.mark.parametrize(
    ("report", "complaint"),
    [
        ("not json", "Expecting value"),
        ("[]", "pages are missing"),
        (json.dumps({"data": [], "has_more": True}), "pages are missing"),
        (openai(tokens("", 1, 1)), "not grouped by model"),
        (anthropic({"model": "m", "currency": "EUR", "amount": "1"}), "neither tokens nor costs"),
        (json.dumps({"error": "no such key"}), "has_more"),
    ],
)
def test_what_is_no_complete_report_is_refused(report, complaint):
    with pytest.raises(Unreadable, match=complaint):
        provider_usage.read(report)


# --- comparing ----------------------------------------------------------------------------------


@pytest.fixture
def books(database):
    """Two tenants; together 240 tokens in and 60 out of "small", for 70 micro-dollars."""
    shops = [open_shop(slug, "http://127.0.0.1:1") for slug in ("alice", "charlie")]
    calls = [uuid7(), uuid7()]
    for shop, call_id, cost in zip(shops, calls, (30, 40), strict=True):
        used = charge(cost, call_id=call_id, provider="openai", model="small")
        ledger.settle(shop.tenant_id, held_turn(shop.tenant_id, 100), [used])
    return shops, calls


def reconciled(tmp_path, report: str) -> str:
    file, told = tmp_path / "report.json", StringIO()
    file.write_text(report)
    try:
        call_command("reconcile", "openai", file, stdout=told)
    except CommandError as error:
        told.write(str(error))
    return told.getvalue()


def test_a_report_that_agrees_with_all_tenants_books_says_so(books, tmp_path):
    assert "1 days and models agree" in reconciled(tmp_path, openai(tokens("small-2026-01-01", 240, 60)))


def test_every_difference_is_shown_by_day_and_model(books, tmp_path):
    told = reconciled(tmp_path, openai(tokens("small", 241, 60), tokens("other", 5, 0)))
    assert f"{TODAY:%Y-%m-%d} small: input tokens: reported 241, booked 240" in told
    assert f"{TODAY:%Y-%m-%d} other: input tokens: reported 5, booked 0" in told
    assert "2 differences" in told
    assert "small: input tokens: reported 0, booked 240" in reconciled(tmp_path, openai(tokens("other", 0, 0)))


def test_a_cost_is_compared_with_its_corrections(books, tmp_path):
    (alice, _), (call_id, _) = books
    cost = {"model": "small", "currency": "USD", "amount": "0.0068"}
    assert "dollars: reported 0.000068, booked 0.000070" in reconciled(tmp_path, anthropic(cost))
    ledger.adjust(alice.tenant_id, call_id, Money(28), "provider's cost report")
    assert "agree" in reconciled(tmp_path, anthropic(cost))


def test_tokens_without_cost_raise_an_alert(books, tmp_path):
    (alice, _), _ = books
    free = charge(0, provider="openai", model="large")
    ledger.settle(alice.tenant_id, held_turn(alice.tenant_id, 100), [free])
    told = reconciled(tmp_path, openai(tokens("small", 240, 60), tokens("large", 120, 30)))
    assert "large: tokens without cost, or cost without tokens" in told


def test_a_report_that_cannot_be_read_is_named(books, tmp_path):
    assert "report.json cannot be read" in reconciled(tmp_path, "{}")
