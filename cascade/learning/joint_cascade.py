"""A cascade that remembers: each new answer is weighed with those before it, and the likeliest of them all is shown.

Asking goes on while it is worth it: either while the likeliest answer is wrong with more than a limit's probability,
or while the quality that the last model of the chain is expected to add, for each micro-dollar that it is expected to
cost on this very question, is above a limit. One limit a chain, whatever was asked so far.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cascade.learning.answer_scorer import AnswerScorer, Gain, Known, Set, chosen
from cascade.learning.lines import Line
from cascade.learning.peers import Fitted, Lesson, Played
from cascade.learning.table import Numbers

CHEAP, MOST_CHEAP = 0.65, 4  # what may come before the last: of the best single model's cost; so many
DEAR = 0.2  # quality that makes up for the best single model's cost, where those before the last are picked
WORSE = 0.08  # the last model's quality may be below the best single one's by so much: the answers before it help
LIMITS = 80  # a chain and kind


class By(StrEnum):
    """What the limit is laid on."""

    PROBABILITY = "probability"
    WORTH = "gain for its price"


@dataclass(frozen=True, slots=True)
class Plan:
    chain: Set  # places of models
    by: By
    limit: float


@dataclass(frozen=True, eq=False)
class Course:
    """What a chain would do to some questions, step by step."""

    shown: Numbers  # (questions, steps) whose answer would be shown if one stopped there
    wrong: Numbers  # (questions, steps but the last) probability that it is wrong
    worth: Numbers  # (questions, steps but the last) quality won by the last model for each micro-dollar

    def going_on(self, by: By) -> Numbers:
        return self.wrong if by is By.PROBABILITY else self.worth


class JointCascade:
    """Learnt on construction; `fitted` plays."""

    def __init__(self, scorer: AnswerScorer, lesson: Lesson) -> None:
        self.scorer, self.lesson = scorer, lesson
        self.beginnings, self.lasts = _members(lesson)
        self.chains = [(*s, last) for s in self.beginnings for last in self.lasts if last > s[-1]]
        self.joint: dict[Set, Numbers] = {}
        self.gains: dict[int, Gain] = {}
        self.prices: dict[tuple[int, int], Line] = {}
        if self.chains:
            self._learn()
        self.own = {members: self._course(members, None) for members in self.chains}
        self.new: tuple[Known, dict[Set, Course]] = (scorer.known, self.own)  # the questions played last

    def _learn(self) -> None:
        scorer = self.scorer
        scorer.learn_joint([*self.beginnings, *self.chains])
        self.joint = {members: scorer.joint(members) for members in (*self.beginnings, *self.chains)}
        for last in self.lasts:
            before = [members for members in self.beginnings if members[-1] < last]
            if before:
                self.gains[last] = scorer.learn_gain(before, last, self.joint)
            for first in {members[0] for members in before}:
                self.prices[first, last] = scorer.learn_price(first, last, self.lesson.cost_micros)

    def fitted(self) -> list[Fitted]:
        """Every chain with every limit; each is its own questions' out of the folds that taught it."""
        found = []
        for members, course in self.own.items():
            for by in By:
                for limit in np.unique(np.quantile(course.going_on(by), np.linspace(0, 1, LIMITS))):
                    found.append(self._fitted(Plan(members, by, float(limit))))
        return found

    def _fitted(self, plan: Plan) -> Fitted:
        names = ", ".join(self.lesson.models[place] for place in plan.chain)
        return Fitted(f"{names}, weighed together, by {plan.by}", lambda known: self._play(plan, known))

    def _play(self, plan: Plan, known: Known) -> Played:
        course = self._course_of(plan.chain, known)
        stops = np.column_stack([course.going_on(plan.by) <= plan.limit, np.ones(len(course.shown), bool)])
        step = stops.argmax(axis=1)
        asked = np.zeros(known.prior.shape, bool)
        for place, model in enumerate(plan.chain):
            asked[:, model] = step >= place
        return Played(asked, course.shown[np.arange(len(step)), step])

    def _course_of(self, chain: Set, known: Known) -> Course:
        if known is self.scorer.known:
            return self.own[chain]
        if self.new[0] is not known:
            self.new = (known, {})
        if chain not in self.new[1]:
            self.new[1][chain] = self._course(chain, known)
        return self.new[1][chain]

    def _course(self, chain: Set, known: Known | None) -> Course:
        """`known`: of new questions; None: of its own."""
        steps, last = [chain[:size] for size in range(1, len(chain) + 1)], chain[-1]
        joint = self.joint if known is None else {s: self.scorer.joint(s, known) for s in steps}
        gain = [self.scorer.gain(self.gains[last], s, joint[s], known) for s in steps[:-1]]
        line = self.prices[chain[0], last]
        price = line.own if known is None else line.of(known.length_rows(chain[0]))
        return Course(
            shown=np.column_stack([chosen(s, joint[s]) for s in steps]),
            wrong=1 - np.column_stack([joint[s].max(axis=1) for s in steps[:-1]]),
            worth=np.column_stack(gain) / np.exp(price)[:, None],
        )


def _members(lesson: Lesson) -> tuple[list[Set], list[int]]:
    """Sets of up to three cheap models to begin with, and the models to end with."""
    quality, cost = lesson.quality.mean(axis=0), lesson.cost_micros.mean(axis=0)
    best = lesson.best
    cheap = [m for m in range(len(cost)) if cost[m] < CHEAP * cost[best]]
    cheap = sorted(sorted(cheap, key=lambda m: -(quality[m] - DEAR * cost[m] / cost[best]))[:MOST_CHEAP])
    beginnings = [s for size in (1, 2, 3) for s in itertools.combinations(cheap, size)]
    lasts = [m for m in range(len(cost)) if cost[m] <= cost[best] * 1.05 and quality[m] >= quality[best] - WORSE]
    return beginnings, lasts
