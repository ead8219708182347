"""How sure a mean is: questions drawn again with replacement, those of two methods together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.learning.table import Numbers

DRAWS = 2000
SEED = 20230509


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % percentile bootstrap interval (Efron, 1979)."""

    mean: float
    low: float
    high: float


def drawn(weight: Numbers, draws: int = DRAWS) -> Numbers:
    """(draws, questions): the weight of each question in each sample; a row sums to 1. The same each time."""
    chance = np.random.default_rng(SEED)
    counts = chance.multinomial(len(weight), np.full(len(weight), 1 / len(weight)), size=draws)
    weighted = counts * weight
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))


def of_mean(values: Numbers, samples: Numbers, weight: Numbers) -> Estimate:
    """`values` (questions,): a difference of two methods on the same questions makes it a paired interval."""
    return _estimate(float(np.average(values, weights=weight)), samples @ values)


def of_saving(cost: Numbers, reference: Numbers, samples: Numbers, weight: Numbers) -> Estimate:
    """1 - mean cost / mean reference cost, of the same questions."""
    mean = 1 - float(weight @ cost / (weight @ reference))
    return _estimate(mean, 1 - (samples @ cost) / (samples @ reference))


def _estimate(mean: float, draws: Numbers) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(mean, float(low), float(high))
