"""What a chain of models would have done to recorded questions: `policy.next_step`, for all of them at once.

A tier accepts an answer whose score is at least its threshold, a threshold of 0 asks for no score, what is not
accepted was paid all the same, and after the last tier comes a person. `next_step` is the rule; a property test plays
random tables through both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cascade.learning.table import BadTable, EvaluationTable, Numbers

HANDED_OVER = -1
UNKNOWN = -2  # the chain comes to a model that was not asked this question


@dataclass(frozen=True, slots=True)
class Person:
    """What handing over is worth and costs, for every question alike."""

    quality: float = 0.0
    cost_micros: float = 0.0


@dataclass(frozen=True, eq=False)
class Replayed:
    """One entry a question."""

    tier: npt.NDArray[np.int_]  # of the accepted answer; HANDED_OVER or UNKNOWN
    quality: Numbers  # of what the customer got; NaN: unknown, or nobody labelled it
    cost_micros: Numbers  # of all tiers asked; NaN: unknown
    seconds: Numbers  # of all tiers asked; NaN: unknown
    weight: Numbers

    @property
    def unknown(self) -> int:
        """Questions that cannot be replayed."""
        return int((self.tier == UNKNOWN).sum())

    @property
    def mean_quality(self) -> float:
        """Weighted, of those with a label; NaN: there is none."""
        return _mean(self.quality, self.weight)

    @property
    def mean_cost_micros(self) -> float:
        """Weighted, of those that can be replayed; NaN: there is none."""
        return _mean(self.cost_micros, self.weight)

    def share(self, tier: int) -> float:
        """Weighted share of the questions that can be replayed whose answer came from this tier, or HANDED_OVER."""
        known = self.tier != UNKNOWN
        return _mean(np.where(known, self.tier == tier, np.nan), self.weight)


def replay(
    table: EvaluationTable,
    chain: Sequence[str],
    thresholds: Sequence[float],
    *,
    by_segment: Mapping[str, Sequence[float]] | None = None,
    person: Person = Person(),
) -> Replayed:
    """Ask the chain's models in turn; one threshold for each, 0..1, those of `by_segment` instead where it names one.

    Raises BadTable for a model that is not in the table, ValueError for thresholds that are not one a model.
    """
    if len(set(chain)) < len(chain):
        raise BadTable("a chain asks each model once")
    played = table.columns(chain)
    limits = _limits(played, thresholds, by_segment or {})
    count = len(table.questions)
    tier = np.full(count, HANDED_OVER)
    quality, cost, seconds = np.full(count, float(person.quality)), np.zeros(count), np.zeros(count)
    going = np.ones(count, bool)
    for place in range(len(chain)):
        asked = ~np.isnan(played.cost_micros[:, place] + played.score[:, place])
        tier[going & ~asked] = UNKNOWN
        going &= asked
        cost[going] += played.cost_micros[going, place]
        seconds[going] += played.seconds[going, place]
        accepted = going & (played.score[:, place] >= limits[:, place])
        tier[accepted], quality[accepted] = place, played.quality[accepted, place]
        going &= ~accepted
    cost[tier == HANDED_OVER] += person.cost_micros
    for each in (quality, cost, seconds):
        each[tier == UNKNOWN] = np.nan
    return Replayed(tier, quality, cost, seconds, table.weight)


def _limits(table: EvaluationTable, thresholds: Sequence[float], by_segment: Mapping[str, Sequence[float]]) -> Numbers:
    """(questions, tiers)."""
    for each in (thresholds, *by_segment.values()):
        if len(each) != len(table.models) or not all(0 <= threshold <= 1 for threshold in each):
            raise ValueError(f"{list(each)} are not {len(table.models)} thresholds from 0 to 1")
    return np.array([by_segment.get(name, thresholds) for name in table.segment], float).reshape(-1, len(table.models))


def _mean(values: Numbers, weight: Numbers) -> float:
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weight[known])) if known.any() else float("nan")
