"""From settings to the process's one engine: real SDK clients, one pool of scorers."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from cascade.providers import ADAPTERS, Provider
from cascade.runner import Engine
from cascade.scorer.pool import Pool


@cache
def scorer() -> Pool:
    """Its first process starts with its first answer, or before (`Pool.start`)."""
    return Pool(settings.SCORER_WEIGHTS)


@cache
def engine() -> Engine:
    providers: dict[str, Provider] = {
        "openai": ADAPTERS["openai"](settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL or None),
        "anthropic": ADAPTERS["anthropic"](settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL or None),
    }
    return Engine(providers, scorer(), score_seconds=settings.SCORER_DEADLINE_SECONDS)
