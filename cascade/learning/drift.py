"""Whether a week's turns still look like those of the weeks before: a permutation test with a budget of false alarms.

Customers come back and ask alike, so what is shuffled between the week and the weeks before are whole bundles, all
turns of one customer in one week, and never single turns. A measure's p-value is the share of shuffles that differ as
much, the real one counted among them (Phipson and Smyth, 2010), so it is never too small by luck. Several measures of
several segments are tested at once: each may spend its part of `FALSE_ALARMS` (Bonferroni), as the univariate tests of
Rabanser, Guennemann and Lipton (Failing Loudly, 2019) do. Scores are compared by the largest distance of their
distributions (Kolmogorov and Smirnov), all else by its mean. How often it alarms for nothing: `python -m bench.drift`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.learning.table import Numbers

FALSE_ALARMS = 0.02  # of a chatbot's weeks, all its measures and segments together
SHUFFLES = 1999
LEAST_TURNS, LEAST_REFERENCE = 50, 150  # with fewer nothing is said
LEAST_BUNDLES = 20  # customers' weeks on either side
SEED = 19331
BLOCK = 100  # shuffles at once

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reading:
    """Of a mean: its band around that of the weeks before. Of distributions: their distance, above 0 by chance."""

    turns: int
    reference_turns: int
    reference: float
    value: float
    low: float
    high: float
    p_value: float
    out_of_band: bool


def read(values: Numbers, bundle: npt.NDArray[np.int_], week: Mask, *, tests: int, distance: bool) -> Reading | None:
    """One measure of one segment; None: too few turns to tell.

    `values` (turns,), from 0 up, without NaN; `bundle` numbers them by customer and week; `week` says which are of the
    week that is judged; `tests` share the budget; `distance`: of distributions, not of means.
    """
    number = np.unique(bundle, return_inverse=True)[1]
    of_week = np.zeros(number.max(initial=-1) + 1, bool)
    of_week[number[week]] = True
    sides = int(of_week.sum()), int((~of_week).sum())
    if week.sum() < LEAST_TURNS or (~week).sum() < LEAST_REFERENCE or min(sides) < LEAST_BUNDLES:
        return None
    shuffled = _shuffles(of_week)
    found = _distances(values, number, shuffled) if distance else _differences(values, number, shuffled)
    real, chance = found[0], np.abs(found)
    p = float((chance >= abs(real) - 1e-12).mean())
    alpha = FALSE_ALARMS / tests
    room = float(np.quantile(chance, 1 - alpha, method="higher"))
    before = 0.0 if distance else float(values[~week].mean())
    low, high = (0.0, room) if distance else (max(0.0, before - room), before + room)
    value = float(real) if distance else float(values[week].mean())
    return Reading(int(week.sum()), int((~week).sum()), before, value, low, high, p, p <= alpha)


def _shuffles(of_week: Mask) -> Mask:
    """(1 + SHUFFLES, bundles): as it was, then which bundles are of the week when all are shuffled."""
    shuffled = np.tile(of_week, (1 + SHUFFLES, 1))
    np.random.default_rng(SEED).permuted(shuffled[1:], axis=1, out=shuffled[1:])
    return shuffled


def _differences(values: Numbers, number: npt.NDArray[np.int_], shuffled: Mask) -> Numbers:
    """The week's mean less the others', of each shuffle."""
    sums, counts = np.bincount(number, weights=values), np.bincount(number)
    inside, many = shuffled @ sums, shuffled @ counts
    return np.asarray(inside / many - (sums.sum() - inside) / (counts.sum() - many))


def _distances(values: Numbers, number: npt.NDArray[np.int_], shuffled: Mask) -> Numbers:
    """The largest distance of the two distribution functions, of each shuffle."""
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # of equal values only the last counts
    found = []
    for start in range(0, len(shuffled), BLOCK):
        inside = shuffled[start : start + BLOCK][:, number[order]]
        many = inside.sum(axis=1, keepdims=True)
        steps = np.where(inside, 1 / many, -1 / (len(values) - many))
        found.append(np.abs(steps.cumsum(axis=1)[:, last]).max(axis=1))
    return np.concatenate(found)
