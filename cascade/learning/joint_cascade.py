"""A cascade that remembers: each new answer is weighed with those before it, and the likeliest of them all is shown.

Stop as soon as asking on promises too little: either the likeliest answer is right with at least a threshold's
probability, or the last model of the chain is expected to add at most so much quality. Chain, kind and thresholds are
chosen on the questions it is fitted on, by what thresholds of one part of them do to the other part.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from cascade.learning.answer_scorer import FOLDS, MICROS_AN_ANSWER, AnswerScorer, Known, Set, chosen
from cascade.learning.peers import Fitted, Lesson, Played
from cascade.learning.replaying import replay
from cascade.learning.search import COARSE, Goal, Stops, best_thresholds
from cascade.learning.table import EvaluationTable, Numbers

CHEAP, MOST_CHEAP = 0.65, 6  # what may come before the last: of the best single model's cost; so many
WORSE = 0.08  # the last model's quality may be below the best single one's by so much: the answers before it help
LOOKED_INTO = 16  # chains of either kind
MARGINS = tuple(place / 1000 for place in range(-4, 21, 2))  # quality asked for beyond the best single model's


class By(StrEnum):
    """What the thresholds are laid on."""

    PROBABILITY = "probability"
    GAIN = "gain"


@dataclass(frozen=True, slots=True)
class Plan:
    chain: Set  # places of models
    by: By
    margin: float


class JointCascade:
    """Fitted on construction; `best` chooses, `fitted` plays."""

    def __init__(self, scorer: AnswerScorer, lesson: Lesson) -> None:
        self.scorer, self.lesson = scorer, lesson
        self.beginnings, self.lasts = _members(lesson)
        self.chains = [(*s, last) for s in self.beginnings for last in self.lasts if last > s[-1]]
        self.joint: dict[Set, Numbers] = {}
        self.gain_trees: dict[int, list[Any]] = {}
        self.gains: dict[tuple[Set, int], Numbers] = {}
        if self.chains:
            self._learn()

    def _learn(self) -> None:
        scorer = self.scorer
        scorer.learn_joint([*self.beginnings, *self.chains])
        self.joint = {members: scorer.joint(members) for members in (*self.beginnings, *self.chains)}
        for last in self.lasts:
            before = [members for members in self.beginnings if members[-1] < last]
            if before:
                self.gain_trees[last] = scorer.learn_gain(before, last, self.joint)
            for members in before:
                self.gains[members, last] = scorer.gain(self.gain_trees[last], members, last, self.joint[members])

    def best(self, aim: float) -> tuple[Plan, Numbers, Numbers] | None:
        """The cheapest plan whose quality beats the best single model's by `aim`, on questions that did not set its
        thresholds; those qualities and costs (questions,) too. None: no plan does.
        """
        reached = self.lesson.quality[:, self.lesson.best].mean() + aim
        found = [(plan, quality, cost) for plan, quality, cost in self._tried() if quality.mean() >= reached - 1e-9]
        return min(found, key=lambda each: float(each[2].mean()), default=None)

    def _tried(self) -> Iterator[tuple[Plan, Numbers, Numbers]]:
        """The plans that look best at first sight, each with what it does to questions that did not set thresholds."""
        goal = Goal(quality=self.lesson.wanted)
        for by in By:
            looks = []
            for members in self.chains:
                table = self._table(members, by, self.joint, self.gains, self.lesson.quality, self.lesson.cost_micros)
                if choice := best_thresholds(Stops(table, table.models, goal), goal, COARSE[len(members)]):
                    looks.append((choice.cost_micros, members, table))
            for _, members, table in sorted(looks, key=lambda look: look[:2])[:LOOKED_INTO]:
                for margin in MARGINS:
                    if unseen := self._unseen(table, margin):
                        yield Plan(members, by, margin), *unseen

    def _unseen(self, table: EvaluationTable, margin: float) -> tuple[Numbers, Numbers] | None:
        """(questions,) quality and cost, each half by the other's thresholds; None: a half cannot reach the margin."""
        best = self.lesson.quality[:, self.lesson.best]
        quality, cost = np.empty(len(best)), np.empty(len(best))
        first = self.scorer.fold < FOLDS // 2
        for half in (first, ~first):
            part = table.rows(half)
            goal = Goal(quality=min(1.0, float(best[half].mean() + margin)))
            choice = best_thresholds(Stops(part, part.models, goal), goal, COARSE[len(table.models)])
            if choice is None:
                return None
            played = replay(table.rows(~half), choice.chain, choice.thresholds)
            quality[~half], cost[~half] = played.quality, played.cost_micros
        return quality, cost

    def fitted(self, plan: Plan) -> Fitted:
        """Thresholds from all questions at once."""
        lesson = self.lesson
        table = self._table(plan.chain, plan.by, self.joint, self.gains, lesson.quality, lesson.cost_micros)
        goal = Goal(quality=min(1.0, lesson.wanted + plan.margin))
        stops = Stops(table, table.models, goal)
        choice = best_thresholds(stops, goal, COARSE[4] * 2 if len(plan.chain) > 3 else None)
        if choice is None:
            raise ValueError("the plan was never within reach")
        names = ", ".join(lesson.models[place] for place in plan.chain)
        return Fitted(
            f"{names}, weighed together, by {plan.by}", lambda known: self._play(plan, choice.thresholds, known)
        )

    def _play(self, plan: Plan, thresholds: tuple[float, ...], known: Known) -> Played:
        own = known is self.scorer.known
        steps = [plan.chain[:size] for size in range(1, len(plan.chain) + 1)]
        joint = self.joint if own else {s: self.scorer.joint(s, known) for s in steps}
        gains, last = self.gains, plan.chain[-1]
        if not own and plan.by is By.GAIN:
            gains = {(s, last): self.scorer.gain(self.gain_trees[last], s, last, joint[s], known) for s in steps[:-1]}
        nothing = np.zeros_like(known.prior)
        table = self._table(plan.chain, plan.by, joint, gains, nothing, nothing)
        tier = replay(table, table.models, thresholds).tier
        shown = np.stack([chosen(s, joint[s]) for s in steps], axis=1)[np.arange(len(tier)), tier]
        asked = np.zeros(known.prior.shape, bool)
        for place, model in enumerate(plan.chain):
            asked[:, model] = tier >= place
        return Played(asked, shown)

    @staticmethod
    def _table(
        members: Set, by: By, joint: dict[Set, Numbers], gains: dict[tuple[Set, int], Numbers], quality: Numbers,
        cost_micros: Numbers,
    ) -> EvaluationTable:  # fmt: skip
        """A column a step: what would be shown if one stopped there."""
        rows = np.arange(len(quality))
        scores, shown = [], []
        for size in range(1, len(members) + 1):
            step, last = members[:size], size == len(members)
            if by is By.GAIN and not last:
                scores.append(np.clip(0.5 - gains[step, members[-1]] / 2, 0, 1))
            else:
                scores.append(
                    np.ones(len(rows)) if last or step not in joint else np.clip(joint[step].max(axis=1), 0, 1)
                )
            shown.append(quality[rows, chosen(step, joint[step])] if step in joint else quality[:, step[0]])
        shape = (len(rows), len(members))
        return EvaluationTable(
            questions=tuple(map(str, rows)), models=tuple(map(str, range(len(members)))), score=np.array(scores).T,
            quality=np.array(shown).T, cost_micros=cost_micros[:, list(members)] + MICROS_AN_ANSWER,
            seconds=np.zeros(shape), weight=np.ones(len(rows)), segment=("",) * len(rows),
        )  # fmt: skip


def _members(lesson: Lesson) -> tuple[list[Set], list[int]]:
    """Sets of up to three cheap models to begin with, and the models to end with."""
    quality, cost = lesson.quality.mean(axis=0), lesson.cost_micros.mean(axis=0)
    best = lesson.best
    cheap = [m for m in range(len(cost)) if cost[m] < CHEAP * cost[best]]
    beaten = {m for m in cheap if any(quality[o] >= quality[m] and cost[o] < cost[m] for o in cheap)}
    cheap = sorted(sorted(cheap, key=lambda m: (m in beaten, -quality[m]))[:MOST_CHEAP])
    beginnings = [s for size in (1, 2, 3) for s in itertools.combinations(cheap, size)]
    lasts = [m for m in range(len(cost)) if cost[m] <= cost[best] * 1.05 and quality[m] >= quality[best] - WORSE]
    return beginnings, lasts
