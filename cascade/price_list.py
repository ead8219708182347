"""What language models can be offered here and what they cost: the operator's list, and the providers' prices.

Providers' prices come from the data inside the package genai-prices; nothing is downloaded. Keeping them as dated
rows is left to `manage.py import_prices`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, TieredPrices

from cascade.compute import PROVIDER
from cascade.local_models import catalogue
from cascade.values import LongPrompt, Price

LIST = Path(__file__).with_suffix(".toml")
KEYS = {  # our rates, and the package's names for them
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A language model that can be offered."""

    name: str
    provider: str  # a key of the provider registry
    remote_name: str
    base_url: str  # "": hosted by its provider
    price: Price  # without a version: it is no row yet
    source: str


def offers(now: datetime) -> tuple[Offer, ...]:
    """The operator's list, cheapest first. Raises LookupError for a hosted model whose price nobody knows."""
    told = {name: it for name, it in _told().items() if it.get("provider") != PROVIDER}
    return tuple(_hosted(name, it, now) if "provider" in it else _local(name, it) for name, it in told.items())


def computed() -> tuple[Offer, ...]:
    """What has a price and is no model that can be asked (`cascade.compute`)."""
    told = {name: it for name, it in _told().items() if it.get("provider") == PROVIDER}
    return tuple(_computed(name, it) for name, it in told.items())


def _told() -> dict[str, dict[str, Any]]:
    return tomllib.loads(LIST.read_text())


def _local(name: str, told: Mapping[str, Any]) -> Offer:
    price = Price("", Decimal(told["input"]), Decimal(told["output"]))
    return Offer(name, "openai", name, catalogue()[name].base_url, price, "set by the operator")


def _computed(name: str, told: Mapping[str, Any]) -> Offer:
    price = Price("", Decimal(0), Decimal(0), per_request=Decimal(told["per_request"]))
    return Offer(name, PROVIDER, name, "", price, "set by the operator")


def _hosted(name: str, told: Mapping[str, Any], now: datetime) -> Offer:
    remote_name = name.partition("/")[2]
    _, model = data_snapshot.get_snapshot().find_provider_model(remote_name, None, told["provider"], None)
    batch = Decimal(told["batch"]) if "batch" in told else None
    price = replace(price_of(model.get_prices(now)), batch=batch)
    return Offer(name, told["provider"], remote_name, "", price, f"genai-prices {version('genai-prices')}")


def price_of(told: ModelPrice) -> Price:
    """A provider's price as genai-prices tells it. Raises LookupError without one for input and output."""
    rates = {name: getattr(told, key, None) for name, key in KEYS.items()}
    starts = {tier.start for rate in rates.values() if isinstance(rate, TieredPrices) for tier in rate.tiers}
    if rates["input"] is None or rates["output"] is None:
        raise LookupError(f"{told} tells no price for input and output")
    per_request = (getattr(told, "requests_kcount", None) or Decimal(0)) / 1000
    steps = tuple(LongPrompt(above=start, **_with_prompts_above(start, rates)) for start in sorted(starts))
    return Price("", **_with_prompts_above(0, rates), per_request=per_request, long_prompts=steps)


def _with_prompts_above(tokens: int, rates: Mapping[str, Decimal | TieredPrices | None]) -> dict[str, Any]:
    def rate(told: Decimal | TieredPrices | None) -> Decimal | None:
        if not isinstance(told, TieredPrices):
            return told
        return next((tier.price for tier in reversed(told.tiers) if tier.start <= tokens), told.base)

    return {name: rate(told) for name, told in rates.items()}


def changes(old: Price | None, new: Price) -> list[str]:
    """What is different in a price, a line each; `old` None: everything is new."""
    names = [it.name for it in fields(Price) if it.name != "version"]
    before = [None if old is None else getattr(old, name) for name in names]
    after = [getattr(new, name) for name in names]
    return [
        f"{name} {_shown(was)} -> {_shown(will_be)}"
        for name, was, will_be in zip(names, before, after, strict=True)
        if was != will_be and (old or will_be)
    ]


def _shown(figure: Decimal | tuple[LongPrompt, ...] | None) -> str:
    if isinstance(figure, tuple):
        return ", ".join(f"above {it.above} tokens {it.input:f} in {it.output:f} out" for it in figure) or "none"
    return "none" if figure is None else f"{figure.normalize():f}"
