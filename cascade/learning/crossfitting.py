"""What a chain brings on questions that did not choose it: chosen on four fifths of a table, played on the fifth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.learning import intervals
from cascade.learning.replaying import replay
from cascade.learning.search import Choice, Goal, quick_choice
from cascade.learning.segments import thresholds_by_segment
from cascade.learning.table import EvaluationTable, Numbers, undominated

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Unseen:
    """What strategies that were chosen without a question do with it."""

    quality: Numbers  # (questions,)
    cost_micros: Numbers
    models: frozenset[str]  # that any fold's chain asks


def cross_fitted(
    table: EvaluationTable, goal: Goal, most_tiers: int, *, segments: bool = False, otherwise: Choice | None = None
) -> Unseen:
    """Where a fold cannot meet the goal: by `otherwise`, or else by the best single model of the others."""
    fold = np.random.default_rng(intervals.SEED).permutation(len(table.questions)) % FOLDS
    quality, cost, asked = np.empty(len(fold)), np.empty(len(fold)), set[str]()
    for number in range(FOLDS):
        rest, part = table.rows(fold != number), table.rows(fold == number)
        found = quick_choice(rest, undominated(rest), goal, most_tiers) or otherwise or _best_single(rest, goal)
        own = thresholds_by_segment(rest, found, goal) if segments else {}
        played = replay(part, found.chain, found.thresholds, by_segment=own, person=goal.person)
        quality[fold == number], cost[fold == number] = played.quality, played.cost_micros
        asked.update(found.chain)
    return Unseen(quality, cost, frozenset(asked))


def _best_single(table: EvaluationTable, goal: Goal) -> Choice:
    best = int(table.mean_quality.argmax())
    return Choice(
        (table.models[best],), (goal.floor,), float(table.mean_quality[best]), float(table.mean_cost_micros[best])
    )
