"""What models answered to the same questions, how good that was and what it cost: the table all learning reads.

Arrays of shape (questions, models), columns in the order of `models`, in any order of price:

    score        0..1, what the scorer said of the answer; UNUSABLE: it can never be accepted (failed, cut, blank)
    quality      0..1, how good the answer really was
    cost_micros  micro-dollars that asking cost, the scorer included; not negative
    seconds      from asking to the whole answer; not negative

NaN means "not recorded", and never zero: this model was not asked this question, or nobody labelled the answer.
`weight` (questions,) corrects for how a question came into the table: one over the probability that it did (Horvitz
and Thompson, 1952), so that turns that were explored at random speak for those that were not. All ones where every
question was asked of every model. `segment` names the group of customers of each question; "" where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
UNUSABLE = -1.0  # the score of an attempt that may not be shown whatever the threshold
LEAST_QUESTIONS = 50  # fewer say nothing about a threshold


class BadTable(ValueError):
    """The table cannot be learnt from; the message names the row or the shortage."""


@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """Raises BadTable on construction where shapes differ or a number is out of its range."""

    questions: tuple[str, ...]  # ids, each once
    models: tuple[str, ...]  # names, each once
    score: Numbers
    quality: Numbers
    cost_micros: Numbers
    seconds: Numbers
    weight: Numbers
    segment: tuple[str, ...]

    def __post_init__(self) -> None:
        for what, names in (("question", self.questions), ("model", self.models)):
            if len(set(names)) < len(names):
                raise BadTable(f"{what} {_twice(names)!r} stands in the table twice")
        shape = len(self.questions), len(self.models)
        for name in ("score", "quality", "cost_micros", "seconds"):
            if getattr(self, name).shape != shape:
                raise BadTable(f"{name} has shape {getattr(self, name).shape}, {shape} is needed: questions x models")
        if self.weight.shape != shape[:1] or len(self.segment) != shape[0]:
            raise BadTable(f"a weight and a segment are needed for each of {shape[0]} questions")
        self._refuse("score", ((self.score < 0) & (self.score != UNUSABLE)) | (self.score > 1), "is not from 0 to 1")
        self._refuse("quality", (self.quality < 0) | (self.quality > 1), "is not from 0 to 1")
        self._refuse("cost_micros", (self.cost_micros < 0) | np.isinf(self.cost_micros), "is negative or infinite")
        self._refuse("seconds", (self.seconds < 0) | np.isinf(self.seconds), "is negative or infinite")
        if (bad := np.flatnonzero(~(self.weight > 0) | np.isinf(self.weight))).size:
            raise BadTable(f"question {self.questions[bad[0]]!r} has the weight {self.weight[bad[0]]}, not one above 0")

    def _refuse(self, name: str, bad: npt.NDArray[np.bool_], why: str) -> None:
        if bad.any():
            row, column = np.argwhere(bad)[0]
            value = getattr(self, name)[row, column]
            raise BadTable(f"question {self.questions[row]!r}, model {self.models[column]!r}: {name} {value} {why}")

    @property
    def recorded(self) -> npt.NDArray[np.bool_]:
        """(questions, models): the model was asked, its answer scored, labelled and paid."""
        return ~np.isnan(self.score + self.quality + self.cost_micros + self.seconds)

    def rows(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.int_]) -> EvaluationTable:
        """These questions alone, by mask or places."""
        places = np.arange(len(self.questions))[kept]
        arrays = {name: getattr(self, name)[places] for name in ("score", "quality", "cost_micros", "seconds")}
        names = tuple(self.questions[i] for i in places)
        segments = tuple(self.segment[i] for i in places)
        return EvaluationTable(names, self.models, weight=self.weight[places], segment=segments, **arrays)

    def columns(self, models: Sequence[str]) -> EvaluationTable:
        """These models alone, in this order. Raises BadTable for one that is not in the table."""
        if missing := [model for model in models if model not in self.models]:
            raise BadTable(f"model {missing[0]!r} is not in the table")
        places = [self.models.index(model) for model in models]
        arrays = {name: getattr(self, name)[:, places] for name in ("score", "quality", "cost_micros", "seconds")}
        return replace(self, models=tuple(models), **arrays)

    def complete(self) -> EvaluationTable:
        """Without the questions that some model was not asked or nobody labelled."""
        return self.rows(np.asarray(self.recorded.all(axis=1)))

    @property
    def mean_quality(self) -> Numbers:
        """(models,), weighted; NaN where a model is not recorded for all questions."""
        return np.asarray(self.weight @ self.quality / self.weight.sum())

    @property
    def mean_cost_micros(self) -> Numbers:
        """(models,), weighted; NaN where a model is not recorded for all questions."""
        return np.asarray(self.weight @ self.cost_micros / self.weight.sum())


def check_learnable(table: EvaluationTable) -> None:
    """Raises BadTable where a strategy learnt from this table would mean nothing."""
    if len(table.models) == 0:
        raise BadTable("the table has no model")
    if len(table.questions) < LEAST_QUESTIONS:
        raise BadTable(f"the table has {len(table.questions)} questions, at least {LEAST_QUESTIONS} are needed")
    for name in ("score", "quality", "cost_micros", "seconds"):
        if (missing := np.argwhere(np.isnan(getattr(table, name)))).size:
            row, column = missing[0]
            raise BadTable(
                f"question {table.questions[row]!r}, model {table.models[column]!r}: no {name} is recorded; learn from "
                "the complete questions of the table, weighted for how they came to be complete"
            )
    if (labels := np.unique(table.quality)).size == 1:
        raise BadTable(f"every answer is labelled {labels[0]:g}: good and bad ones are needed to learn from")


def undominated(table: EvaluationTable) -> tuple[str, ...]:
    """The models that no other beats at both mean cost and mean quality, cheapest first."""
    cost, quality = table.mean_cost_micros, table.mean_quality
    kept, best = [], -np.inf
    for place in np.lexsort((-quality, cost)):
        if quality[place] > best:
            kept.append(table.models[place])
            best = quality[place]
    return tuple(kept)


def _twice(names: Sequence[str]) -> str:
    return next(name for place, name in enumerate(names) if name in names[:place])
