"""What a call costs, may cost at most, and is likely to have cost.

Dollars per million tokens is, numerically, micro-dollars per token, so an exact sum of
tokens times prices is already in micro-dollars; it is rounded once a call, half up. Which
price applies on which day is settled before (`cascade.material`), who pays is settled after
(`accounts.ledger`).
"""

from __future__ import annotations

from decimal import Context as Precision
from decimal import Decimal, localcontext

from accounts.money import Money
from cascade.errors import UnknownPrice
from cascade.values import LongPrompt, Price, Prompt, Tier, Usage

CHARACTERS_PER_TOKEN = 3  # of prose; a little low, so that an estimate errs to the dearer side
LONGEST_TOKEN = 128  # characters; the longest entries of today's vocabularies are runs of blanks
TEMPLATE_TOKENS = 64  # around one message, and at most as many before the first
Rates = Price | LongPrompt
EXACT = Precision(prec=100)  # digits: more than any product of a count and a price has


def cost(usage: Usage, price: Price, *, batch: bool = False) -> Money:
    """The price of `usage`, exact until it is rounded once. Raises UnknownPrice, also for a batch without a price.

    Reasoning tokens are output tokens, and cached ones input tokens (`Usage`): each is counted once.
    """
    _require_known(price)
    share = price.batch if batch else Decimal(1)
    if share is None:
        raise UnknownPrice(price.version)
    rates = _rates(price, usage.input_tokens)
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    entering = fresh, usage.cached_input_tokens, usage.cache_write_tokens
    leaving = usage.output_tokens - usage.reasoning_tokens, usage.reasoning_tokens
    with localcontext(EXACT):
        counted = zip((*entering, *leaving), (*_in(rates), *_out(rates)), strict=True)
        tokens = sum((count * rate for count, rate in counted), Decimal(0))
        return Money.from_exact(tokens * share + price.per_request * 1_000_000)


def ceiling(prompt: Prompt, tier: Tier) -> Money:
    """The most that asking `tier` can cost in one turn. Raises UnknownPrice.

    Retries are in it: only failures that no provider bills are retried (`cascade.errors`), so
    however many tries there are, one of them is paid for.
    """
    price = tier.model.price
    _require_known(price)
    in_reach: tuple[Rates, ...] = (price, *(rates for rates in price.long_prompts if prompt.input_tokens > rates.above))
    with localcontext(EXACT):
        tokens = max(prompt.input_tokens * max(_in(it)) + tier.max_output_tokens * max(_out(it)) for it in in_reach)
        return Money.from_exact(tokens + price.per_request * 1_000_000)


def estimate(prompt_tokens: int, output_characters: int, price: Price, cap: int) -> tuple[Usage, Money]:
    """Usage and cost of a call whose usage nobody reported; never above its ceiling. Raises UnknownPrice.

    The prompt counts as reserved, the output by the characters that arrived, at most `cap` tokens.
    """
    output_tokens = min(-(-output_characters // CHARACTERS_PER_TOKEN), cap)
    usage = Usage(input_tokens=prompt_tokens, output_tokens=output_tokens)
    return usage, cost(usage, price)


def charge(reported: Usage | None, prompt: Prompt, output_characters: int, tier: Tier) -> tuple[Usage, Money, bool]:
    """What to charge for a call that the provider bills, and whether it is an estimate.

    The provider's own count where it can be believed. Where it is missing, negative, nothing for
    something, or more than is possible, an estimate within the ceiling. Nothing is believed where it costs nothing.
    """
    price = tier.model.price
    if reported == Usage() and ceiling(prompt, tier) == Money(0):
        return reported, Money(0), False
    if reported is not None and believable(reported, prompt, output_characters, tier):
        return reported, cost(reported, price), False
    return (*estimate(prompt.input_tokens, output_characters, price, tier.max_output_tokens), True)


def believable(usage: Usage, prompt: Prompt, output_characters: int, tier: Tier) -> bool:
    """Whether a reported usage is possible for this prompt, these limits and this much output.

    A count above `prompt.input_tokens`, an estimate, is believed as long as it can be true.
    """
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    visible = usage.output_tokens - usage.reasoning_tokens
    parts = (fresh, usage.cached_input_tokens, usage.cache_write_tokens, visible, usage.reasoning_tokens)
    return (
        min(parts) >= 0
        and 0 < usage.input_tokens <= most_input_tokens(prompt)
        and usage.output_tokens <= tier.max_output_tokens
        and output_characters <= visible * LONGEST_TOKEN
    )


def most_input_tokens(prompt: Prompt) -> int:
    """No tokenizer makes more tokens than there are bytes; a chat template adds a few to each message."""
    written = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in prompt.messages)
    return max(prompt.input_tokens, written + TEMPLATE_TOKENS * (len(prompt.messages) + 1))


def _rates(price: Price, prompt_tokens: int) -> Rates:
    """What a token costs in a call with so long a prompt."""
    exceeded = [rates for rates in price.long_prompts if prompt_tokens > rates.above]
    return max(exceeded, key=lambda rates: rates.above, default=price)


def _require_known(price: Price) -> None:
    figures = [price.per_request, price.batch]
    every: tuple[Rates, ...] = (price, *price.long_prompts)
    for rates in every:
        figures += [rates.input, rates.output, rates.cached_input, rates.cache_write, rates.reasoning]
    if any(figure is not None and not (figure.is_finite() and figure >= 0) for figure in figures):
        raise UnknownPrice(price.version)


def _in(rates: Rates) -> tuple[Decimal, Decimal, Decimal]:
    """Of a fresh token, one read from the provider's cache, one written to it."""
    return rates.input, _or(rates.cached_input, rates.input), _or(rates.cache_write, rates.input)


def _out(rates: Rates) -> tuple[Decimal, Decimal]:
    """Of a token that is shown and one of reasoning."""
    return rates.output, _or(rates.reasoning, rates.output)


def _or(discounted: Decimal | None, full: Decimal) -> Decimal:
    return full if discounted is None else discounted
