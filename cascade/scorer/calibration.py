"""Scores as probabilities: Platt's sigmoid over the network's logit, fitted on rows not trained on.

Platt, "Probabilistic outputs for support vector machines" (1999), with his smoothed targets; the calibration error
is the expected one over bins of equal mass. Knows nothing of rows or networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = 1 / (1 + exp(-(scale * logit + shift)))"""

    scale: float = 1.0
    shift: float = 0.0

    def probability(self, logit: float) -> float:
        """In [0, 1]; NaN stays NaN."""
        return 1 / (1 + math.exp(-min(max(self.scale * logit + self.shift, -60.0), 60.0)))


def fit(logits: Sequence[float], good: Sequence[bool]) -> Calibration:
    """The scale and shift of greatest likelihood, by Newton's method."""
    x = np.stack([np.asarray(logits, float), np.ones(len(logits))], axis=1)
    y = np.asarray(good, float)
    smoothed = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - smoothed))
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return Calibration(float(weights[0]), float(weights[1]))


def expected_error(probabilities: Sequence[float], good: Sequence[bool], bins: int = 15) -> float:
    """Mean distance of promised and true share of good answers over bins of equal mass (ECE)."""
    order = np.argsort(probabilities, kind="stable")
    p, y = np.asarray(probabilities, float)[order], np.asarray(good, float)[order]
    parts = zip(np.array_split(p, bins), np.array_split(y, bins), strict=True)
    return float(sum(len(a) * abs(a.mean() - b.mean()) for a, b in parts if len(a)) / len(p))
