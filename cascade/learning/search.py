"""The best chain and thresholds of a table: every chain in order of price, every threshold that makes a difference.

A question that stops at a tier is worth that tier's answer and has paid every tier up to it, so the totals of a choice
of thresholds are sums over questions of what depends on one tier alone. Cumulative tables over the sorted scores hold
them for all choices at once: with n questions, n choices for two tiers and n x n for three, all of them looked at; for
four tiers 100 quantiles of each, then each tier's threshold anew over all scores until none improves. The last tier's
threshold is the floor below which a person answers. The same table gives the same result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.learning.replaying import Person
from cascade.learning.table import EvaluationTable, Numbers

GRID = 100  # quantiles a tier of a chain of four
COARSE = {1: 1, 2: 100, 3: 30, 4: 12}  # quantiles a tier where a quick look will do, by the chain's length
BLOCK = 1 << 16  # choices looked at together: they stay in the processor's cache
NOBODY = Person()
PRICES = np.array([0, *np.geomspace(0.01, 100, 13)])  # of quality, in budgets
REFINED = 5  # chains of four tiers whose thresholds are refined
SLACK = 1e-9  # sums in another order differ by less
LATE_SHARE = 0.05  # of the questions may take longer than a latency bound


@dataclass(frozen=True, slots=True)
class Goal:
    """The most quality within a mean cost, or the least cost at a mean quality; with or without a bound on time."""

    budget_micros: float | None = None  # mean cost a question; None: `quality` is asked for instead
    quality: float | None = None
    latency_seconds: float | None = None  # 95 % of the questions are answered within it; None: no bound
    floor: float = 0.0  # the last tier's threshold
    person: Person = NOBODY

    def __post_init__(self) -> None:
        if (self.budget_micros is None) == (self.quality is None):
            raise ValueError("a budget or a quality is needed, not both")

    def allows(self, quality: Numbers, cost: Numbers, late: Numbers) -> npt.NDArray[np.bool_]:
        fits = late <= LATE_SHARE + SLACK
        if self.budget_micros is not None:
            return np.asarray(fits & (cost <= self.budget_micros * (1 + SLACK)))
        return np.asarray(fits & (quality >= (self.quality or 0.0) - SLACK))

    def rank(self, choice: Choice) -> tuple[float, float, int, tuple[str, ...]]:
        """The least is the best."""
        quality, cost = round(choice.quality, 9), round(choice.cost_micros, 6)
        first = (-quality, cost) if self.budget_micros is not None else (cost, -quality)
        return *first, len(choice.chain), choice.chain


@dataclass(frozen=True, slots=True)
class Choice:
    """A chain with its thresholds and the means that the table gives them."""

    chain: tuple[str, ...]
    thresholds: tuple[float, ...]  # one a tier, the last the floor
    quality: float
    cost_micros: float


class Stops:
    """What each question is worth, costs and delays where it stops at a tier of one chain; (3, tiers, questions)."""

    def __init__(self, table: EvaluationTable, chain: Sequence[str], goal: Goal) -> None:
        self.chain, self.floor = tuple(chain), goal.floor
        asked = table.columns(chain)
        self.scores = asked.score.T
        quality, cost = asked.quality.T.copy(), asked.cost_micros.T.cumsum(axis=0)
        bound = np.inf if goal.latency_seconds is None else goal.latency_seconds
        late = (asked.seconds.T.cumsum(axis=0) > bound).astype(float)
        below = self.scores[-1] < goal.floor
        quality[-1, below] = goal.person.quality
        cost[-1, below] += goal.person.cost_micros
        self.values = np.stack([quality, cost, late]) * (table.weight / table.weight.sum())

    def candidates(self, most: int | None = None) -> list[Numbers]:
        """For each tier but the last the thresholds to try, ascending: its distinct scores, or quantiles of them."""
        found = [np.unique(scores[scores >= 0]) for scores in self.scores[:-1]]
        return [_thinned(each, most) if most else each for each in found]

    def choices(self, thresholds: Sequence[Numbers]) -> Iterator[tuple[Numbers, tuple[int, ...]]]:
        """The means (3, ...) of all combinations in blocks, and where in the combinations each block begins."""
        sizes = [len(each) for each in thresholds]
        passed = [np.searchsorted(each, row, side="right") for each, row in zip(thresholds, self.scores, strict=False)]
        if not sizes:
            yield self.values.sum(axis=2), ()
            return
        step = max(1, BLOCK // max(1, int(np.prod(sizes[1:]))))
        for low in range(0, sizes[0], step):
            high = min(low + step, sizes[0])
            block = np.clip(passed[0] - low, 0, high - low)
            yield self._means([block, *passed[1:]], [high - low, *sizes[1:]]), (low,) + (0,) * (len(sizes) - 1)

    def _means(self, passed: list[npt.NDArray[np.int_]], sizes: list[int]) -> Numbers:
        """`passed`: how many of its tier's thresholds each question passes. Returns (3, *sizes)."""
        last = self.values[:, -1]
        means = np.zeros((3, *sizes))
        for kind in range(3 if self.values[2].any() else 2):  # nobody is late where there is no bound
            total = np.full((1,) * len(sizes), last[kind].sum())
            for tier in range(len(sizes)):
                worth = self.values[kind, tier] - last[kind]
                total = total + _stopped(worth, passed[: tier + 1], sizes[: tier + 1], len(sizes))
            means[kind] = total
        return means

    def unbeaten(self, thresholds: Sequence[Numbers]) -> Iterator[Choice]:
        """Of all combinations those that no other of their block beats and that keep the bound on time."""
        for means, begin in self.choices(thresholds) if all(map(len, thresholds)) else ():
            flat = means.reshape(3, -1)
            for place in pareto(flat[1], np.where(flat[2] <= LATE_SHARE + SLACK, flat[0], -np.inf)):
                yield self.choice(_limits_at(thresholds, begin, means, place), flat[:, place])

    def choice(self, thresholds: Sequence[float], means: Numbers) -> Choice:
        return Choice(self.chain, (*map(float, thresholds), self.floor), float(means[0]), float(means[1]))


def _stopped(worth: Numbers, passed: list[npt.NDArray[np.int_]], sizes: list[int], axes: int) -> Numbers:
    """The sums of `worth` over those who pass the last of these tiers and none before, for all thresholds."""
    padded = [size + 1 for size in sizes]
    places = np.ravel_multi_index(passed, padded)
    sums = np.bincount(places, weights=worth, minlength=int(np.prod(padded))).reshape(padded)
    for axis in range(len(sizes) - 1):
        sums = sums.cumsum(axis=axis).take(range(sizes[axis]), axis=axis)  # rejected there
    below = sums.cumsum(axis=-1)
    accepted = below[..., -1:] - below[..., :-1]
    return np.asarray(accepted.reshape(accepted.shape + (1,) * (axes - len(sizes))))


def _limits_at(thresholds: Sequence[Numbers], begin: tuple[int, ...], means: Numbers, place: int) -> list[float]:
    """The thresholds of one choice of a block, by its place when the block is laid flat."""
    if not thresholds:
        return []
    within = np.unravel_index(place, means.shape[1:])
    return [float(each[start + at]) for each, start, at in zip(thresholds, begin, within, strict=True)]


def _thinned(scores: Numbers, most: int) -> Numbers:
    if len(scores) <= most:
        return scores
    return np.asarray(scores[np.unique(np.linspace(0, len(scores) - 1, most).round().astype(int))])


def chains(models: Sequence[str], most_tiers: int) -> Iterator[tuple[str, ...]]:
    """All chains of up to `most_tiers` of these models, which come cheapest first."""
    for length in range(1, min(most_tiers, len(models)) + 1):
        yield from itertools.combinations(models, length)


def best_thresholds(stops: Stops, goal: Goal, most: int | None = None) -> Choice | None:
    """The best of all combinations of thresholds of one chain; None: no combination meets the goal."""
    return _best_of(stops, goal, stops.candidates(most))


def _best_of(stops: Stops, goal: Goal, thresholds: Sequence[Numbers]) -> Choice | None:
    best: Choice | None = None
    if any(len(each) == 0 for each in thresholds):
        return None
    for means, begin in stops.choices(thresholds):
        flat = means.reshape(3, -1)
        allowed = np.flatnonzero(goal.allows(*flat))
        if not allowed.size:
            continue
        quality, cost = flat[0, allowed], flat[1, allowed]
        first, second = (-quality, cost) if goal.budget_micros is not None else (cost, -quality)
        ties = np.flatnonzero(first <= first.min() + SLACK)
        place = allowed[ties[second[ties].argmin()]]
        found = stops.choice(_limits_at(thresholds, begin, means, place), flat[:, place])
        if best is None or goal.rank(found) < goal.rank(best):
            best = found
    return best


def refined(stops: Stops, goal: Goal, start: Choice) -> Choice:
    """`start` with one tier's threshold after the other chosen anew among all scores, until none improves."""
    best, everything = start, stops.candidates()
    while True:
        before = best
        for tier, scores in enumerate(everything):
            limits = [
                scores if place == tier else np.array([best.thresholds[place]]) for place in range(len(everything))
            ]
            found = _best_of(stops, goal, limits)
            if found and goal.rank(found) < goal.rank(best):
                best = found
        if goal.rank(best) >= goal.rank(before):
            return best


def quick_choice(table: EvaluationTable, models: Sequence[str], goal: Goal, most_tiers: int = 4) -> Choice | None:
    """`best_choice` over the quantiles of COARSE."""
    every = (best_thresholds(Stops(table, c, goal), goal, COARSE[len(c)]) for c in chains(models, most_tiers))
    return min(filter(None, every), key=goal.rank, default=None)


def best_choice(table: EvaluationTable, models: Sequence[str], goal: Goal, most_tiers: int = 4) -> Choice | None:
    """The best chain of these models, cheapest first, and its thresholds; None: no chain meets the goal.

    A chain that cannot beat what a quick look found, even if it knew the labels, is passed over.
    """
    best = quick_choice(table, models, goal, most_tiers)
    found = [best] if best else []
    coarse = [each for each in found if len(each.chain) > 3]
    for chain in chains(models, most_tiers):
        stops = Stops(table, chain, goal)
        if best and _hopeless(stops, goal, best):
            continue
        if choice := best_thresholds(stops, goal, GRID if len(chain) > 3 else None):
            (coarse if len(chain) > 3 else found).append(choice)
            best = min(choice, best or choice, key=goal.rank)
    for choice in sorted(coarse, key=goal.rank)[:REFINED]:
        found.append(refined(Stops(table, choice.chain, goal), goal, choice))
    return min(found, key=goal.rank) if found else None


def _hopeless(stops: Stops, goal: Goal, best: Choice) -> bool:
    """Whether no way to stop in this chain beats `best`: by the Lagrangian bound, the sharpest of PRICES."""
    quality, cost = stops.values[0], stops.values[1]
    if goal.budget_micros is not None:
        prices = PRICES / max(goal.budget_micros, SLACK)
        most = min((quality - p * cost).max(axis=0).sum() + p * goal.budget_micros * (1 + SLACK) for p in prices)
        return bool(most < best.quality - 2 * SLACK)
    prices, wanted = PRICES * best.cost_micros, (goal.quality or 0.0) - SLACK
    least = max((cost - p * quality).min(axis=0).sum() + p * wanted for p in prices)
    return bool(least > best.cost_micros * (1 + SLACK) + 1e-6)


def frontier(table: EvaluationTable, models: Sequence[str], goal: Goal, most_tiers: int = 3) -> list[Choice]:
    """What no other choice beats at both mean cost and mean quality, cheapest first; at most 100 of them.

    Over the quantiles of COARSE, within the goal's bound on time. A frontier not deployed:
    `best_choice` looks more closely.
    """
    points: list[Choice] = []
    for chain in chains(models, most_tiers):
        stops = Stops(table, chain, goal)
        points += stops.unbeaten(stops.candidates(COARSE[len(chain)]))
    costs, qualities = (np.array([getattr(p, name) for p in points]) for name in ("cost_micros", "quality"))
    kept = [points[place] for place in pareto(costs, qualities)]
    return [kept[place] for place in np.unique(np.linspace(0, len(kept) - 1, 100).round().astype(int))] if kept else []


def pareto(cost: Numbers, quality: Numbers) -> npt.NDArray[np.int_]:
    """The places that no other beats, cheapest first."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    rises = np.concatenate([[True], best[1:] > best[:-1] + SLACK]) & np.isfinite(quality[order])
    return np.asarray(order[rises])
