"""Straight lines through few numbers, each of five without the questions it is asked about.

Where a thousand questions are all there is to learn from, trees see patterns in noise that a line cannot; the mean of
both is better than either. Ridge regression (Hoerl and Kennard, 1970), or logistic regression with the same penalty,
fitted by Newton's method.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.learning.table import Numbers

PENALTY = 20.0  # on the square of each slope, rows standardised
NEWTON_STEPS = 12


class Line:
    """`own`: of the rows it was fitted on, by the folds that did not see them; `of`: of new ones, the folds' mean."""

    def __init__(self, rows: Numbers, y: Numbers, fold: npt.NDArray[np.int_], *, logistic: bool = False) -> None:
        self.mean, self.spread, self.logistic = rows.mean(axis=0), rows.std(axis=0) + 1e-9, logistic
        standard, fit = self._standard(rows), _logistic if logistic else _ridge
        self.slopes = [fit(standard[fold != each], y[fold != each]) for each in range(int(fold.max()) + 1)]
        self.own = self._told(np.einsum("nf,nf->n", standard, np.array(self.slopes)[fold]))

    def of(self, rows: Numbers) -> Numbers:
        standard = self._standard(rows)
        return np.asarray(np.mean([self._told(standard @ slopes) for slopes in self.slopes], axis=0))

    def _standard(self, rows: Numbers) -> Numbers:
        return np.column_stack([np.ones(len(rows)), (rows - self.mean) / self.spread])

    def _told(self, sums: Numbers) -> Numbers:
        return np.asarray(1 / (1 + np.exp(-sums))) if self.logistic else sums


def _ridge(rows: Numbers, y: Numbers) -> Any:
    return np.linalg.solve(rows.T @ rows + _penalty(rows), rows.T @ y)


def _logistic(rows: Numbers, y: Numbers) -> Any:
    slopes, penalty = np.zeros(rows.shape[1]), _penalty(rows)
    for _ in range(NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-rows @ slopes))
        curve = (rows * (likely * (1 - likely))[:, None]).T @ rows + penalty
        slopes = slopes + np.linalg.solve(curve, rows.T @ (y - likely) - penalty @ slopes)
    return slopes


def _penalty(rows: Numbers) -> Numbers:
    penalty = np.eye(rows.shape[1]) * PENALTY
    penalty[0, 0] = 1e-6  # the level is free
    return penalty
