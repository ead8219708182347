"""Tiers as a tenant writes them: whether they can be asked, and what they ask of an answer. Pure.

Which models there are is left to the caller.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

EXAMPLE_TIER = {"model": "openai/gpt-6-luna", "threshold": 0.6, "deadline_seconds": 20, "max_output_tokens": 300}
SEGMENTS = "segments"  # of a tier, may be left out: other thresholds, by the name of a segment of customers
MOST_TIERS = 10
MOST_SEGMENTS = 50
LONGEST_SEGMENT = 200
UNWRITABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of others, ends of lines
LONGEST_SECONDS = 600
MOST_OUTPUT_TOKENS = 4096


def threshold(tier: Mapping[str, Any], segment: str) -> float:
    """What an answer of this tier must score to be shown to a customer of this segment."""
    return float(tier.get(SEGMENTS, {}).get(segment, tier["threshold"]))


def problem(tiers: object) -> str | None:
    """What is wrong with it, in words for the person who wrote it; None: nothing."""
    if not isinstance(tiers, list) or not 1 <= len(tiers) <= MOST_TIERS:
        return f"a list of 1 to {MOST_TIERS} tiers is needed"
    wrong = next((f"tier {number} {wrong}" for number, tier in enumerate(tiers, 1) if (wrong := _problem(tier))), None)
    if wrong is None and tiers[-1].get(SEGMENTS):
        return f"tier {len(tiers)} is the last: the chatbot's floor is its threshold, for every segment"
    return wrong


def _problem(tier: Any) -> str | None:
    if not isinstance(tier, dict) or tier.keys() - {SEGMENTS} != EXAMPLE_TIER.keys():
        return f"needs exactly: {', '.join(EXAMPLE_TIER)}"
    if not isinstance(tier["model"], str):
        return "needs the name of a model"
    if not _is_threshold(tier["threshold"]):
        return "needs a threshold from 0 to 1"
    if not (_is_number(tier["deadline_seconds"]) and 0 < tier["deadline_seconds"] <= LONGEST_SECONDS):
        return f"needs deadline_seconds above 0, up to {LONGEST_SECONDS}"
    if type(tier["max_output_tokens"]) is not int or not 1 <= tier["max_output_tokens"] <= MOST_OUTPUT_TOKENS:
        return f"needs max_output_tokens from 1 to {MOST_OUTPUT_TOKENS}"
    return _segments_problem(tier.get(SEGMENTS, {}))


def _segments_problem(segments: Any) -> str | None:
    if not isinstance(segments, dict) or len(segments) > MOST_SEGMENTS:
        return f"needs segments by name, {MOST_SEGMENTS} at most, or none"
    for name, own in segments.items():
        if not can_name(name):
            return f"needs a segment's name on one line, of 1 to {LONGEST_SEGMENT} characters, without blanks around it"
        if not _is_threshold(own):
            return f"needs one threshold from 0 to 1 for segment {name}"
    return None


def can_name(segment: str) -> bool:
    """Whether a tier can have a threshold for this segment: that can be kept, and written on a line."""
    whole = not any(unicodedata.category(each) in UNWRITABLE for each in segment)
    return 0 < len(segment) <= LONGEST_SEGMENT and segment == segment.strip() and whole


def _is_threshold(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
