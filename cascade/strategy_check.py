"""Whether a list of tiers, as a tenant writes it, can be asked. Pure; which models there are is left to the caller."""

from __future__ import annotations

from typing import Any

EXAMPLE_TIER = {"model": "openai/gpt-6-luna", "threshold": 0.6, "deadline_seconds": 20, "max_output_tokens": 300}
MOST_TIERS = 10
LONGEST_SECONDS = 600
MOST_OUTPUT_TOKENS = 4096


def problem(tiers: object) -> str | None:
    """What is wrong with it, in words for the person who wrote it; None: nothing."""
    if not isinstance(tiers, list) or not 1 <= len(tiers) <= MOST_TIERS:
        return f"a list of 1 to {MOST_TIERS} tiers is needed"
    return next((f"tier {number} {wrong}" for number, tier in enumerate(tiers, 1) if (wrong := _problem(tier))), None)


def _problem(tier: Any) -> str | None:
    if not isinstance(tier, dict) or tier.keys() != EXAMPLE_TIER.keys():
        return f"needs exactly: {', '.join(EXAMPLE_TIER)}"
    if not isinstance(tier["model"], str):
        return "needs the name of a model"
    if not (_is_number(tier["threshold"]) and 0 <= tier["threshold"] <= 1):
        return "needs a threshold from 0 to 1"
    if not (_is_number(tier["deadline_seconds"]) and 0 < tier["deadline_seconds"] <= LONGEST_SECONDS):
        return f"needs deadline_seconds above 0, up to {LONGEST_SECONDS}"
    if type(tier["max_output_tokens"]) is not int or not 1 <= tier["max_output_tokens"] <= MOST_OUTPUT_TOKENS:
        return f"needs max_output_tokens from 1 to {MOST_OUTPUT_TOKENS}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
