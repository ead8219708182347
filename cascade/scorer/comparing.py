"""Is one scorer not worse than another, judged by the same labelled answers? Paired, by customer.

A customer's answers are alike, so customers are what is counted, not answers: the areas under both curves are compared
after DeLong, DeLong and Clarke-Pearson (1988) as Obuchowski (1997) extended it to clusters, and the mean squared errors
of the probabilities (Brier, 1950) by the customers' paired differences. Needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

MARGIN = 0.01  # of area or squared error: what is within it counts as not worse
ONE_SIDED_95 = 1.6449  # standard errors
LEAST_OF_A_KIND = 30  # good answers, and bad ones
LEAST_CUSTOMERS = 20  # with good answers, and with bad ones


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled answer and what both scorers say of it."""

    customer: str
    good: bool
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two scorers make of the same answers. `refusal`: why the new one must not replace the old; "": it may."""

    good: int
    bad: int
    customers: int  # of good answers or of bad ones, the fewer
    area_old: float | None = None  # None: too few answers to say
    area_new: float | None = None
    area_least: float | None = None  # the difference is at least this, with 95 % confidence
    error_old: float | None = None
    error_new: float | None = None
    error_least: float | None = None  # how much smaller the error is, at least
    refusal: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def compare(judged: Sequence[Judged], calibrated: Sequence[Judged] | None = None) -> Comparison:
    """Whether the new scorer is not worse, by more than MARGIN, in ranking and in its probabilities.

    `calibrated`: the same answers with the scores as they would be read; None: as they come.
    """
    good = sum(each.good for each in judged)
    customers = min(len({each.customer for each in judged if each.good is kind}) for kind in (True, False))
    counts = {"good": good, "bad": len(judged) - good, "customers": customers}
    if min(good, len(judged) - good) < LEAST_OF_A_KIND or customers < LEAST_CUSTOMERS:
        needed = f"{LEAST_OF_A_KIND} good and {LEAST_OF_A_KIND} bad answers, of {LEAST_CUSTOMERS} customers each"
        found = f"{good} good and {counts['bad']} bad ones, of {customers} customers at least"
        return Comparison(**counts, refusal=f"too few labels to compare: {needed} are needed, there are {found}")
    (area_old, area_new), area_deviation = areas(judged)
    (error_old, error_new), error_deviation = errors(calibrated or judged)
    area_least = area_new - area_old - ONE_SIDED_95 * area_deviation
    error_least = error_old - error_new - ONE_SIDED_95 * error_deviation
    return Comparison(
        **counts,
        area_old=area_old,
        area_new=area_new,
        area_least=area_least,
        error_old=error_old,
        error_new=error_new,
        error_least=error_least,
        refusal=_refusal(area_least, error_least),
    )


def _refusal(area_least: float, error_least: float) -> str:
    if area_least < -MARGIN:
        return f"it may rank worse than the live one: the area's difference may be as low as {area_least:+.3f}"
    if error_least < -MARGIN:
        return f"its probabilities may be worse: the squared error may be larger by {-error_least:.3f}"
    return ""


def areas(judged: Sequence[Judged]) -> tuple[tuple[float, float], float]:
    """The areas under both curves, and the standard error of their difference."""
    good = np.array([each.good for each in judged])
    cluster = np.unique([each.customer for each in judged], return_inverse=True)[1]
    found = [_placements(np.array([getattr(each, name) for each in judged]), good) for name in ("old", "new")]
    (old, of_old), (new, of_new) = found
    beyond = (of_new - new) - (of_old - old)  # each answer's part in the difference
    sums = [np.bincount(cluster[side], beyond[side], cluster.max() + 1) for side in (good, ~good)]
    present = [np.bincount(cluster[side], minlength=cluster.max() + 1) > 0 for side in (good, ~good)]
    n = len(sums[0])
    parts = [
        p.sum() / (p.sum() - 1) * (s**2).sum() / side.sum() ** 2
        for p, s, side in zip(present, sums, (good, ~good), strict=True)
    ]
    shared = n / (n - 1) * (sums[0] * sums[1]).sum() / (good.sum() * (~good).sum())
    return (old, new), math.sqrt(max(parts[0] + parts[1] + 2 * shared, 0.0))


def _placements(scores: np.ndarray, good: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and for each answer the share of the other kind that it is ranked rightly against."""
    ups, downs = np.sort(scores[good]), np.sort(scores[~good])
    found = np.empty(len(scores))
    found[good] = _share_below(downs, scores[good])
    found[~good] = 1 - _share_below(ups, scores[~good])
    return float(found[good].mean()), found


def _share_below(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ties count half."""
    below: np.ndarray = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return below / (2 * len(ordered))


def errors(judged: Sequence[Judged]) -> tuple[tuple[float, float], float]:
    """The mean squared errors of both, and the standard error of their difference over customers."""
    target = np.array([each.good for each in judged], float)
    old, new = (np.array([getattr(each, name) for each in judged]) for name in ("old", "new"))
    difference = (old - target) ** 2 - (new - target) ** 2
    cluster = np.unique([each.customer for each in judged], return_inverse=True)[1]
    sums = np.bincount(cluster, difference - difference.mean())
    n = len(sums)
    deviation = math.sqrt(n / (n - 1) * float((sums**2).sum())) / len(judged)
    return (float(((old - target) ** 2).mean()), float(((new - target) ** 2).mean())), deviation
