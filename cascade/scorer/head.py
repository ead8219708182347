"""What trees look up and what the network reads, joined into one logit, each with the weight that it has earned.

The wide and the deep half of Cheng et al., "Wide & deep learning for recommender systems" (2016), with boosted trees
for the wide one. The weights are fitted on rows that neither was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import DistilBertForSequenceClassification

from cascade.scorer import model as network
from cascade.scorer.model import Reading
from cascade.scorer.trees import Trees

NAME = "head.safetensors"
ARRAYS = tuple(field.name for field in fields(Trees) if field.name != "vocabulary")
LEAST = 0.05  # weight of the network: rows that trees learnt by heart do not silence it
DECIDED = 4.0  # logit of the trees, either way, from which on they decide alone: most answers need no network


@dataclass(frozen=True)
class Head:
    """logit = wide * that of the trees + deep * that of the network.

    Where that has the least weight it is not asked, and 0, for what the trees have DECIDED.
    """

    trees: Trees
    wide: float = 1.0
    deep: float = 1.0


def logits(model: DistilBertForSequenceClassification, head: Head, readings: Sequence[Reading]) -> list[float]:
    """The scorer's logit of every reading, in the order given."""
    if not readings:
        return []
    found: list[float] = (_halves(model, head, readings) @ [head.wide, head.deep]).tolist()
    return found


def weighed(
    model: DistilBertForSequenceClassification, head: Head, readings: Sequence[Reading], good: Sequence[bool]
) -> Head:
    """The head with the weights of greatest likelihood for these rows, which must not have been trained on."""
    from scipy.optimize import minimize

    halves, sign = _halves(model, head, readings), np.where(good, -1.0, 1.0)

    def loss(at: npt.NDArray[np.float64]) -> float:
        misfit = np.logaddexp(0, sign * (halves @ at[:2] + at[2])).sum()
        return float(misfit + ((at[:2] - 1) ** 2).sum())  # where rows are few, both stay near 1

    found = minimize(loss, np.array([1.0, 1.0, 0.0]), bounds=[(LEAST, None), (LEAST, None), (None, None)]).x
    return replace(head, wide=round(float(found[0]), 4), deep=round(float(found[1]), 4))


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _halves(
    model: DistilBertForSequenceClassification, head: Head, readings: Sequence[Reading]
) -> npt.NDArray[np.float64]:
    """(rows, 2): the logits of trees and network. Which rows are read is the trees' alone, so no engine changes it."""
    halves = np.zeros((len(readings), 2))
    halves[:, 0] = head.trees.logits([each.evidence for each in readings], [each.terms for each in readings])
    decided = (abs(halves[:, 0]) >= DECIDED) & (head.deep <= LEAST)
    undecided = np.flatnonzero(~decided)
    halves[undecided, 1] = network.logits(model, [readings[at].pieces for at in undecided])
    return halves


def save(head: Head, folder: Path) -> None:
    arrays = {name: np.ascontiguousarray(getattr(head.trees, name)) for name in ARRAYS}
    told = {"vocabulary": head.trees.vocabulary, "wide": head.wide, "deep": head.deep}
    save_file(arrays, folder / NAME, metadata={name: json.dumps(value) for name, value in told.items()})


def load(folder: Path) -> Head:
    with safe_open(folder / NAME, framework="numpy") as opened:
        told = {name: json.loads(value) for name, value in opened.metadata().items()}
        arrays = {name: opened.get_tensor(name) for name in ARRAYS}
    return Head(Trees(tuple(told["vocabulary"]), **arrays), told["wide"], told["deep"])
