"""Is another model worth it? What a cascade would cost and reach without each model, and with one, two, three of them.

Both cascades are chosen on four fifths of the questions and played on the fifth; the interval is that of the paired
difference. A model is worth its place where leaving it out costs more at a quality no better, or loses quality at a
cost no lower. `with_prices` and `with_model` make the table of a market that is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.learning import intervals
from cascade.learning.crossfitting import Unseen, cross_fitted
from cascade.learning.intervals import Estimate
from cascade.learning.search import Goal
from cascade.learning.table import BadTable, EvaluationTable, Numbers, check_learnable, undominated

SEED = 20230509


@dataclass(frozen=True, slots=True)
class Worth:
    """What happens when one model is left out."""

    model: str
    dearer: Estimate  # micro-dollars a question; positive: without it the goal costs more
    worse: Estimate  # quality; positive: without it quality is lower
    used: bool  # a chain of all models asks it


@dataclass(frozen=True, slots=True)
class Length:
    """The best of chains of at most so many tiers."""

    tiers: int
    cost_micros: Estimate
    quality: Estimate


def worths(table: EvaluationTable, goal: Goal, most_tiers: int = 3) -> tuple[Worth, ...]:
    """Of each model of the table, cheapest first. Raises BadTable."""
    check_learnable(table)
    whole = cross_fitted(table, goal, most_tiers)
    found = []
    for place in np.argsort(table.mean_cost_micros, kind="stable"):
        model = table.models[place]
        rest = tuple(other for other in table.models if other != model)
        if model not in whole.models or not rest:  # no fold ever asked it
            found.append(Worth(model, Estimate(0, 0, 0), Estimate(0, 0, 0), used=False))
            continue
        without = cross_fitted(table.columns(rest), goal, most_tiers)
        found.append(_worth(model, whole, without, table.weight))
    return tuple(found)


def by_length(table: EvaluationTable, goal: Goal, most_tiers: int = 4) -> tuple[Length, ...]:
    """Where the returns diminish: the goal met by one model, by chains of two, of three, of four."""
    check_learnable(table)
    samples = intervals.drawn(table.weight)
    found = []
    for tiers in range(1, min(most_tiers, len(undominated(table))) + 1):
        played = cross_fitted(table, goal, tiers)
        cost, quality = (
            intervals.of_mean(values, samples, table.weight) for values in (played.cost_micros, played.quality)
        )
        found.append(Length(tiers, cost, quality))
    return tuple(found)


def _worth(model: str, whole: Unseen, without: Unseen, weight: Numbers) -> Worth:
    samples = intervals.drawn(weight)
    dearer = intervals.of_mean(without.cost_micros - whole.cost_micros, samples, weight)
    worse = intervals.of_mean(whole.quality - without.quality, samples, weight)
    return Worth(model, dearer, worse, used=True)


def with_prices(table: EvaluationTable, factors: Mapping[str, float]) -> EvaluationTable:
    """What if these models cost so many times as much? Raises BadTable for a model that is not there."""
    table.columns(list(factors))
    if any(not factor >= 0 for factor in factors.values()):
        raise BadTable("a price is multiplied by a number that is not negative")
    return replace(table, cost_micros=table.cost_micros * np.array([factors.get(name, 1.0) for name in table.models]))


def with_model(table: EvaluationTable, name: str, *, quality: float, cost_micros: float, like: str) -> EvaluationTable:
    """What if there were a model of this mean quality and cost, else like a known one?

    It is right where `like` is, but for a random part of the answers, made right or wrong until the mean is reached;
    a changed answer gets the score of another of `like`'s of its kind. A quality between 0 and 1 counts as the chance
    of being right. Raises BadTable where nothing of the wanted kind is there to take scores from.
    """
    if like not in table.models:
        raise BadTable(f"model {like!r} is not in the table")
    place = table.models.index(like)
    chance, score = np.random.default_rng(SEED), table.score[:, place].copy()
    right = (chance.random(len(score)) < table.quality[:, place]).astype(float)
    missing = round((quality - float(np.average(right, weights=table.weight))) * len(right))
    changed: npt.NDArray[np.int_] = np.flatnonzero(right == (0 if missing > 0 else 1))
    changed = chance.permutation(changed)[: abs(missing)]
    donors = score[right == (1 if missing > 0 else 0)]
    if not 0 <= quality <= 1 or (len(changed) and not len(donors)):
        raise BadTable(f"{like!r} has no answers to imagine a model of quality {quality:g} from")
    if len(changed):
        right[changed], score[changed] = float(missing > 0), chance.choice(donors, len(changed))
    cost = table.cost_micros[:, place] * (cost_micros / max(float(table.mean_cost_micros[place]), 1e-12))
    columns = {"quality": right, "score": score, "cost_micros": cost, "seconds": table.seconds[:, place]}
    grown: dict[str, Any] = {key: np.column_stack([getattr(table, key), new]) for key, new in columns.items()}
    return replace(table, models=(*table.models, name), **grown)
