"""From settings to the process's one engine: real SDK clients, one pool of scorers, one embedder."""

from __future__ import annotations

import logging
from functools import cache

from django.conf import settings

from cascade.embedder import MODEL
from cascade.embedder.serving import Embedder
from cascade.exploration import SCORE_SECONDS
from cascade.local_models import ModelMissing, path_of
from cascade.memory.judge import load
from cascade.memory.recall import Memory
from cascade.providers import Provider
from cascade.runner import Engine
from cascade.scorer.pool import Pool

log = logging.getLogger(__name__)


@cache
def scorer() -> Pool:
    """Its first process starts with its first answer, or before (`Pool.start`)."""
    return Pool(settings.SCORER_WEIGHTS)


@cache
def embedder() -> Embedder | None:
    """Its process starts with its first text, or before. None: the sentence encoder is not on this machine."""
    try:
        return Embedder(path_of(MODEL, settings.MODELS_ROOT))
    except ModelMissing as problem:
        log.warning("texts are not embedded: %s", problem)
        return None


@cache
def engine() -> Engine:
    from cascade.providers.adapters import ADAPTERS

    providers: dict[str, Provider] = {
        "openai": ADAPTERS["openai"](settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL or None),
        "anthropic": ADAPTERS["anthropic"](settings.ANTHROPIC_API_KEY, settings.ANTHROPIC_BASE_URL or None),
    }
    found = embedder()
    memory = Memory(found, load()) if found else None
    return Engine(providers, scorer(), memory=memory, embedder=found, score_seconds=settings.SCORER_DEADLINE_SECONDS)


@cache
def patient_engine() -> Engine:
    """For the background, where nobody waits for a score."""
    return Engine(engine().providers, scorer(), score_seconds=SCORE_SECONDS)
