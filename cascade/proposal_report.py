"""What a search for a strategy tells, as JSON: figures beside the live strategy's, each model's worth, a promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from cascade.learning import intervals, worth
from cascade.learning.guarantee import CannotPromise, Promised
from cascade.learning.replaying import Replayed
from cascade.learning.table import EvaluationTable
from cascade.learning.worth import Worth
from cascade.models import CascadeStrategy
from cascade.optimiser import Choice, Estimate, Goal, Proposal, Unseen
from cascade.turn_table import Recorded


def about(recorded: Recorded, table: EvaluationTable) -> dict[str, Any]:
    """What the search rests on."""
    free = ~recorded.explored.any(axis=1)
    return {
        "turns": len(recorded.table.questions),
        "complete": len(table.questions),
        "explored": int((~free).sum()),
        "judged_by": dict(recorded.judged_by),
        "other_weights": recorded.other_weights,
        "unknown_segments": sorted({*recorded.table.segment} - {*table.segment, ""}),
        "models": [
            {"model": model, "quality": float(quality), "cost_micros": float(cost)}
            for model, quality, cost in zip(table.models, table.mean_quality, table.mean_cost_micros, strict=True)
        ],
        "left_out": [model for model in recorded.table.models if model not in table.models],
    }


def compared(table: EvaluationTable, present: Replayed, live: CascadeStrategy, found: Proposal) -> dict[str, Any]:
    """With the live strategy, on questions that did not choose what was found."""
    told_of = asks(found.chain, found.thresholds, found.by_segment)
    return beside(table, present, live, found.unseen, told_of) | {
        "best_single": found.best_single,
        "saved_vs_best_single": told(found.saved),
        "dominated": list(found.dominated),
        "frontier": [point(choice) for choice in found.frontier],
    }


def beside(
    table: EvaluationTable,
    present: Replayed,
    live: CascadeStrategy,
    other: Replayed | Unseen,
    proposed: str,
) -> dict[str, Any]:
    samples, weight = intervals.drawn(table.weight), table.weight
    return {
        "present": {
            "version": live.version,
            "asks": live.asks,
            "quality": told(intervals.of_mean(present.quality, samples, weight)),
            "cost_micros": told(intervals.of_mean(present.cost_micros, samples, weight)),
        },
        "proposed": {
            "asks": proposed,
            "quality": told(intervals.of_mean(other.quality, samples, weight)),
            "cost_micros": told(intervals.of_mean(other.cost_micros, samples, weight)),
        },
        "saved": told(intervals.of_saving(other.cost_micros, present.cost_micros, samples, weight)),
        "quality_difference": told(intervals.of_mean(other.quality - present.quality, samples, weight)),
    }


def worths(table: EvaluationTable, goal: Goal) -> dict[str, Any]:
    """What is lost without each model, and what one, two, three of them reach."""
    return {
        "worth": [
            {
                "model": each.model,
                "dearer": told(each.dearer),
                "worse": told(each.worse),
                "used": each.used,
                "verdict": verdict(each),
            }
            for each in worth.worths(table, goal)
        ],
        "lengths": [
            {"tiers": each.tiers, "cost_micros": told(each.cost_micros), "quality": told(each.quality)}
            for each in worth.by_length(table, goal)
        ],
    }


def verdict(each: Worth) -> str:
    """Whether the model is worth its place, as far as the intervals tell."""
    if not each.used:
        return "no: nothing that was found asks it"
    cheaper, better = each.dearer.low > 0, each.worse.low > 0
    dearer, worse = each.dearer.high < 0, each.worse.high < 0
    if cheaper and not worse:
        return "yes: cheaper with it" + (", and better" if better else "")
    if better and not dearer:
        return "yes: better with it"
    if better or cheaper:
        return "a trade: better with it, and dearer" if better else "a trade: cheaper with it, and worse"
    return "not shown"


def kept(promise: Promised, segments: Mapping[str, Promised | CannotPromise]) -> dict[str, Any]:
    """The strictness that keeps a promise, and of each segment on its own."""
    return {
        "threshold": promise.threshold,
        "accepted": promise.accepted,
        "bad": promise.bad,
        "segments": [
            {"segment": name, "threshold": told.threshold, "refusal": ""}
            if isinstance(told, Promised)
            else {"segment": name, "threshold": None, "refusal": str(told)}
            for name, told in segments.items()
        ],
    }


def point(choice: Choice) -> dict[str, Any]:
    return {
        "asks": asks(choice.chain, choice.thresholds),
        "quality": choice.quality,
        "cost_micros": choice.cost_micros,
    }


def asks(
    chain: tuple[str, ...], thresholds: tuple[float, ...], by_segment: Mapping[str, tuple[float, ...]] | None = None
) -> str:
    """The tiers in one line."""
    limits = {"": thresholds} | dict(by_segment or {})
    tiers = []
    for tier, model in enumerate(chain):
        own = {name: limit[tier] for name, limit in limits.items() if not name or limit[tier] != thresholds[tier]}
        tiers.append(f"{model} ({', '.join(f'{name} ≥ {limit:.3g}'.lstrip() for name, limit in own.items())})")
    return " → ".join(tiers)


def told(estimate: Estimate) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), astuple(estimate), strict=True))
