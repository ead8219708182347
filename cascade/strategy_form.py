"""The form by which a person of the tenant writes a new version of a strategy: a row of fields for each tier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from cascade import strategies
from cascade.models import CascadeStrategy
from cascade.strategy_check import EXAMPLE_TIER, LONGEST_SECONDS, MOST_TIERS, SEGMENTS

LEAST_ROWS = 4
NUMBERS = {"threshold": float, "deadline_seconds": float, "max_output_tokens": int}


class TiersWidget(forms.Widget):
    """A row a tier, cheapest first; one without a model is none. Gives a JSON list, as a `JSONField` takes it."""

    template_name = "admin/cascade/tiers.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        tiers = json.loads(value) if isinstance(value, str) else value
        filled = [tier | {SEGMENTS: _lines(tier.get(SEGMENTS, {}))} for tier in tiers or [] if isinstance(tier, dict)]
        rows = filled + [{}] * max(1, LEAST_ROWS - len(filled))
        told = {"models": strategies.offered(), "rows": rows[:MOST_TIERS], "example": EXAMPLE_TIER}
        return super().get_context(name, value, attrs) | told

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> str:
        columns = (*EXAMPLE_TIER, SEGMENTS)
        rows = [{column: data.get(f"{name}-{row}-{column}", "") for column in columns} for row in range(MOST_TIERS)]
        return json.dumps([_tier(row) for row in rows if row["model"]])

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return False


def _tier(row: dict[str, str]) -> dict[str, Any]:
    """Numbers where they are numbers; what is not is refused with the tier's name."""
    tier = row | {column: _number(row[column], kind) for column, kind in NUMBERS.items()}
    del tier[SEGMENTS]
    others = _others(row[SEGMENTS])
    return tier | {SEGMENTS: others} if others else tier


def _others(lines: str) -> dict[str, Any]:
    """A segment's name and then its threshold on each line; what is no such line is refused with its name."""
    others: dict[str, Any] = {}
    for line in lines.splitlines():
        name, own = [*line.rsplit(None, 1), "", ""][:2]
        if name := name.strip():
            others[name] = "" if name in others else _number(own, float)  # of two nobody knows which is meant
    return others


def _number(typed: str, kind: type[int] | type[float]) -> int | float | str:
    try:
        return kind(typed)
    except ValueError:
        return typed


def _lines(segments: Any) -> str:
    """As a person writes other thresholds: a line for each segment, its name and then its number."""
    return "\n".join(f"{name} {own}" for name, own in segments.items()) if isinstance(segments, dict) else ""


class ChatbotForm(forms.ModelForm):
    """What is explored must be there to be asked, and bounded."""

    def clean_explored_models(self) -> list[str]:
        names: list[str] = self.cleaned_data["explored_models"]
        return [_offered(name) for name in names]

    def clean_reference_model(self) -> str:
        name: str = self.cleaned_data["reference_model"]
        return _offered(name) if name else ""

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if told.get("explored_share") and not told.get("explored_micros_a_day", 1):
            self.add_error("explored_micros_a_day", "say what exploring may cost a day, or explore no turn")
        return told


def _offered(name: str) -> str:
    if name not in (offered := strategies.offered()):
        raise forms.ValidationError(f"{name} is not offered, or has no price; there are {', '.join(offered)}")
    return name


class StrategyForm(forms.ModelForm):
    """A new version. Refuses tiers that could not be asked: an unknown model, or one without a price."""

    class Meta:
        model = CascadeStrategy
        fields = ("chatbot", "tiers", "deadline_seconds")
        widgets: ClassVar = {"tiers": TiersWidget}
        help_texts: ClassVar = {
            "tiers": "Cheapest first. An answer is shown if its score is at least the threshold; else the next model"
            " is asked. The last model's threshold is the chatbot's floor, whatever stands here. Customers whose"
            ' attribute "segment" is named may have another threshold: a line for each segment, like: trade 0.7',
            "deadline_seconds": "For all models of a turn together.",
        }

    def clean_tiers(self) -> list[dict[str, Any]]:
        tiers: list[dict[str, Any]] = self.cleaned_data["tiers"]
        try:
            strategies.check(tiers)
        except strategies.UnfitTiers as unfit:
            raise forms.ValidationError(str(unfit)) from unfit
        return tiers

    def clean_deadline_seconds(self) -> float:
        seconds: float = self.cleaned_data["deadline_seconds"]
        if not 0 < seconds <= LONGEST_SECONDS:
            raise forms.ValidationError(f"above 0, up to {LONGEST_SECONDS} seconds")
        return seconds
