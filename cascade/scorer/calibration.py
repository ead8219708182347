"""Scores as probabilities: Platt's sigmoid over a logit, fitted on rows not trained on, for all tenants and for one.

Platt, "Probabilistic outputs for support vector machines" (1999), with his smoothed targets; the calibration error
is the expected one over bins of equal mass. A tenant's own map lies over the globally calibrated logit and is shrunk
to the identity until the tenant has data. Knows nothing of rows or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_SPREAD = 0.05  # however alike tenants seem, one with very many labels has its own map in the end
LEAST_SCALE = 0.1  # a tenant's few labels never turn the order of answers round


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = 1 / (1 + exp(-(scale * logit + shift)))"""

    scale: float = 1.0
    shift: float = 0.0

    def probability(self, logit: float) -> float:
        """In [0, 1]; NaN stays NaN."""
        return 1 / (1 + math.exp(-min(max(self.scale * logit + self.shift, -60.0), 60.0)))

    def again(self, probability: float) -> float:
        """A probability that was calibrated before, under this map too; the identity leaves it as it is."""
        return probability if self == Calibration() else self.probability(logit(probability))

    def lowered(self, probability: float) -> float:
        """As `again`, where that is less: what was fitted on accepted answers alone lets no other one through."""
        return min(probability, self.again(probability))


@dataclass(frozen=True, slots=True)
class Spread:
    """How far tenants differ from the global map: standard deviations of their scales and shifts."""

    scale: float
    shift: float


# Stated, not measured: companies that the scorer learnt from hardly differ (`python -m bench.calibration`); those it
# has never seen may, and their models are right more or less often. In time tenants' own labels tell (`spread_of`).
TENANTS_DIFFER = Spread(scale=0.3, shift=0.7)


def logit(probability: float) -> float:
    """Its log odds, within about 20 of zero; NaN stays NaN."""
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(bounded / (1 - bounded))


def fit(logits: Sequence[float], good: Sequence[bool]) -> Calibration:
    """The scale and shift of greatest likelihood, by Newton's method."""
    y = np.asarray(good, float)
    smoothed = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    return Calibration(*_newton(np.asarray(logits, float), smoothed, np.zeros(2)))


def fit_shrunk(logits: Sequence[float], good: Sequence[bool], spread: Spread = TENANTS_DIFFER) -> Calibration:
    """One tenant's map over globally calibrated logits, shrunk to the identity.

    The maximum a posteriori of Platt's two parameters under a normal prior around (1, 0) whose variances are those
    between tenants: parametric empirical Bayes (Morris, 1983). Without data it is the identity exactly; with much it
    is the tenant's own fit; more of the same data never takes it back towards the identity. The scale stays at least
    LEAST_SCALE.
    """
    if not logits:
        return Calibration()
    x, y = np.asarray(logits, float), np.asarray(good, float)
    precision = np.array([spread.scale**-2, spread.shift**-2])
    scale, shift = _newton(x, y, precision)
    if scale < LEAST_SCALE:  # the likelihood is concave, so the best of what is allowed lies on the border
        scale, shift = _newton(x, y, precision, scale=LEAST_SCALE)
    return Calibration(scale, shift)


def spread_of(tenants: Sequence[tuple[Sequence[float], Sequence[bool]]]) -> Spread:
    """How far tenants differ, from each one's globally calibrated logits and labels.

    DerSimonian and Laird's (1986) estimate by moments, around the known centre (1, 0): what the tenants' own fits
    vary more than their sampling errors say, each weighed by its precision. At least LEAST_SPREAD each.
    """
    fits = np.array([_own_fit(np.asarray(x, float), np.asarray(y, float)) for x, y in tenants])  # (tenants, 2, 2)
    estimates, variances = fits[:, 0], fits[:, 1]
    beyond = (estimates - np.array([1.0, 0.0])) ** 2 - variances
    between = (beyond / variances).sum(axis=0) / (1 / variances).sum(axis=0)
    scale, shift = np.sqrt(np.maximum(between, LEAST_SPREAD**2))
    return Spread(float(scale), float(shift))


def _own_fit(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """Scale and shift of one tenant alone, and their sampling variances."""
    scale, shift = _newton(x, y, np.array([0.01, 0.01]))  # hardly any prior, so that separable labels have a fit
    variances = np.linalg.inv(_curvature(x, scale, shift) + 0.01 * np.eye(2)).diagonal()
    return [scale, shift], variances.tolist()


def _newton(
    x: np.ndarray, target: np.ndarray, precision: np.ndarray, scale: float | None = None
) -> tuple[float, float]:
    """Scale and shift of the greatest likelihood times a normal prior around (1, 0); `scale`: held fixed."""
    centre = np.array([1.0, 0.0])
    weights = np.array([1.0 if scale is None else scale, 0.0])
    free = np.array([scale is None, True])

    def loss(at: np.ndarray) -> float:
        z = at[0] * x + at[1]
        return float((np.logaddexp(0, z) - target * z).sum() + (precision * (at - centre) ** 2).sum() / 2)

    for _ in range(100):
        error = 1 / (1 + np.exp(-np.clip(weights[0] * x + weights[1], -30, 30))) - target
        gradient = np.array([error @ x, error.sum()]) + precision * (weights - centre)
        hessian = _curvature(x, *weights) + np.diag(precision) + 1e-6 * np.eye(2)
        step = np.zeros(2)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        if np.abs(step).max() < 1e-9:
            break
        weights = weights - step
    return float(weights[0]), float(weights[1])


def _curvature(x: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """The likelihood's, (2, 2)."""
    p = 1 / (1 + np.exp(-np.clip(scale * x + shift, -30, 30)))
    rows = np.stack([x, np.ones(len(x))], axis=1)
    curvature: np.ndarray = (rows * (p * (1 - p))[:, None]).T @ rows
    return curvature


def expected_error(probabilities: Sequence[float], good: Sequence[bool], bins: int = 15) -> float:
    """Mean distance of promised and true share of good answers over bins of equal mass (ECE)."""
    order = np.argsort(probabilities, kind="stable")
    p, y = np.asarray(probabilities, float)[order], np.asarray(good, float)[order]
    parts = zip(np.array_split(p, bins), np.array_split(y, bins), strict=True)
    return float(sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts if len(a)) / len(p))
