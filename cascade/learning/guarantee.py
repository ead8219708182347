"""A promise of accepted answers: at most so many of them are bad, with so much confidence; or a refusal.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, 2021), by fixed-sequence testing: the thresholds of
LEVELS are tested from the strictest that accepts answers enough to say anything, each against "more than so many of
what it accepts are bad" with the exact binomial p-value, and the sequence ends at the first that cannot be rejected.
The laxest rejected one is promised. One threshold stands at every tier, the last included: what none of them passes
goes to a person. An answer is bad where its quality is below a half.

The promise holds for questions drawn as those of the table were, scored by a scorer that was not fitted on them. A
weighted table is first thinned at random, so that every question kept stands for as many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.learning.replaying import replay
from cascade.learning.table import EvaluationTable

LEVELS = tuple(round(1 - 10**-power, 4) for power in (4.0, 3.7, 3.3, 3.0, 2.7, 2.3)) + tuple(
    place / 100 for place in range(99, -1, -1)
)  # strictest first
SEED = 20211005
GOOD = 0.5


class CannotPromise(ValueError):
    """The data do not support the promise; the message says what is short."""


@dataclass(frozen=True, slots=True)
class Promise:
    most_bad: float = 0.05  # share of accepted answers, in (0, 1)
    confidence: float = 0.95  # in (0, 1)

    def __post_init__(self) -> None:
        if not (0 < self.most_bad < 1 and 0 < self.confidence < 1):
            raise ValueError("a promise needs a share and a confidence between 0 and 1")

    @property
    def least(self) -> int:
        """Accepted answers without which nothing can be promised, even if all of them are good."""
        return math.ceil(math.log(1 - self.confidence) / math.log(1 - self.most_bad))


@dataclass(frozen=True, slots=True)
class Promised:
    threshold: float  # of every tier
    accepted: int  # answers of the table that it accepts
    bad: int  # of those
    questions: int
    p_value: float  # of "more than the promised share are bad"


def promised(table: EvaluationTable, chain: Sequence[str], promise: Promise) -> Promised:
    """The laxest threshold that keeps the promise. Raises CannotPromise, BadTable."""
    alike = _thinned(table)
    best: Promised | None = None
    accepted = bad = 0
    for level in LEVELS:
        accepted, bad = _counts(alike, chain, level)
        if best is None and accepted < 2 * promise.least:  # so few would pass only without a single bad one
            continue
        p = _p_value(bad, accepted, promise.most_bad)
        if p > 1 - promise.confidence:
            break
        best = Promised(level, accepted, bad, len(alike.questions), p)
    if best is None:
        raise CannotPromise(_shortage(accepted, bad, promise))
    return best


def promised_by_segment(
    table: EvaluationTable, chain: Sequence[str], promise: Promise
) -> Mapping[str, Promised | CannotPromise]:
    """Of each segment on its own; each promise has the full confidence, not all of them together."""
    held, found = np.array(table.segment), dict[str, Promised | CannotPromise]()
    for name in sorted({each for each in table.segment if each}):
        try:
            found[name] = promised(table.rows(held == name), chain, promise)
        except CannotPromise as refusal:
            found[name] = refusal
    return found


def _thinned(table: EvaluationTable) -> EvaluationTable:
    """Each question kept with a probability in proportion to its weight."""
    if np.ptp(table.weight) == 0:
        return table
    drawn = np.random.default_rng(SEED).random(len(table.weight))
    return table.rows(np.asarray(drawn < table.weight / table.weight.max()))


def _counts(table: EvaluationTable, chain: Sequence[str], level: float) -> tuple[int, int]:
    played = replay(table, chain, [level] * len(chain))
    shown: npt.NDArray[np.bool_] = (played.tier >= 0) & ~np.isnan(played.quality)
    return int(shown.sum()), int((played.quality[shown] < GOOD).sum())


def _p_value(bad: int, accepted: int, most_bad: float) -> float:
    from scipy.stats import binom

    return float(binom.cdf(bad, accepted, most_bad))


def _shortage(accepted: int, bad: int, promise: Promise) -> str:
    wanted = f"at most {promise.most_bad:.0%} bad with {promise.confidence:.0%} confidence"
    if accepted < 2 * promise.least:
        return f"{wanted} needs {2 * promise.least} labelled answers, there are {accepted}"
    return f"{wanted} cannot be promised: of the {accepted} answers that score highest {bad} are bad"
