"""What language models can be offered here and what they cost: the operator's list, and the providers' prices.

Providers' prices come from the data inside the package genai-prices; nothing is downloaded. Keeping them as dated
rows is left to `manage.py import_prices`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data_snapshot
from genai_prices.types import ModelPrice

from cascade.local_models import catalogue

LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None  # None: no discount
    cache_write: Decimal | None  # None: as fresh input
    source: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A language model that can be offered."""

    name: str
    provider: str  # a key of the provider registry
    remote_name: str
    base_url: str  # "": hosted by its provider
    rates: Rates


def offers(now: datetime) -> tuple[Offer, ...]:
    """The operator's list, cheapest first. Raises LookupError for a hosted model whose price nobody knows."""
    told = tomllib.loads(LIST.read_text())
    return tuple(_hosted(name, it, now) if "provider" in it else _local(name, it) for name, it in told.items())


def _local(name: str, told: Mapping[str, Any]) -> Offer:
    rates = Rates(Decimal(told["input"]), Decimal(told["output"]), None, None, "set by the operator")
    return Offer(name, "openai", name, catalogue()[name].base_url, rates)


def _hosted(name: str, told: Mapping[str, Any], now: datetime) -> Offer:
    remote_name = name.partition("/")[2]
    _, model = data_snapshot.get_snapshot().find_provider_model(remote_name, None, told["provider"], None)
    return Offer(name, told["provider"], remote_name, "", _rates(model.get_prices(now)))


def _rates(price: ModelPrice) -> Rates:
    """The dearer rate of very long prompts is left aside: it begins at hundreds of thousands of tokens."""

    def rate(kind: str) -> Decimal | None:
        found = getattr(price, kind, None)
        return getattr(found, "base", found)

    entering, leaving = rate("input_mtok"), rate("output_mtok")
    if entering is None or leaving is None:
        raise LookupError(f"{price} tells no price for input and output")
    source = f"genai-prices {version('genai-prices')}"
    return Rates(entering, leaving, rate("cache_read_mtok"), rate("cache_write_mtok"), source)
