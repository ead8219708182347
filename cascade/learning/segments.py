"""Thresholds of its own for each segment of customers, under one goal for all of them together.

Money is best spent where it buys the most quality: the segments' frontiers are added up (every sum of a point of each,
the beaten ones dropped), and the goal picks from the sum. A segment of few questions keeps the thresholds of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cascade.learning.search import Choice, Goal, Stops, pareto
from cascade.learning.table import EvaluationTable, Numbers

LEAST_QUESTIONS = 100  # of a segment, to have thresholds of its own; as many as its weighted ones are worth
QUANTILES = {1: 1, 2: 100, 3: 30, 4: 12}  # by tiers
POINTS = 200  # of a frontier that are kept

Limits = dict[str, tuple[float, ...]]


def thresholds_by_segment(table: EvaluationTable, chosen: Choice, goal: Goal) -> Mapping[str, tuple[float, ...]]:
    """For each segment with LEAST_QUESTIONS or more, the thresholds of its own for the chosen chain, where they help.

    A bound on time is kept in each segment.
    """
    held = np.array(table.segment)
    names = sorted(name for name in set(table.segment) - {""} if _worth(table.weight[held == name]) >= LEAST_QUESTIONS)
    rest = table.rows(~np.isin(held, names)) if names else table
    total = table.weight.sum()
    sums: list[tuple[float, float, Limits]] = [(0.0, 0.0, {})]
    if len(rest.questions) and names:
        share = rest.weight.sum() / total
        value = _valued(rest, chosen, goal)
        sums = [(value.quality * share, value.cost_micros * share, {})]
    for name in names:
        part = table.rows(held == name)
        share = part.weight.sum() / total
        points = [_valued(part, chosen, goal), *_points(part, chosen, goal)]
        sums = _added(sums, points, share, name)
    return _picked(sums, chosen, goal) if names else {}


def _worth(weight: Numbers) -> float:
    """How many questions of equal weight tell as much (Kish, 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _points(table: EvaluationTable, chosen: Choice, goal: Goal) -> list[Choice]:
    stops = Stops(table, chosen.chain, goal)
    return list(stops.unbeaten(stops.candidates(QUANTILES[len(chosen.chain)])))


def _valued(table: EvaluationTable, chosen: Choice, goal: Goal) -> Choice:
    """What the thresholds of all are to these questions."""
    stops = Stops(table, chosen.chain, goal)
    means, _ = next(stops.choices([np.array([each]) for each in chosen.thresholds[:-1]]))
    return stops.choice(chosen.thresholds[:-1], means.reshape(3))


def _added(
    sums: list[tuple[float, float, Limits]], points: list[Choice], share: float, name: str
) -> list[tuple[float, float, Limits]]:
    quality = np.add.outer([each[0] for each in sums], [point.quality * share for point in points])
    cost = np.add.outer([each[1] for each in sums], [point.cost_micros * share for point in points])
    kept = pareto(cost.ravel(), quality.ravel())
    if len(kept) > POINTS:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, POINTS).round().astype(int))]
    found = []
    for place in kept:
        before, point = divmod(int(place), len(points))
        limits = {**sums[before][2], name: points[point].thresholds}
        found.append((float(quality.ravel()[place]), float(cost.ravel()[place]), limits))
    return found


def _picked(sums: list[tuple[float, float, Limits]], chosen: Choice, goal: Goal) -> Limits:
    quality, cost = (np.array([each[place] for each in sums]) for place in (0, 1))
    ranked: list[tuple[tuple[float, float, int, tuple[str, ...]], Limits]] = [(goal.rank(chosen), {})] + [
        (goal.rank(replace(chosen, quality=float(quality[i]), cost_micros=float(cost[i]))), sums[i][2])
        for i in np.flatnonzero(goal.allows(quality, cost, np.zeros_like(cost)))
    ]
    limits = min(ranked, key=lambda each: each[0])[1]
    return {name: own for name, own in limits.items() if own != chosen.thresholds}
