"""Estimates for people: shares as per cent, quality differences as points, costs as dollars for 1,000 turns.

An estimate is {"mean", "low", "high"}, low and high of its 95 % interval.
"""

from __future__ import annotations

from django import template

register = template.Library()
Told = dict[str, float]


@register.filter
def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


@register.filter
def per_thousand(micros: float | None) -> str:
    """Of micro-dollars a turn."""
    if micros is None:
        return "–"
    sign, amount = "-" if micros < 0 else "", abs(micros) / 1000
    return f"{sign}${amount:.2f}" if amount >= 1 else f"{sign}${amount:.4f}"


@register.filter
def share(told: Told) -> str:
    return percent(told["mean"])


@register.filter
def interval(told: Told) -> str:
    return f"95 %: {percent(told['low'])} to {percent(told['high'])}"


@register.filter
def points(told: Told) -> str:
    return f"{100 * told['mean']:+.1f} points"


@register.filter
def point_interval(told: Told) -> str:
    return f"95 %: {100 * told['low']:+.1f} to {100 * told['high']:+.1f} points"


@register.filter
def thousand(told: Told) -> str:
    return per_thousand(told["mean"])
