"""Which models to ask, in which order and with which thresholds: the door to what `cascade/learning/` knows.

    table = EvaluationTable(...)                        see cascade.learning.table
    found = optimise(table, Goal(quality=0.84))         or Goal(budget_micros=500), latency_seconds=8, floor=0.6
    found.chain, found.thresholds, found.by_segment     a strategy; nothing is deployed here
    found.quality, found.cost_micros, found.saved       expected on questions not seen, with 95 % intervals
    found.frontier                                      Choices, cheapest first, to plot
    replay(table, found.chain, found.thresholds)        what it would have done to recorded questions

The chain and thresholds are fitted on the whole table; what to expect of them is measured by cross-fitting: chosen on
four fifths of the questions, measured on the fifth, so that the figures are not flattered by the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascade.learning import intervals
from cascade.learning.crossfitting import Unseen, cross_fitted
from cascade.learning.intervals import Estimate
from cascade.learning.replaying import Person, Replayed, replay
from cascade.learning.search import Choice, Goal, best_choice, frontier
from cascade.learning.segments import thresholds_by_segment
from cascade.learning.table import BadTable, EvaluationTable, check_learnable, undominated

__all__ = [
    "BadTable", "Choice", "Estimate", "EvaluationTable", "Goal", "Person", "Proposal", "Replayed", "Unreachable",
    "Unseen", "optimise", "replay",
]  # fmt: skip

MOST_TIERS = 4


class Unreachable(ValueError):
    """No chain of these models meets the goal; the message says how far one comes."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A strategy and what to expect of it."""

    chain: tuple[str, ...]  # model names, in the order they are asked
    thresholds: tuple[float, ...]  # one a tier; the last is the floor below which a person answers
    by_segment: Mapping[str, tuple[float, ...]]  # in place of `thresholds`, for segments with questions enough
    best_single: str  # the model of the highest mean quality, with which it is compared
    questions: int
    quality: Estimate  # mean, 0..1, on questions that did not choose it
    quality_difference: Estimate  # to the best single model, paired
    cost_micros: Estimate  # mean a question, rejected attempts included
    saved: Estimate  # share of the best single model's cost; negative: it costs more
    frontier: tuple[Choice, ...]  # cheapest first; fitted and measured on the same questions
    dominated: tuple[str, ...]  # models left out: another is cheaper and better
    unseen: Unseen  # question by question, to be paired with any other strategy's


def optimise(table: EvaluationTable, goal: Goal, *, most_tiers: int = MOST_TIERS, segments: bool = False) -> Proposal:
    """The best price-ordered chain of up to `most_tiers` models. Deterministic.

    Raises BadTable where the table cannot be learnt from, Unreachable where no chain meets the goal.
    """
    check_learnable(table)
    models = undominated(table)
    chosen = best_choice(table, models, goal, most_tiers)
    points = frontier(table, models, goal)
    if chosen is None:
        raise Unreachable(_how_far(points, goal))
    by_segment = thresholds_by_segment(table, chosen, goal) if segments else {}
    played = cross_fitted(table, goal, most_tiers, segments=segments, otherwise=chosen)
    best = int(table.mean_quality.argmax())
    quality, cost = table.quality[:, best], table.cost_micros[:, best]
    samples, weight = intervals.drawn(table.weight), table.weight
    return Proposal(
        chain=chosen.chain,
        thresholds=chosen.thresholds,
        by_segment=by_segment,
        best_single=table.models[best],
        questions=len(table.questions),
        quality=intervals.of_mean(played.quality, samples, weight),
        quality_difference=intervals.of_mean(played.quality - quality, samples, weight),
        cost_micros=intervals.of_mean(played.cost_micros, samples, weight),
        saved=intervals.of_saving(played.cost_micros, cost, samples, weight),
        frontier=tuple(points),
        dominated=tuple(model for model in table.models if model not in models),
        unseen=played,
    )


def _how_far(points: list[Choice], goal: Goal) -> str:
    if not points:
        return f"no chain answers 95 % of the questions within {goal.latency_seconds:g} seconds"
    if goal.budget_micros is not None:
        cheapest = f"the cheapest costs {points[0].cost_micros:g}"
        return f"no chain costs {goal.budget_micros:g} micro-dollars a question; {cheapest}"
    return f"no chain reaches a mean quality of {goal.quality:g}; the best reaches {points[-1].quality:.4f}"
