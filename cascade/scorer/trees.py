"""Boosted trees over what the alignment counted and what is said and held by name: they look up, the network reads.

Gradient boosting after Friedman, "Greedy function approximation" (2001), fitted by LightGBM (Ke et al. 2017) and
kept as plain arrays, so that serving needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_USERS = 10  # customers whose rows a term must stand in: what fewer share is about them, not about answers
SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 20,
    "lambda_l2": 1.0,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
Numbers = npt.NDArray[np.float32]
Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Trees:
    """Nodes of all trees one after the other: a node asks whether a feature is at most its threshold.

    `left` and `right` hold node numbers; a leaf is its own child. `values` is what a leaf adds to the logit.
    Features are the evidence numbers, then one for each term of `vocabulary`: 1 where it is said or held.
    """

    vocabulary: tuple[str, ...]
    roots: Places
    features: Places
    thresholds: Numbers
    left: Places
    right: Places
    values: Numbers

    def logits(self, evidence: Sequence[Sequence[float]], terms: Sequence[Iterable[str]]) -> list[float]:
        """One a row. `evidence`: (rows, SIZE); `terms`: the rows' own."""
        rows = (_row(counted, said, self._numbers) for counted, said in zip(evidence, terms, strict=True))
        return [self._logit(row) for row in rows]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The place of each term."""
        return {term: number for number, term in enumerate(self.vocabulary)}

    def _logit(self, row: Numbers) -> float:
        """All trees go down a level at once."""
        at = self.roots
        while True:  # a path only ever goes to nodes further on, or stays
            below = np.where(row[self.features[at]] <= self.thresholds[at], self.left[at], self.right[at])
            if (below == at).all():
                return float(self.values[at].sum())
            at = below


def no_trees() -> Trees:
    """No tree at all: every logit is 0."""
    places, numbers = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return Trees((), places, places, numbers, places, places, numbers)


def vocabulary_of(terms: Sequence[Iterable[str]], users: Sequence[str]) -> tuple[str, ...]:
    """The terms that stand in rows of at least LEAST_USERS users, sorted."""
    seen: dict[str, set[str]] = {}
    for said, user in zip(terms, users, strict=True):
        for term in said:
            seen.setdefault(term, set()).add(user)
    return tuple(sorted(term for term, those in seen.items() if len(those) >= LEAST_USERS))


def fit(
    evidence: Sequence[Sequence[float]],
    terms: Sequence[Iterable[str]],
    good: Sequence[bool],
    vocabulary: tuple[str, ...],
    *,
    weights: Sequence[float] | None = None,
    before: Trees | None = None,
    rounds: int,
    seed: int,
    threads: int,
) -> Trees:
    """Trees for these rows; deterministic with its seed. `vocabulary`: of `vocabulary_of`.

    `before`: trees to go on from; its vocabulary is kept, and the new trees only mend what it gets wrong.
    """
    import torch  # noqa: F401  (brings the OpenMP library that LightGBM looks for)
    import lightgbm  # isort: skip
    from scipy.sparse import csr_matrix, hstack

    vocabulary = before.vocabulary if before else vocabulary
    known = before.logits(evidence, terms) if before else None
    numbers = {term: number for number, term in enumerate(vocabulary)}
    held = [[numbers[term] for term in said if term in numbers] for said in terms]
    ends = np.cumsum([0, *map(len, held)])
    flat = np.array([number for each in held for number in each], np.int32)
    named = csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=(len(held), len(vocabulary)))
    rows = hstack([csr_matrix(np.asarray(evidence, np.float32)), named]).tocsr()
    settings = {**SETTINGS, "seed": seed, "num_threads": threads}
    labelled = lightgbm.Dataset(rows, np.asarray(good, float), weight=weights, init_score=known)
    grown = lightgbm.train(settings, labelled, rounds).dump_model()["tree_info"]
    added = _flattened([tree["tree_structure"] for tree in grown], vocabulary)
    return _together(before, added) if before else added


def _together(first: Trees, second: Trees) -> Trees:
    shift = np.int32(len(first.features))
    moved = {name: getattr(second, name) + shift for name in ("roots", "left", "right")}
    joined = {
        name: np.concatenate([getattr(first, name), moved.get(name, getattr(second, name))])
        for name in ("roots", "features", "thresholds", "left", "right", "values")
    }
    return Trees(first.vocabulary, **joined)


def _row(evidence: Sequence[float], terms: Iterable[str], numbers: dict[str, int]) -> Numbers:
    row = np.zeros(len(evidence) + len(numbers), np.float32)
    row[: len(evidence)] = evidence
    row[[len(evidence) + numbers[term] for term in terms if term in numbers]] = 1
    return row


def _flattened(structures: Sequence[dict[str, Any]], vocabulary: tuple[str, ...]) -> Trees:
    roots, nodes = [], list[list[float]]()  # a node: feature, threshold, left, right, value

    def add(node: dict[str, Any]) -> int:
        place = len(nodes)
        nodes.append([0, 0.0, place, place, node.get("leaf_value", 0.0)])
        if "split_feature" in node:
            nodes[place][:2] = [node["split_feature"], node["threshold"]]
            nodes[place][2] = add(node["left_child"])
            nodes[place][3] = add(node["right_child"])
        return place

    for structure in structures:
        roots.append(add(structure))
    table = np.array(nodes, float).reshape(-1, 5)
    places, numbers = table[:, [0, 2, 3]].astype(np.int32), table[:, [1, 4]].astype(np.float32)
    return Trees(
        vocabulary, np.array(roots, np.int32), places[:, 0], numbers[:, 0], places[:, 1], places[:, 2], numbers[:, 1]
    )
