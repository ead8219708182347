"""What the trees know of the customer and what the network says of the subject, joined into one logit.

The trees tell whether an answer is right for this customer, the network whether it is to the point at all. It is heard
only where it is certain that an answer is not, and asked only where that may change the verdict: not where the trees
leave no hope, nor where they are sure of an answer that takes up more than half of the question's words. Wide and deep
(Cheng et al. 2016), each with the weight that it has earned on rows that neither was trained on.
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
from torch.nn.functional import softplus

from cascade.scorer import evidence
from cascade.scorer import model as network
from cascade.scorer.model import Reader, Reading
from cascade.scorer.trees import Trees

NAME = "head.safetensors"
ARRAYS = tuple(field.name for field in fields(Trees) if field.name != "vocabulary")
CERTAIN = 4.0  # log odds against an answer from which on the network is heard
HOPELESS = -4.0  # logit of the trees, some 4 % to be good, up to which doubts would only confirm
SURE, TAKEN_UP = 2.0, 0.5  # logit of the trees and share of the question's words, above which there are none
LEAST = 0.05  # weight of the trees


@dataclass(frozen=True)
class Head:
    """logit = wide * trees - deep * doubt, the doubt as in `_doubts`"""

    trees: Trees
    wide: float = 1.0
    deep: float = 1.0


def logits(model: Reader, head: Head, readings: Sequence[Reading]) -> list[float]:
    """The scorer's logit of every reading, in the order given."""
    if not readings:
        return []
    found: list[float] = (_halves(model, head, readings) @ [head.wide, head.deep]).tolist()
    return found


def weighed(model: Reader, head: Head, readings: Sequence[Reading], good: Sequence[bool]) -> Head:
    """The head with the weights of greatest likelihood for these rows, which must not have been trained on."""
    from scipy.optimize import minimize

    halves, sign = _halves(model, head, readings), np.where(good, -1.0, 1.0)

    def loss(at: npt.NDArray[np.float64]) -> float:
        misfit = np.logaddexp(0, sign * (halves @ at[:2] + at[2])).sum()
        return float(misfit + ((at[:2] - 1) ** 2).sum())  # where rows are few, both stay near 1

    found = minimize(loss, np.array([1.0, 1.0, 0.0]), bounds=[(LEAST, None), (0, None), (None, None)]).x
    return replace(head, wide=round(float(found[0]), 4), deep=round(float(found[1]), 4))


@torch.inference_mode()  # type: ignore[untyped-decorator]
def _halves(model: Reader, head: Head, readings: Sequence[Reading]) -> npt.NDArray[np.float64]:
    """(rows, 2): the logits of the trees, and the network's doubts, negative; 0 where it is not asked."""
    looked_up = head.trees.logits([each.evidence for each in readings], [each.terms for each in readings])
    open_ = [at for at, (logit, each) in enumerate(zip(looked_up, readings, strict=True)) if is_open(logit, each)]
    doubts = np.zeros(len(readings))
    doubts[open_] = _doubts(network.logits(model, [readings[at][:2] for at in open_]))
    return np.stack([np.asarray(looked_up, float), -doubts], axis=1)


def is_open(looked_up: float, reading: Reading) -> bool:
    """Whether the network is asked, after what the trees made of a reading."""
    settled = looked_up <= HOPELESS or (looked_up > SURE and reading.evidence[evidence.TAKEN_UP] > TAKEN_UP)
    return bool(reading.answered) and not settled


def _doubts(read: Sequence[float]) -> npt.NDArray[np.float64]:
    """Next to nothing unless the log odds against an answer are beyond CERTAIN, then by how much. NaN stays NaN."""
    found: npt.NDArray[np.float64] = softplus(-(torch.tensor(read, dtype=torch.float64) + CERTAIN)).numpy()
    return found


def save(head: Head, folder: Path) -> None:
    arrays = {name: np.ascontiguousarray(getattr(head.trees, name)) for name in ARRAYS}
    told = {"vocabulary": head.trees.vocabulary, "wide": head.wide, "deep": head.deep}
    save_file(
        arrays, folder / NAME, metadata={"told": json.dumps(told)}
    )  # one entry: several have no order of their own


def load(folder: Path) -> Head:
    with safe_open(folder / NAME, framework="numpy") as opened:
        told = json.loads(opened.metadata()["told"])
        arrays = {name: opened.get_tensor(name) for name in ARRAYS}
    return Head(Trees(tuple(told["vocabulary"]), **arrays), told["wide"], told["deep"])
