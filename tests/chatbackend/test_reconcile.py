"""A provider's report and the books are compared to the last token and the last micro-dollar."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts import ledger, provider_usage
from accounts.models import LedgerEntry
from accounts.money import Money
from accounts.provider_usage import Unreadable, Used
from accounts.tenancy import in_tenant
from cascade.models import Price
from tests.accounts.books import charge, held_turn, tamper
from tests.cast import open_shop

TWICE = uuid7()


def today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def openai(*results: dict) -> str:
    bucket = {"object": "bucket", "start_time": int(today().timestamp()), "end_time": 0, "results": list(results)}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None})


def tokens(model: str, entering: int, leaving: int) -> dict:
    return {"model": model, "input_tokens": entering, "output_tokens": leaving, "input_cached_tokens": 1}


def anthropic(*results: dict) -> str:
    bucket = {"starting_at": f"{today():%Y-%m-%dT%H:%M:%SZ}", "ending_at": "", "results": list(results)}
    return json.dumps({"data": [bucket], "has_more": False, "next_page": None})


# --- reading ------------------------------------------------------------------------------------


def test_tokens_of_openai_are_summed_by_model_whatever_its_snapshot():
    report = openai(tokens("gpt-x-2026-01-31", 100, 10), tokens("gpt-x", 7, 1), tokens("gpt-y", 5, 5))
    assert provider_usage.read(report) == {
        (today().date(), "gpt-x"): Used(107, 11),
        (today().date(), "gpt-y"): Used(5, 5),
    }


def test_tokens_of_anthropic_include_those_read_from_and_written_to_its_cache():
    result = {
        "model": "claude-z-20260131",
        "uncached_input_tokens": 100,
        "cache_creation": {"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 3},
        "cache_read_input_tokens": 1000,
        "output_tokens": 9,
    }
    assert provider_usage.read(anthropic(result)) == {(today().date(), "claude-z"): Used(1123, 9)}


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6))
def test_costs_of_anthropic_are_cents_and_rounded_once(parts):
    results = [{"model": "claude-z", "currency": "USD", "amount": f"{part}e-6"} for part in parts]
    [used] = provider_usage.read(anthropic(*results)).values()
    assert used == Used(cost=Money((sum(parts) + 50) // 100))


def test_costs_of_openai_are_of_lines_of_models():
    results = [
        {"amount": {"value": value, "currency": "usd"}, "line_item": item}
        for value, item in ((0.06, "gpt-x-2026-01-31, input"), (0.01, "gpt-x, output"), (0.5, "gpt-y"))
    ]
    assert provider_usage.read(openai(*results)) == {
        (today().date(), "gpt-x"): Used(cost=Money(70_000)),
        (today().date(), "gpt-y"): Used(cost=Money(500_000)),
    }


DAY = 1_790_553_600  # 28 September 2026
TABLES = {
    "OpenAI, tokens": f"""start_time,end_time,model,num_model_requests,input_tokens,output_tokens,input_cached_tokens
{DAY},{DAY + 86400},gpt-x-2026-01-31,2,100,10,50
{DAY + 3600},{DAY + 7200},gpt-x,1,7,1,0
""",
    "OpenAI, costs": f"""start_time,end_time,amount_value,amount_currency,line_item
{DAY - 86400},{DAY},,,
{DAY},{DAY + 86400},0.000100,usd,"gpt-x, input"
{DAY},{DAY + 86400},0.000023,usd,"gpt-x-2026-01-31, output"
""",
    "Anthropic, tokens": """usage_date_utc,model_version,context_window,usage_input_tokens_no_cache,\
usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens
2026-09-28,gpt-x-20260131,≤ 200k,50,20,30,0,10
2026-09-28 05:00,gpt-x,≤ 200k,0,,0,7,1
""",
    "Anthropic, costs": """usage_date_utc,model,token_type,cost_usd,cost_type
2026-09-28,GPT X,input_no_cache,0.0001,token
2026-09-28,GPT X,output,0.000023,token
""",
}


@pytest.mark.parametrize("what", TABLES)
def test_what_both_let_one_export_as_a_table_is_read(what):
    used = Used(cost=Money(123)) if "costs" in what else Used(107, 11)
    assert provider_usage.read(TABLES[what], ".csv") == {(datetime.fromtimestamp(DAY, UTC).date(), "gpt-x"): used}


def test_a_table_of_something_else_is_refused():
    for table in ("a,b\n1,2\n", f"start_time,model\n{DAY},gpt-x\n", f"start_time,input_tokens,model\n{DAY},2,\n"):
        with pytest.raises(Unreadable):
            provider_usage.read(table, ".csv")


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


def reconciled(tmp_path, report: str, *options: str, name: str = "report.json") -> str:
    file, told = tmp_path / name, StringIO()
    file.write_text(report)
    try:
        call_command("reconcile", "openai", str(file), *options, stdout=told)
    except CommandError as error:
        told.write(str(error))
    return told.getvalue()


def test_a_report_that_agrees_with_all_tenants_books_says_so(books, tmp_path):
    assert "1 days and models agree" in reconciled(tmp_path, openai(tokens("small-2026-01-01", 240, 60)))


def test_a_table_of_sums_is_compared_like_one_of_their_answers(books, tmp_path):
    table = f"start_time,model,input_tokens,output_tokens\n{int(today().timestamp())},small,241,60\n"
    assert "small: input tokens: reported 241, booked 240" in reconciled(tmp_path, table, name="usage.csv")


def test_every_difference_is_shown_by_day_and_model(books, tmp_path):
    told = reconciled(tmp_path, openai(tokens("small", 241, 60), tokens("other", 5, 0)))
    assert f"{today():%Y-%m-%d} small: input tokens: reported 241, booked 240" in told
    assert f"{today():%Y-%m-%d} other: input tokens: reported 5, booked 0" in told
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


# --- call by call -------------------------------------------------------------------------------


def log_of(*lines: dict) -> str:
    return "\n".join(json.dumps(line) for line in lines)


def line(call_id, entering: int, leaving: int, **more: object) -> dict:
    return {"client_request_id": str(call_id), "input_tokens": entering, "output_tokens": leaving, **more}


@pytest.fixture
def estimated(database):
    """Two calls of alice, one reported and one estimated, at a dollar a million in and four out."""
    shop = open_shop("alice", "http://127.0.0.1:1")
    price = str(Price.objects.get(model__name="small").id)
    about = {"provider": "openai", "model": "small", "price_version": price}
    reported = charge(240, call_id=uuid7(), **about)
    guessed = charge(300, call_id=uuid7(), estimated=True, input_tokens=100, output_tokens=50, **about)
    ledger.settle(shop.tenant_id, held_turn(shop.tenant_id, 1000), [reported, guessed])
    return shop, reported.call_id, guessed.call_id


def booked(shop) -> list[tuple[int, int, int]]:
    """Cost, tokens in and tokens out of each entry of a call."""
    with in_tenant(shop.tenant_id):
        entries = LedgerEntry.objects.exclude(call_id=None).order_by("created_at", "number", "id")
        return list(entries.values_list("cost_micros", "input_tokens", "output_tokens"))


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_a_log_of_requests_corrects_what_was_estimated_and_nothing_else(estimated, tmp_path, name):
    shop, reported, guessed = estimated
    told = [line(reported, 120, 30), line(guessed, 90, 40)]
    text = log_of(*told)
    if name.endswith(".csv"):
        text = "\n".join([",".join(told[0]), *(",".join(map(str, each.values())) for each in told)])
    shown = reconciled(tmp_path, text, name=name)
    assert f"call {guessed}: reported $0.000250 for 90 tokens in and 40 out, booked $0.000300" in shown
    assert str(reported) not in shown
    assert "1 differences" in shown
    assert len(booked(shop)) == 2
    assert ": corrected" in reconciled(tmp_path, text, "--correct", name=name)
    assert booked(shop)[2:] == [(-50, -10, -10)]
    assert "2 calls agree" in reconciled(tmp_path, text, name=name)
    assert ledger.check(shop.tenant_id) == []


def test_a_cost_that_the_log_tells_goes_before_the_price(estimated, tmp_path):
    shop, _, guessed = estimated
    log = log_of(line(guessed, 90, 40, cost=0.000123))
    assert ": corrected" in reconciled(tmp_path, log, "--correct", name="log.jsonl")
    assert booked(shop)[2:] == [(123 - 300, -10, -10)]


def test_what_a_whole_days_log_does_not_know_was_never_billed_if_it_was_an_estimate(estimated, tmp_path):
    shop, reported, guessed = estimated
    days = ("--whole-days", f"{today() - timedelta(days=1):%Y-%m-%d}", f"{today() + timedelta(days=1):%Y-%m-%d}")
    stranger = uuid7()
    shown = reconciled(tmp_path, log_of(line(stranger, 1, 1)), "--correct", *days, name="log.jsonl")
    assert f"call {guessed}: not in the log, booked $0.000300 for 100 tokens in and 50 out: corrected" in shown
    assert f"call {reported}: not in the log, booked $0.000240" in shown
    assert f"call {stranger}: in the log, and not in the books" in shown
    assert "2 differences" in shown
    assert booked(shop)[2:] == [(-300, -100, -50)]
    assert ledger.check(shop.tenant_id) == []


def test_a_call_that_may_be_of_the_day_before_is_not_missed_in_a_whole_days_log(estimated, tmp_path):
    shop, _, guessed = estimated
    tamper(shop.tenant_id, "UPDATE accounts_hold SET created_at = created_at - interval '2 days'")
    days = ("--whole-days", f"{today() - timedelta(days=1):%Y-%m-%d}", f"{today() + timedelta(days=1):%Y-%m-%d}")
    shown = reconciled(tmp_path, log_of(line(uuid7(), 1, 1)), "--correct", *days, name="log.jsonl")
    assert str(guessed) not in shown
    assert booked(shop)[2:] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "nothing in it"),
        ("[1]", "entry 1"),
        ('{"client_request_id": "x", "input_tokens": 1, "output_tokens": 1}', "badly formed"),
        (log_of(line(TWICE, 1, 1), line(TWICE, 1, 1)), "entry 2: call .* is told twice"),
        (log_of(line(uuid7(), -1, 1)), "-1 tokens"),
        (log_of(line(uuid7(), 1.5, 1)), "1.5"),
        (log_of(line(uuid7(), 5, 1, cached_input_tokens=6)), "more than the whole"),
        (log_of(line(uuid7(), 5, 1, cost="-1")), "a cost of -1"),
    ],
)
def test_a_log_that_cannot_be_true_is_refused_by_its_entry(database, tmp_path, text, complaint):
    assert re.search(f"log.jsonl cannot be read: .*{complaint}", reconciled(tmp_path, text, name="log.jsonl"))


def test_a_report_of_sums_corrects_nothing(books, tmp_path):
    told = reconciled(tmp_path, openai(tokens("small", 240, 60)), "--correct")
    assert "no call can be corrected" in told
