"""Which of many plans to deploy: the one whose saving is largest once the chance that it counts is weighed in.

How much quality a plan must show before it is taken (the aim) is a trade: a low aim saves more and fails more often
on questions that nobody has seen. Aims are compared by cross-validation: plans are picked on four fifths of the
questions and measured on the fifth, so that what comes of picking the luckiest of many is in the figures too. A saving
that is less than likely to count is worth nothing: without it the best single model stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt

from cascade.learning.intervals import Estimate
from cascade.learning.table import Numbers

AIMS = tuple(place / 1000 for place in range(20, -11, -1))  # quality beyond the best single model's, strictest first
LEAST_CHANCE = 0.75  # of a saving to count; a less likely one is not worth having


@dataclass(frozen=True, slots=True)
class Enough:
    """Of the difference in quality to the best single model: what it takes for a saving to count."""

    mean: float
    low: float  # of the lower end of its 95 % interval

    def reached(self, difference: Estimate) -> bool:
        return difference.mean >= self.mean and difference.low >= self.low

    def chance(self, difference: Numbers) -> float:
        """That it is reached again on as many fresh questions; `difference` (questions,).

        By the normal distribution: the mean seen and the one to be seen are each off by a standard error.
        """
        error = float(difference.std() / sqrt(len(difference)))
        spare = float(difference.mean()) - max(self.mean, self.low + 1.96 * error)
        return float(spare >= 0) if error == 0 else erfc(-spare / error / 2) / 2


@dataclass(frozen=True, slots=True)
class Aim:
    aim: float  # least quality beyond the best single model's
    plan: int  # the place of the cheapest plan that has it
    expected: float  # saving times its chance to count, on questions that did not pick the plan; 0 below LEAST_CHANCE


def looked_at(difference: Numbers, cost: Numbers, fold: npt.NDArray[np.int_], enough: Enough) -> list[Aim]:
    """Each of AIMS. `difference`, `cost` (plans, questions); plan 0 is the best single model."""
    return [_looked_at(difference, cost, fold, enough, aim) for aim in AIMS]


def _looked_at(difference: Numbers, cost: Numbers, fold: npt.NDArray[np.int_], enough: Enough, aim: float) -> Aim:
    plan = _cheapest(difference, cost, aim)
    if plan == 0:
        return Aim(aim, plan, 0.0)
    place = np.empty(len(fold), int)
    for each in np.unique(fold):
        rest = fold != each
        place[~rest] = _cheapest(difference[:, rest], cost[:, rest], aim)
    at = place, np.arange(len(fold))
    saved, chance = 1 - float(cost[at].mean() / cost[0].mean()), enough.chance(difference[at])
    return Aim(aim, plan, saved * chance if chance >= LEAST_CHANCE else 0.0)


def _cheapest(difference: Numbers, cost: Numbers, aim: float) -> int:
    """Of the plans that reach the aim; plan 0 where none does or none is cheaper."""
    means = np.where(difference.mean(axis=1) >= aim - 1e-9, cost.mean(axis=1), np.inf)
    means[0] = cost[0].mean()
    return int(means.argmin())
