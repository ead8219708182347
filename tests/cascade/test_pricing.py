"""Every call is charged to the millionth of a dollar, and never above what was held for it."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.money import Money
from cascade.errors import UnknownPrice
from cascade.pricing import ceiling, charge, cost, estimate
from cascade.values import LongPrompt, Price, Prompt, Tier, Usage
from tests.cascade.strategies import CENT, PROMPT, counts, model, prices, tier, usages

FIGURES = ("input", "output", "cached_input", "cache_write", "reasoning", "per_request", "batch")


def exact_micros(usage, price, batch=False):
    """The cost as an exact fraction, by another road than the product's."""
    rates = price
    for step in sorted(price.long_prompts, key=lambda step: step.above):
        if usage.input_tokens > step.above:
            rates = step
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    cached = rates.input if rates.cached_input is None else rates.cached_input
    written = rates.input if rates.cache_write is None else rates.cache_write
    thought = rates.output if rates.reasoning is None else rates.reasoning
    pairs = [
        (fresh, rates.input),
        (usage.cached_input_tokens, cached),
        (usage.cache_write_tokens, written),
        (usage.output_tokens - usage.reasoning_tokens, rates.output),
        (usage.reasoning_tokens, thought),
    ]
    share = price.batch if batch else 1
    tokens = sum((count * Fraction(figure) for count, figure in pairs), Fraction(0))
    return tokens * Fraction(share) + 1_000_000 * Fraction(price.per_request)


@given(usages(), prices)
def test_a_cost_is_the_exact_sum_rounded_once_half_up(usage, price):
    assert cost(usage, price) == Money(int(exact_micros(usage, price) + Fraction(1, 2)))


def test_a_known_bill():
    price = Price("p", Decimal("3"), Decimal("15"), Decimal("0.30"), Decimal("3.75"), Decimal("0.01"))
    usage = Usage(1000, 200, cached_input_tokens=600, cache_write_tokens=100, reasoning_tokens=50)
    # 300 fresh at 3 + 600 cached at 0.30 + 100 written at 3.75 + 200 out at 15 + a cent a call
    assert cost(usage, price) == Money(900 + 180 + 375 + 3000 + 10_000)


@given(usages(), prices.filter(lambda price: price.batch is not None))
def test_through_the_batch_door_tokens_cost_their_share_and_the_request_all_of_it(usage, price):
    assert cost(usage, price, batch=True) == Money(int(exact_micros(usage, price, True) + Fraction(1, 2)))


def test_a_batch_without_a_price_is_an_error_and_never_free():
    with pytest.raises(UnknownPrice):
        cost(Usage(1, 1), CENT, batch=True)


def test_reasoning_is_part_of_the_output_and_counted_once():
    thinking = Price("p", Decimal(1), Decimal(10), reasoning=Decimal(4))
    usage = Usage(100, 50, reasoning_tokens=30)
    assert cost(usage, thinking) == Money(100 + 20 * 10 + 30 * 4)
    assert cost(usage, Price("p", Decimal(1), Decimal(10))) == Money(100 + 50 * 10)


def test_all_tokens_of_a_call_with_a_long_prompt_cost_the_dearer_rate():
    price = Price("p", Decimal(1), Decimal(2), long_prompts=(LongPrompt(1000, Decimal(3), Decimal(5)),))
    assert cost(Usage(1000, 10), price) == Money(1000 + 20)
    assert cost(Usage(1001, 10), price) == Money(3003 + 50)


def test_half_a_micro_dollar_is_rounded_up():
    assert cost(Usage(1, 0), Price("p", Decimal("0.5"), Decimal(0))) == Money(1)
    assert cost(Usage(1, 0), Price("p", Decimal("0.499999999999"), Decimal(0))) == Money(0)


def test_no_digit_is_lost_before_the_rounding():
    price = Price("p", Decimal("9999.00000004999999"), Decimal(0))
    assert cost(Usage(10**7, 0), price) == Money(99_990_000_000)  # and 0.4999999


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-0.01"])
@pytest.mark.parametrize(
    "field", ["input", "output", "cached_input", "cache_write", "reasoning", "per_request", "batch"]
)
def test_an_unknown_price_is_an_error_and_never_free(field, figure):
    figures = {"input": Decimal(1), "output": Decimal(1), field: Decimal(figure)}
    price = Price("p", **figures)
    with pytest.raises(UnknownPrice):
        cost(Usage(), price)
    with pytest.raises(UnknownPrice):
        ceiling(PROMPT, tier(price=price))


limits = st.tuples(counts, st.integers(1, 10**6), st.integers(0, 10**7))


@given(st.none() | usages() | st.builds(Usage, *[st.integers(-(10**20), 10**20)] * 5), limits, prices)
def test_no_charge_exceeds_the_ceiling_or_falls_below_zero_whatever_is_reported(usage, limit, price):
    input_tokens, cap, characters = limit
    prompt, step = Prompt((), input_tokens), Tier(model(price=price), 0.5, 5.0, cap)
    _, money, _ = charge(usage, prompt, characters, step)
    assert Money(0) <= money <= ceiling(prompt, step)


@given(usages(most_input=500, most_output=200).filter(lambda u: u.input_tokens), prices)
def test_a_believable_report_is_charged_as_reported(usage, price):
    step = Tier(model(price=price), 0.5, 5.0, 200)
    characters = usage.output_tokens - usage.reasoning_tokens
    reported, money, estimated = charge(usage, Prompt((), 500), characters, step)
    assert (reported, money, estimated) == (usage, cost(usage, price), False)


def test_a_report_above_our_estimate_of_the_prompt_is_charged_as_reported():
    reported = Usage(PROMPT.input_tokens + 20, 20)
    assert charge(reported, PROMPT, 20, tier()) == (reported, cost(reported, CENT), False)


@pytest.mark.parametrize(
    "reported",
    [
        None,
        Usage(0, 0),
        Usage(0, 67),  # an answer to nothing
        Usage(1041, 20),  # more than the bytes that were sent
        Usage(-40, 20),
        Usage(40, -20),
        Usage(40, 10**9),
        Usage(10**9, 20),
        Usage(40, 1),  # one token for two hundred characters
        Usage(40, 20, cached_input_tokens=41),
        Usage(40, 20, cached_input_tokens=30, cache_write_tokens=30),
        Usage(40, 20, reasoning_tokens=21),
    ],
)
def test_usage_that_is_missing_or_cannot_be_is_recounted_and_marked(reported):
    usage, money, estimated = charge(reported, PROMPT, 200, tier())
    assert estimated
    assert (usage, money) == estimate(PROMPT.input_tokens, 200, CENT, 200)
    assert usage == Usage(40, 67)


@given(counts, counts, st.integers(0, 10**6), prices)
def test_an_estimate_grows_with_the_output_and_stops_at_the_cap(less, more, cap, price):
    less, more = sorted((less, more))
    smaller, larger = (estimate(PROMPT.input_tokens, characters, price, cap) for characters in (less, more))
    assert smaller[1] <= larger[1] <= ceiling(PROMPT, Tier(model(price=price), 0.5, 5.0, cap))
