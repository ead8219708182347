"""The demo's cascade: a small local model, a larger one, and those of providers whose key is set.

`manage.py run` serves `local_models()`; `seeding` makes the strategy of `tiers()`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from cascade.local_models import ModelMissing, path_of
from cascade.price_list import Offer, offers

SMALL = "qwen2.5-coder-0.5b-instruct"  # measured against smollm2-135m-instruct: docs/demo.md
LARGE = "qwen2.5-coder-1.5b-instruct"
THRESHOLD = 0.9  # of every tier but the last: chosen on the questions for tuning, docs/demo.md
FLOOR = 0.7  # of the last: under it a person answers; docs/demo.md
LOCAL_SECONDS, HOSTED_SECONDS, TURN_SECONDS = 60.0, 20.0, 150.0  # an old laptop needs most of a minute
MAX_OUTPUT_TOKENS = 100


def local_models(now: datetime) -> list[Offer]:
    """The models to serve on this machine, cheapest first; one that was not fetched is left out."""
    return [offer for offer in offers(now) if offer.name in wanted_models() and _is_here(offer.name)]


def wanted_models() -> tuple[str, str]:
    """What `manage.py run` fetches: names of local_models.toml."""
    return settings.DEMO_SMALL_MODEL or SMALL, LARGE


def tiers(now: datetime) -> list[dict[str, Any]]:
    """As a `CascadeStrategy` keeps them."""
    keys = {"openai": settings.OPENAI_API_KEY, "anthropic": settings.ANTHROPIC_API_KEY}
    hosted = [offer for offer in offers(now) if not offer.base_url and keys[offer.provider]]
    return [_tier(offer) for offer in [*local_models(now), *hosted]]


def _tier(offer: Offer) -> dict[str, Any]:
    return {
        "model": offer.name,
        "threshold": THRESHOLD,
        "deadline_seconds": LOCAL_SECONDS if offer.base_url else HOSTED_SECONDS,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
    }


def _is_here(name: str) -> bool:
    try:
        path_of(name, settings.MODELS_ROOT)
    except ModelMissing:
        return False
    return True
