"""What the engine's tests are about: prices, tiers, prompts and attempts, real and random ones."""

from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter

from hypothesis import strategies as st

from accounts.money import ZERO
from cascade.errors import ProviderError
from cascade.values import (
    Attempt,
    Context,
    Customer,
    FinishReason,
    LanguageModel,
    LongPrompt,
    Price,
    Prompt,
    PromptMessage,
    Strategy,
    Tier,
    Usage,
)

CENT = Price(version="p1", input=Decimal("0.15"), output=Decimal("0.60"))
PROMPT = Prompt((PromptMessage("system", "Be kind."), PromptMessage("user", "Where is my order?")), 40)
CONTEXT = Context(Customer("anna"), "Where is my order?", datetime(2026, 11, 22, 12, tzinfo=UTC))


def model(name="small", *, provider="openai", price=CENT, base_url=""):
    return LanguageModel(name, provider, name, price, base_url)


def tier(name="small", threshold=0.5, *, deadline=5.0, output=200, **of_model):
    return Tier(model(name, **of_model), threshold, deadline, output)


def strategy(*tiers, deadline=10.0):
    return Strategy("v1", tiers, deadline)


def attempt(tier=0, text="It is on its way.", *, finish=FinishReason.STOP, score=None, error=None):
    return Attempt("an-id", tier, "small", text, finish if error is None else None, Usage(), False, ZERO, score, error)


counts = st.integers(0, 10**7)
figures = st.decimals(0, 10_000, places=12) | st.decimals(0, 100, places=4)
above = attrgetter("above")
rates = {
    "input": figures,
    "output": figures,
    "cached_input": st.none() | figures,
    "cache_write": st.none() | figures,
    "reasoning": st.none() | figures,
}
prices = st.builds(
    Price,
    version=st.just("p"),
    per_request=st.decimals(0, 1, places=9),
    batch=st.none() | st.decimals(0, 1, places=4),
    long_prompts=st.lists(st.builds(LongPrompt, above=counts, **rates), max_size=2, unique_by=above).map(tuple),
    **rates,
)


@st.composite
def usages(draw, most_input=10**7, most_output=10**7):
    """Usages that a provider can honestly report."""
    input_tokens, output_tokens = draw(st.integers(0, most_input)), draw(st.integers(0, most_output))
    cached = draw(st.integers(0, input_tokens))
    return Usage(
        input_tokens,
        output_tokens,
        cached,
        draw(st.integers(0, input_tokens - cached)),
        draw(st.integers(0, output_tokens)),
    )


CODES = [kind.code for kind in ProviderError.__subclasses__()]
scores = st.none() | st.floats(0, 1) | st.floats() | st.sampled_from([float("nan"), float("inf")])
texts = st.sampled_from(["It is on its way.", "", "  \n"])


@st.composite
def attempts_of(draw, tier_index):
    """Anything a call of this tier may have come to."""
    error = draw(st.none() | st.sampled_from(CODES))
    return attempt(
        tier_index,
        draw(texts),
        finish=draw(st.sampled_from(FinishReason)),
        score=draw(scores),
        error=error,
    )
