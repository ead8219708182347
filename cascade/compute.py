"""What is computed here for a turn beside the models' calls: answers are judged, questions are embedded.

Both have prices for each text, dated like those of models and kept with them, under names that no strategy can ask.
Where the operator has set none they are not on the books. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accounts.money import ZERO, Money
from cascade.values import Price, Usage

PROVIDER = "local"
NAMES = SCORER, EMBEDDING = "scorer", "embedding"  # of what has a price, and sources of ledger entries
Prices = Mapping[str, Price]  # by one of NAMES; what is missing is not on the books


@dataclass(frozen=True, slots=True)
class Beside:
    """What a turn used beside its attempts, and what that costs."""

    judged: int = 0  # answers that no attempt gave
    embedded: int = 0  # questions; what is embedded once the turn is over is in their price
    prices: Prices = field(default_factory=dict)
    saved_reply: Usage | None = None  # about what a model would have used for the one that was given; None: none was
    spared: Money = ZERO  # what the dearest model would have cost for the answer that memory offers


def cost(price: Price, texts: int) -> Money:
    return Money.from_exact(texts * price.per_request * 1_000_000)


def most(prices: Prices, tiers: int) -> Money:
    """What a turn can come to: an answer of each tier is judged, of memory and a saved reply; the question is read."""
    texts = {SCORER: tiers + 2, EMBEDDING: 1}
    return sum((cost(price, texts[name]) for name, price in prices.items()), ZERO)
