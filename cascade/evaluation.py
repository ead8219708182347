"""What a cascade is worth, honestly: everything fitted on some questions, measured on others, beside its peers.

    found = evaluate(read(train), read(data), encode)      see cascade.learning.records and .encoding
    found.as_json(), found.table()

Scorer, chains and thresholds see the first file alone; the second is only played. A cost is the recorded cost of every
model that was asked, rejected answers included, and of scoring them. A saving is told together with the difference in
quality to the best single model of the first file, on the same questions (paired), each with a 95 % bootstrap interval.
It counts where that difference is at least -0.5 points in the mean and -2 points at the lower end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.learning import intervals, peers
from cascade.learning.answer_scorer import AnswerScorer, Known, Reader
from cascade.learning.choosing import ENOUGH_LOW, ENOUGH_MEAN, candidates
from cascade.learning.improvement import aiq
from cascade.learning.intervals import Estimate
from cascade.learning.joint_cascade import JointCascade
from cascade.learning.peers import Fitted, Lesson, Played
from cascade.learning.records import Records
from cascade.learning.search import Goal, best_choice
from cascade.learning.table import LEAST_QUESTIONS, Numbers, undominated

MARGINS = (-0.004, 0.0, 0.004, 0.008, 0.012)  # quality asked of a plain chain beyond the best single model's
METHODS = (
    "best_single", "cheapest_adequate", "cascade", "cascade_routing", "agreement", "frugalgpt", "router", "oracle",
    "product",
)  # fmt: skip

Encode = Callable[[Sequence[str]], Numbers]


@dataclass(frozen=True, slots=True)
class Measured:
    """One method on the questions that it was not fitted on."""

    method: str  # one of METHODS
    chosen: str  # what it settled on, in words
    quality: float  # mean, 0..1
    cost_micros: float  # mean a question
    saved: Estimate  # share of the best single model's cost
    difference: Estimate  # of quality, to the best single model

    @property
    def counts(self) -> bool:
        return self.difference.mean >= ENOUGH_MEAN and self.difference.low >= ENOUGH_LOW

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "quality": self.quality,
            "cost_usd_per_1k": self.cost_micros / 1000,
            "saved_vs_best_single": self.saved.mean,
            "saved_interval": [self.saved.low, self.saved.high],
            "quality_difference": self.difference.mean,
            "quality_difference_interval": [self.difference.low, self.difference.high],
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    questions: int
    methods: tuple[Measured, ...]
    by_task: dict[str, tuple[Measured, ...]]  # the same plays, on the questions of one task; of tasks large enough
    aiq: dict[str, float]  # of all trade-offs of `models` (the single ones), `router` and `product`; of quality, 0..1

    def as_json(self) -> dict[str, Any]:
        methods = [each.as_json() for each in self.methods]
        return {"questions": self.questions, "methods": methods, "aiq": self.aiq}

    def of(self, method: str) -> Measured:
        return next(each for each in self.methods if each.method == method)

    def table(self) -> str:
        parts = [_table(f"{self.questions} questions", self.methods)]
        parts += [_table(task, measured) for task, measured in self.by_task.items()]
        areas = ", ".join(f"{name} {value:.4f}" for name, value in self.aiq.items())
        return "\n\n".join([*parts, f"AIQ (mean quality from the cheapest model's cost to the best's): {areas}"])


def evaluate(train: Records, data: Records, encode: Encode | None = None) -> Evaluation:
    """`encode`: question vectors of length 1; None: of latent semantic analysis.

    Raises BadTable where `data` lacks a model of `train`.
    """
    data = data.of(train.models)
    reader = Reader(train, encode)
    return measure(Study(train, reader.read(train)), data, reader.read(data))


class Study:
    """All methods fitted on these records."""

    def __init__(self, train: Records, read: Any) -> None:
        self.scorer = AnswerScorer(read, train.quality)
        self.lesson = Lesson(self.scorer.known, train.models, train.quality, train.cost_micros)
        self.fitted = {
            "best_single": peers.single(self.lesson, self.lesson.best),
            "cheapest_adequate": peers.single(self.lesson, _cheapest_adequate(self.lesson)),
            "cascade": _cascade(self.lesson),
            "cascade_routing": peers.routing(self.lesson),
            "agreement": peers.agreement(self.lesson),
            "frugalgpt": peers.frugalgpt(self.lesson),
            "router": peers.router(self.lesson),
        }
        self.fitted["product"] = self._product()

    def _product(self) -> Fitted:
        """Of everything that can be had, what promises the largest saving that counts."""
        lesson = self.lesson
        self.joint = JointCascade(self.scorer, lesson)
        everything = [*self.joint.fitted(), *peers.routers(lesson), *peers.agreements(lesson), *_cascades(lesson)]
        singles = [peers.single(lesson, model) for model in range(len(lesson.models))]
        self.candidates = candidates(lesson, [*singles, *everything])
        return max(self.candidates, key=lambda each: each.promises).fitted

    def families(self) -> dict[str, list[Fitted]]:
        """The same method with every limit, for the trade-offs that it allows."""
        every = [candidate.fitted for candidate in self.candidates]
        like = {name: [each for each in every if each.told == self.fitted[name].told] for name in ("router", "product")}
        return {"models": [peers.single(self.lesson, model) for model in range(len(self.lesson.models))], **like}


def measure(study: Study, data: Records, read: Any) -> Evaluation:
    known = study.scorer.of_new(read)
    plays = {name: fitted.play(known) for name, fitted in study.fitted.items()}
    plays["oracle"] = peers.oracle(data.quality, data.cost_micros)
    told = {name: fitted.told for name, fitted in study.fitted.items()} | {"oracle": "knows which answers are right"}
    everyone = np.arange(len(data.ids))
    tasks = {task: np.flatnonzero(np.array(data.tasks) == task) for task in sorted(set(data.tasks))}
    return Evaluation(
        questions=len(data.ids),
        methods=_measured(plays, told, data, everyone),
        by_task={
            task: _measured(plays, told, data, those)
            for task, those in tasks.items()
            if len(tasks) > 1 and len(those) >= LEAST_QUESTIONS
        },
        aiq={name: _aiq(study, family, known, data) for name, family in study.families().items()},
    )


def _aiq(study: Study, family: Sequence[Fitted], known: Known, data: Records) -> float:
    """From the cheapest model's cost to the best single one's; the cheapest can always be had."""
    models = data.cost_micros.mean(axis=0)
    cheapest = int(models.argmin())
    points = [(float(models[cheapest]), float(data.quality[:, cheapest].mean()))]
    for each in family:
        quality, cost = each.play(known).of(data.quality, data.cost_micros)
        points.append((float(cost.mean()), float(quality.mean())))
    return aiq(points, points[0][0], float(models[study.lesson.best]))


def _measured(plays: dict[str, Played], told: dict[str, str], data: Records, those: Any) -> tuple[Measured, ...]:
    values = {name: [each[those] for each in play.of(data.quality, data.cost_micros)] for name, play in plays.items()}
    weight = np.ones(len(those))
    samples = intervals.drawn(weight)
    best_quality, best_cost = values["best_single"]
    return tuple(
        Measured(
            method=name,
            chosen=told[name],
            quality=float(values[name][0].mean()),
            cost_micros=float(values[name][1].mean()),
            saved=intervals.of_saving(values[name][1], best_cost, samples, weight),
            difference=intervals.of_mean(values[name][0] - best_quality, samples, weight),
        )
        for name in METHODS
    )


def _cheapest_adequate(lesson: Lesson) -> int:
    weight = np.ones(len(lesson.quality))
    samples = intervals.drawn(weight)
    for model in np.argsort(lesson.cost_micros.mean(axis=0), kind="stable"):
        difference = intervals.of_mean(lesson.quality[:, model] - lesson.quality[:, lesson.best], samples, weight)
        if difference.mean >= ENOUGH_MEAN and difference.low >= ENOUGH_LOW:
            return int(model)
    return lesson.best


def _cascade(lesson: Lesson) -> Fitted:
    return next(iter(_cascades(lesson, (0.0,))), peers.single(lesson, lesson.best))


def _cascades(lesson: Lesson, margins: Sequence[float] = MARGINS) -> list[Fitted]:
    """The optimiser's own, on each answer's own score."""
    table, found = peers.table(lesson), []
    for margin in margins:
        goal = Goal(quality=min(1.0, lesson.wanted + margin))
        if choice := best_choice(table, undominated(table), goal, most_tiers=3):
            places = [lesson.models.index(name) for name in choice.chain]
            found.append(peers.chain(places, choice.thresholds, lesson.models))
    return found


def _table(title: str, measured: Sequence[Measured]) -> str:
    head = (
        f"{'method':<18} {'quality':>8} {'USD/1k':>9} {'saved':>7} {'95 %':>16} {'difference':>11} {'95 %':>16}  counts"
    )
    rows = [
        f"{m.method:<18} {m.quality:>8.4f} {m.cost_micros / 1000:>9.4f} {m.saved.mean:>7.1%} "
        f"{_span(m.saved):>16} {m.difference.mean * 100:>+8.2f} pt {_points(m.difference):>16}  "
        f"{'yes' if m.counts else 'no ':<5} {m.chosen}"
        for m in measured
    ]
    return "\n".join([title, head, *rows])


def _span(of: Estimate) -> str:
    return f"{of.low:.1%} to {of.high:.1%}"


def _points(of: Estimate) -> str:
    return f"{of.low * 100:+.2f} to {of.high * 100:+.2f}"


__all__ = ["METHODS", "Evaluation", "Measured", "Study", "evaluate", "measure"]
