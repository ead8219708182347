"""How well scores rank good answers over bad ones, slice by slice. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cascade.scorer.rows import Row

SLICES: dict[str, Callable[[Row], bool]] = {
    "all": lambda row: not row.good,
    "right_answer_wrong_user": lambda row: row.negative_type == "right_answer_wrong_user",
    "needs_lookup": lambda row: row.negative_type == "right_answer_wrong_user" and row.needs == "lookup",
    "needs_policy": lambda row: row.negative_type == "right_answer_wrong_user" and row.needs == "policy",
    "fact_corrupted": lambda row: row.negative_type == "fact_corrupted",
    "own_record": lambda row: row.negative_type == "fact_corrupted" and row.own_record,
    "off_topic": lambda row: row.negative_type == "off_topic",
}
AGAINST_ALL_GOOD = {"all", "off_topic"}  # the others: against the good rows of the same groups


def area(good: Sequence[float], bad: Sequence[float]) -> float:
    """Probability that a good answer outranks a bad one, ties counted half (the AUC)."""
    scores = np.concatenate([np.asarray(good, float), np.asarray(bad, float)])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(good), len(bad)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def slice_members(rows: Sequence[Row], name: str) -> tuple[list[int], list[int]]:
    """Positions of the good and the bad rows that a slice compares."""
    bad = [i for i, row in enumerate(rows) if SLICES[name](row)]
    groups = {rows[i].group_id for i in bad}
    every = name in AGAINST_ALL_GOOD
    good = [i for i, row in enumerate(rows) if row.good and (every or row.group_id in groups)]
    return good, bad


def areas(rows: Sequence[Row], scores: Sequence[float]) -> dict[str, float | None]:
    """AUC of every slice; None: nothing to compare."""
    found: dict[str, float | None] = {}
    for name in SLICES:
        good, bad = slice_members(rows, name)
        found[name] = area([scores[i] for i in good], [scores[i] for i in bad]) if good and bad else None
    return found


def intervals(
    rows: Sequence[Row], scores: Sequence[float], *, resamples: int = 500, seed: int = 7
) -> dict[str, tuple[float, float] | None]:
    """95 % bootstrap intervals of every slice's AUC; users are drawn, not rows, since a user's rows are alike."""
    chance = np.random.default_rng(seed)
    found: dict[str, tuple[float, float] | None] = {}
    for name in SLICES:
        good, bad = slice_members(rows, name)
        if not good or not bad:
            found[name] = None
            continue
        users = sorted({rows[i].user_id for i in (*good, *bad)})
        draws = chance.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples)
        place = {user: n for n, user in enumerate(users)}
        weigh = [np.array([place[rows[i].user_id] for i in side]) for side in (good, bad)]
        drawn = [_weighted_area(scores, good, bad, draw[weigh[0]], draw[weigh[1]]) for draw in draws]
        drawn = [value for value in drawn if not np.isnan(value)]
        found[name] = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))
    return found


def _weighted_area(
    scores: Sequence[float], good: list[int], bad: list[int], good_weights: np.ndarray, bad_weights: np.ndarray
) -> float:
    """The AUC when each row counts as often as it was drawn; NaN when a side was not drawn at all."""
    if not good_weights.sum() or not bad_weights.sum():
        return float("nan")
    values = np.array([scores[i] for i in (*good, *bad)])
    levels, place = np.unique(values, return_inverse=True)
    of_good = np.bincount(place[: len(good)], good_weights, len(levels))
    of_bad = np.bincount(place[len(good) :], bad_weights, len(levels))
    below = np.cumsum(of_bad) - of_bad
    return float((of_good * (below + of_bad / 2)).sum() / (good_weights.sum() * bad_weights.sum()))
