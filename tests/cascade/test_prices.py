"""Prices are dated and never edited; what an import changes is told before; an override is its tenant's alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, ProgrammingError
from django.utils import timezone
from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, TieredPrices
from genai_prices.types import Tier as PriceTier
from hypothesis import given
from hypothesis import strategies as st

from accounts.money import Money
from accounts.tenancy import in_tenant
from cascade.material import current_prices, price_columns, price_value
from cascade.models import LanguageModel, Price
from cascade.price_list import changes, offers, price_of
from cascade.pricing import cost
from cascade.values import LongPrompt, Usage
from cascade.values import Price as PriceValue
from tests.cascade.strategies import prices, usages
from tests.cast import open_shop

NOWHERE = "http://127.0.0.1:1"
HOSTED = [offer for offer in offers(datetime.now(UTC)) if not offer.base_url]
LATER = timezone.now() + timedelta(days=40)


def ran(command: str, *args: str, **options: object) -> str:
    out = StringIO()
    call_command(command, *args, stdout=out, **options)
    return out.getvalue()


def in_force(shop, when: datetime, model: str = "small") -> tuple[Decimal, Decimal]:
    with in_tenant(shop.tenant_id):
        price = current_prices(LanguageModel.objects.filter(name=model), when)[model]
        return price.input, price.output


# --- the package's prices as ours -----------------------------------------------------------------


def test_every_kind_of_price_is_taken_over():
    tiered = TieredPrices(Decimal(1), [PriceTier(start=1000, price=Decimal(3))])
    told = ModelPrice(
        input_mtok=tiered, output_mtok=Decimal(5), output_reasoning_mtok=Decimal(4), requests_kcount=Decimal(7)
    )
    rates = {"output": Decimal(5), "reasoning": Decimal(4)}
    step = LongPrompt(1000, Decimal(3), **rates)
    assert price_of(told) == PriceValue("", Decimal(1), per_request=Decimal("0.007"), long_prompts=(step,), **rates)


def test_a_model_without_a_price_for_its_output_is_not_offered():
    with pytest.raises(LookupError):
        price_of(ModelPrice(input_mtok=Decimal(1)))


@given(
    usage=usages(most_input=400_000), offer=st.sampled_from([it for it in offers(datetime.now(UTC)) if not it.base_url])
)
def test_a_hosted_call_costs_what_the_package_says(usage, offer):
    _, model = data_snapshot.get_snapshot().find_provider_model(offer.remote_name, None, offer.provider, None)
    theirs = model.get_prices(datetime.now(UTC)).calc_price(
        {
            "input_tokens": usage.input_tokens,
            "cache_read_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
        }
    )
    assert abs(cost(usage, offer.price).micros - theirs["total_price"] * 1_000_000) <= Decimal("0.5")


# --- the list -------------------------------------------------------------------------------------


@given(old=prices, new=prices)
def test_exactly_what_is_different_is_told(old, new):
    fields = ("input", "output", "cached_input", "cache_write", "reasoning", "per_request", "batch", "long_prompts")
    different = {name for name in fields if getattr(old, name) != getattr(new, name)}
    assert {line.partition(" ")[0] for line in changes(old, new)} == different


def test_an_import_shows_what_would_change_and_only_then_changes_it(database):
    shown = ran("import_prices", dry_run=True)
    assert "openai/gpt-6-luna: input none -> " in shown
    assert "nothing was changed" in shown
    assert not LanguageModel.objects.exists()
    assert ran("import_prices") in shown
    count = Price.objects.count()
    assert count == LanguageModel.objects.count() > 4
    assert set(LanguageModel.objects.filter(enabled=False).values_list("name", flat=True)) == {"scorer", "embedding"}
    assert ran("import_prices") == ""
    assert Price.objects.count() == count


def test_a_changed_price_becomes_a_new_row_and_the_old_one_stays(database):
    ran("import_prices")
    luna = LanguageModel.objects.using("owner").get(name="openai/gpt-6-luna")
    [row] = luna.prices.using("owner").all()
    other = price_value(row)
    Price.objects.using("owner").create(
        model=luna, valid_from=timezone.now(), source="tests", **price_columns(other) | {"input": Decimal("0.75")}
    )
    assert "openai/gpt-6-luna: input 0.75 -> " in ran("import_prices")
    stored = [price_value(row) for row in luna.prices.using("owner").order_by("valid_from")]
    assert stored[0].input == stored[2].input != stored[1].input == Decimal("0.75")
    assert stored[0].long_prompts == stored[2].long_prompts == other.long_prompts != ()


def test_a_price_is_never_edited(database):
    open_shop("alice", NOWHERE)
    for change in (lambda rows: rows.update(input=1), lambda rows: rows.delete()):
        with pytest.raises(DatabaseError, match="append-only"):
            change(Price.objects.using("owner").all())
        with pytest.raises(ProgrammingError, match="permission denied"):
            change(Price.objects.all())


# --- overrides ------------------------------------------------------------------------------------


def test_an_override_is_its_tenants_alone_and_superseded_by_a_later_one(database):
    alice, charlie = open_shop("alice", NOWHERE), open_shop("charlie", NOWHERE)
    listed = in_force(alice, timezone.now())
    ran("set_price", "alice", "small", input="0.5", output="0.7")
    assert in_force(alice, timezone.now()) == (Decimal("0.5"), Decimal("0.7"))
    assert in_force(charlie, timezone.now()) == listed
    assert in_force(alice, timezone.now(), "large") == listed
    ran("set_price", "alice", "small", input="0.3", output="0.4", valid_from=f"{LATER:%Y-%m-%dT%H:%M%z}")
    assert in_force(alice, LATER - timedelta(hours=1)) == (Decimal("0.5"), Decimal("0.7"))
    assert in_force(alice, LATER + timedelta(hours=1)) == (Decimal("0.3"), Decimal("0.4"))
    ran("set_price", "alice", "small", as_listed=True)
    assert in_force(alice, timezone.now()) == listed
    with in_tenant(charlie.tenant_id):
        assert not Price.objects.exclude(tenant=None).exists()
    assert not Price.objects.exclude(tenant=None).exists()


def test_an_override_that_ends_gives_way_to_the_list(database):
    alice = open_shop("alice", NOWHERE)
    listed = in_force(alice, timezone.now())
    ran("set_price", "alice", "small", input="0.5", output="0.7", valid_until=f"{LATER:%Y-%m-%dT%H:%M%z}")
    assert in_force(alice, LATER - timedelta(hours=1)) == (Decimal("0.5"), Decimal("0.7"))
    assert in_force(alice, LATER + timedelta(hours=1)) == listed


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"input": "0.5"}, "--input and --output"),
        ({"input": "much", "output": "1"}, "not an amount"),
        ({"input": "-1", "output": "1"}, "prices_are_not_negative"),
        ({"input": "1", "output": "1", "valid_from": "2020-01-01T00:00+00:00"}, "in the past"),
        ({"input": "1", "output": "1", "valid_from": "2040-01-01"}, "needs a time zone"),
        ({"input": "1", "output": "1", "valid_until": "2020-01-01T00:00+00:00"}, "only_an_override_ends"),
    ],
)
def test_what_is_no_price_is_refused_by_name(database, told, complaint):
    open_shop("alice", NOWHERE)
    with pytest.raises(CommandError, match=complaint):
        call_command("set_price", "alice", "small", **told)
    with pytest.raises(CommandError, match="no model"):
        call_command("set_price", "alice", "nobody", input="1", output="1")


def test_a_usage_costs_the_same_by_the_row_and_by_the_value(database):
    shop = open_shop("alice", NOWHERE)
    step = LongPrompt(10, Decimal("2.5"), Decimal(8), reasoning=Decimal(3))
    value = PriceValue("", Decimal(1), Decimal(4), batch=Decimal("0.5"), long_prompts=(step,))
    row = Price.objects.using("owner").create(
        model=LanguageModel.objects.using("owner").get(name="small"),
        valid_from=timezone.now(),
        source="tests",
        **price_columns(value),
    )
    usage = Usage(11, 7, reasoning_tokens=5)
    with in_tenant(shop.tenant_id):
        stored = price_value(Price.objects.get(id=row.id))
    assert cost(usage, stored) == cost(usage, value) == Money(59)  # 11 in at 2.5, 2 shown at 8, 5 of reasoning at 3


def test_what_is_computed_here_has_a_price_for_each_text_and_no_other(database):
    open_shop("alice", NOWHERE)
    ran("import_prices")
    for wrong in ({"input": "2", "output": "0"}, {"input": "1", "output": "1", "per_request": "0.1"}, {}):
        with pytest.raises(CommandError, match="for each text alone"):
            call_command("set_price", "alice", "scorer", **wrong)
    assert "$0.000002 for each text" in ran("set_price", "alice", "scorer", per_request="0.000002")
