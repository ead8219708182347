"""What others would do with the same answers, scores and prices: each is fitted on some questions, then played on any.

    single      one model for everything
    router      RouteLLM (Ong et al., 2024): the question alone decides between a weak and a strong model
    agreement   two cheap models; where they say the same that is the answer, else a third is asked
    frugalgpt   FrugalGPT (Chen et al., 2023): chains of exactly three models in any order, a brute grid of quantiles,
                finished by a simplex search
    routing     cascade routing (Dekoninck et al., ICML 2025): at each step the set of models with the highest expected
                best quality less a price on cost; of it the cheapest that is not asked yet
    oracle      knows which answers are right, asks the cheapest of the best

`Fitted.play` takes what is known of some questions, never their labels; `Played.of` looks those up afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.learning.answer_scorer import MICROS_AN_ANSWER, SEED, Known
from cascade.learning.table import EvaluationTable, Numbers

Mask = npt.NDArray[np.bool_]
STEPS = 40  # of the brute grid, a threshold
DRAWS = 16
SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Played:
    """Which models were asked and whose answer was shown."""

    asked: Mask  # (questions, models)
    shown: npt.NDArray[np.int_]  # (questions,) place of a model
    scored: bool = True  # the answers were: that costs too

    def of(self, quality: Numbers, cost_micros: Numbers) -> tuple[Numbers, Numbers]:
        """(questions,) quality of what was shown, cost of all that was asked."""
        scoring = self.asked * (MICROS_AN_ANSWER if self.scored else 0.0)
        cost = (
            ((cost_micros + scoring) * self.asked).sum(axis=1)
            if self.scored
            else (cost_micros * self.asked).sum(axis=1)
        )
        return quality[np.arange(len(quality)), self.shown], cost


@dataclass(frozen=True, slots=True)
class Fitted:
    told: str  # what was chosen, in words
    play: Callable[[Known], Played]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a peer is fitted on, and what it has to reach: the best single model's quality, as cheaply as it can."""

    known: Known
    models: tuple[str, ...]
    quality: Numbers
    cost_micros: Numbers

    @property
    def best(self) -> int:
        return int(self.quality.mean(axis=0).argmax())

    @property
    def wanted(self) -> float:
        return float(self.quality[:, self.best].mean())

    def means(self, played: Played) -> tuple[float, float]:
        quality, cost = played.of(self.quality, self.cost_micros)
        return float(quality.mean()), float(cost.mean())

    def cheapest(self, fitted: Sequence[Fitted]) -> Fitted:
        """Of those that reach the best single model's quality; that model where none is cheaper."""
        found = [single(self, self.best), *fitted]
        means = [self.means(each.play(self.known)) for each in found]
        return min(zip(means, found, strict=True), key=lambda pair: (pair[0][0] < self.wanted - SLACK, pair[0][1]))[1]


def single(lesson: Lesson, model: int) -> Fitted:
    def play(known: Known) -> Played:
        asked = np.zeros(known.prior.shape, bool)
        asked[:, model] = True
        return Played(asked, np.full(len(asked), model), scored=False)

    return Fitted(lesson.models[model], play)


def oracle(quality: Numbers, cost_micros: Numbers) -> Played:
    """Where no answer is right, the cheapest of the equally bad."""
    beaten = quality < quality.max(axis=1, keepdims=True)
    shown = np.where(beaten, np.inf, cost_micros).argmin(axis=1)
    return Played(_one_hot(shown, quality.shape[1]), shown, scored=False)


def router(lesson: Lesson) -> Fitted:
    return lesson.cheapest(routers(lesson))


def routers(lesson: Lesson) -> list[Fitted]:
    strong = lesson.best
    found = []
    for weak in range(len(lesson.models)):
        gain = lesson.known.prior[:, strong] - lesson.known.prior[:, weak]
        for limit in np.quantile(gain, np.linspace(0, 1, 41)) if weak != strong else ():
            found.append(_two_models(lesson, weak, strong, float(limit)))
    return found


def _two_models(lesson: Lesson, weak: int, strong: int, limit: float) -> Fitted:
    def play(known: Known) -> Played:
        shown = np.where(known.prior[:, strong] - known.prior[:, weak] >= limit, strong, weak)
        return Played(_one_hot(shown, known.prior.shape[1]), shown, scored=False)

    return Fitted(f"{lesson.models[weak]} or {lesson.models[strong]}", play)


def agreement(lesson: Lesson) -> Fitted:
    return lesson.cheapest(agreements(lesson))


def agreements(lesson: Lesson) -> list[Fitted]:
    count = len(lesson.models)
    found = []
    for a, b in itertools.combinations(range(count), 2):
        alike = lesson.known.read.alike[:, a, b]
        if (alike > 0).any():
            limits = np.unique(np.quantile(alike[alike > 0], np.linspace(0, 0.95, 12)))
            found += [_agreeing(lesson, a, b, c, float(limit)) for c in range(b + 1, count) for limit in limits]
    return found


def _agreeing(lesson: Lesson, a: int, b: int, last: int, limit: float) -> Fitted:
    def play(known: Known) -> Played:
        agreed = known.read.alike[:, a, b] >= limit
        asked = np.zeros(known.prior.shape, bool)
        asked[:, [a, b]], asked[:, last] = True, ~agreed
        return Played(asked, np.where(agreed, b, last), scored=False)

    names = lesson.models
    return Fitted(f"{names[a]} + {names[b]}, else {names[last]}", play)


def chain(models: Sequence[int], thresholds: Sequence[float], names: Sequence[str]) -> Fitted:
    """By the accept rule on each answer's own score."""

    def play(known: Known) -> Played:
        asked, shown = np.zeros(known.prior.shape, bool), np.full(len(known.prior), models[-1])
        going = np.ones(len(shown), bool)
        for model, threshold in zip(models, thresholds, strict=True):
            asked[going, model] = True
            accepted = going & (known.score[:, model] >= threshold)
            shown[accepted] = model
            going &= ~accepted
        return Played(asked, shown)

    told = ", ".join(f"{names[m]} from {t:.2f}" for m, t in zip(models[:-1], thresholds[:-1], strict=True))
    return Fitted(f"{told}, {names[models[-1]]}" if told else names[models[-1]], play)


def frugalgpt(lesson: Lesson, budgets: int = 10) -> Fitted:
    """The cheapest that reaches the best single model's quality, of those its procedure finds at several budgets."""
    if len(lesson.models) < 2:
        return single(lesson, lesson.best)
    top = float(lesson.cost_micros[:, lesson.best].mean())
    grids = _grids(lesson)
    found = [_within(lesson, grids, float(budget)) for budget in np.linspace(top / budgets, top, budgets)]
    return lesson.cheapest([fitted for fitted in found if fitted])


def frugalgpt_within(lesson: Lesson, budget_micros: float) -> Fitted | None:
    """Its procedure: the most quality within a mean cost; None: nothing is so cheap."""
    return _within(lesson, _grids(lesson), budget_micros)


def _grids(lesson: Lesson) -> list[tuple[tuple[int, ...], tuple[Numbers, Numbers, Numbers]]]:
    orders = itertools.permutations(_worth_trying(lesson), min(3, len(lesson.models)))
    return [(order, _brute(lesson, order)) for order in orders]


def _within(
    lesson: Lesson, grids: list[tuple[tuple[int, ...], tuple[Numbers, Numbers, Numbers]]], budget: float
) -> Fitted | None:
    reached = [np.where(cost <= budget, quality, -1) for _, (quality, cost, _) in grids]
    best = int(np.argmax([each.max() for each in reached]))
    if reached[best].max() < 0:
        return None
    order, (_, _, limits) = grids[best]
    return chain(order, [*_simplex(lesson, order, limits[:, reached[best].argmax()], budget), 0.0], lesson.models)


def _worth_trying(lesson: Lesson, most: int = 6) -> list[int]:
    """The undominated models, then the best, as many as a search through all orders or sets of them can bear."""
    quality, cost = lesson.quality.mean(axis=0), lesson.cost_micros.mean(axis=0)
    beaten = [any(quality[o] >= quality[m] and cost[o] < cost[m] for o in range(len(cost))) for m in range(len(cost))]
    return sorted(sorted(range(len(cost)), key=lambda m: (beaten[m], -quality[m]))[:most])


def _brute(lesson: Lesson, order: Sequence[int]) -> tuple[Numbers, Numbers, Numbers]:
    """Quality, cost and thresholds of a grid: quantiles of the first, and of the second among those it rejects."""
    score, cost = lesson.known.score[:, order], lesson.cost_micros[:, order].cumsum(axis=1)
    worth = np.stack([lesson.quality[:, order], cost])  # (2, questions, tiers)
    points = []
    for first in np.quantile(score[:, 0], np.linspace(0, 1, STEPS)):
        taken = score[:, 0] >= first
        kept = worth[:, taken, 0].sum(axis=1)
        rest = np.flatnonzero(~taken)
        rest = rest[np.argsort(score[rest, 1], kind="stable")]
        if not len(rest) or len(order) < 3:
            points.append(np.array([*(kept + worth[:, rest, -1].sum(axis=1)), first, 0.0]))
            continue
        seconds = np.quantile(score[rest, 1], np.linspace(0, 1, STEPS))
        split = np.searchsorted(score[rest, 1], seconds)
        before = np.pad(worth[:, rest, 2].cumsum(axis=1), ((0, 0), (1, 0)))[:, split]
        passed = np.pad(worth[:, rest, 1].cumsum(axis=1), ((0, 0), (1, 0)))
        sums = kept[:, None] + before + passed[:, -1:] - passed[:, split]
        points += [np.array([*sums[:, place], first, second]) for place, second in enumerate(seconds)]
    quality, spent, *limits = np.array(points).T
    return quality / len(score), spent / len(score), np.array(limits[: len(order) - 1])


def _simplex(lesson: Lesson, order: Sequence[int], start: Numbers, budget: float) -> list[float]:
    from scipy.optimize import fmin

    def loss(limits: Numbers) -> float:
        quality, cost = lesson.means(chain(order, [*limits, 0.0], lesson.models).play(lesson.known))
        return -quality + (1.0 if cost > budget else 0.0)

    return [float(limit) for limit in np.clip(fmin(loss, start, disp=False, maxiter=60), 0, 1)]


def routing(lesson: Lesson) -> Fitted:
    """A price on cost by bisection: the highest at which the wanted quality is reached."""
    models = _worth_trying(lesson, most=5)
    prices = np.geomspace(1e-6, 1e-1, 16) / max(float(lesson.cost_micros[:, lesson.best].mean()) / 1000, 1e-9)
    spread = (lesson.known.score - lesson.known.prior).std(axis=0)[models]
    cost = lesson.cost_micros.mean(axis=0)[models]
    return lesson.cheapest([_routed(lesson, models, spread, cost, float(price)) for price in prices])


def _routed(lesson: Lesson, models: list[int], spread: Numbers, cost: Numbers, price: float) -> Fitted:
    normal = np.random.default_rng(SEED).standard_normal((DRAWS, len(models)))
    sets = [np.array(s, bool) for s in itertools.product((False, True), repeat=len(models)) if any(s)]

    def play(known: Known) -> Played:
        count = len(known.prior)
        asked, going = np.zeros((count, len(models)), bool), np.ones(count, bool)
        before, after = known.prior[:, models], known.score[:, models]
        for _ in models:
            belief = np.where(asked[:, None], after[:, None], before[:, None] + normal * spread)
            worth = np.full((len(sets), count), -np.inf)
            for place, members in enumerate(sets):
                fits = going & ~(asked & ~members).any(axis=1)
                worth[place, fits] = belief[fits][:, :, members].max(axis=2).mean(axis=1) - price * cost[members].sum()
            wanted = np.array(sets)[worth.argmax(axis=0)]
            missing = wanted & ~asked
            going &= missing.any(axis=1)
            asked[going, np.where(missing, cost, np.inf).argmin(axis=1)[going]] = True
            if not going.any():
                break
        every = np.zeros(known.prior.shape, bool)
        every[:, models] = asked
        return Played(every, np.where(every, known.score, -1).argmax(axis=1))

    return Fitted(f"of {len(models)} models at {price:.2g} a micro-dollar", play)


def table(lesson: Lesson) -> EvaluationTable:
    """Each answer with its own score, for the optimiser."""
    count = len(lesson.quality)
    return EvaluationTable(
        questions=tuple(map(str, range(count))),
        models=lesson.models,
        score=lesson.known.score,
        quality=lesson.quality,
        cost_micros=lesson.cost_micros + MICROS_AN_ANSWER,
        seconds=np.zeros_like(lesson.quality),
        weight=np.ones(count),
        segment=("",) * count,
    )


def _one_hot(shown: npt.NDArray[np.int_], models: int) -> Mask:
    return np.asarray(np.arange(models) == shown[:, None])
