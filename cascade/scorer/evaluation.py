"""Weights held against labelled rows: the table of slices, the calibration error, also with the customer blanked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascade.scorer import head
from cascade.scorer import model as network
from cascade.scorer.calibration import expected_error
from cascade.scorer.manifest import read
from cascade.scorer.measuring import areas, intervals
from cascade.scorer.rows import Row
from cascade.scorer.text import blanked


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`as_json` is what programs read; `table` what people read."""

    rows: int
    auc: dict[str, float | None]
    ranges: dict[str, tuple[float, float] | None]  # 95 % bootstrap intervals
    ece: float | None
    weights: str

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "auc": self.auc, "ece": self.ece, "weights": self.weights}

    def table(self) -> str:
        lines = [f"{self.rows} rows, weights {self.weights}", "", f"{'slice':<26} {'AUC':>6}   95 % interval"]
        for name, value in self.auc.items():
            between = self.ranges[name]
            shown = (
                f"{value:6.4f}   {between[0]:.4f} to {between[1]:.4f}" if value is not None and between else "     -"
            )
            lines.append(f"{name:<26} {shown}")
        return "\n".join(
            [*lines, "", f"expected calibration error {self.ece if self.ece is None else round(self.ece, 4)}"]
        )


def scores(folder: Path, rows: Sequence[Row], *, blind: bool = False) -> list[float]:
    """The served probability of every row. Raises UnfitWeights."""
    manifest = read(folder)
    model, tokenizer = network.load(folder)
    readings = [
        network.reading(tokenizer, blanked(r.context) if blind else r.context, r.answer, manifest.window) for r in rows
    ]
    with torch.autocast("cpu", torch.bfloat16):
        found = head.logits(model, head.load(folder), readings)
    return [manifest.calibration.probability(logit) for logit in found]


def evaluate(folder: Path, rows: Sequence[Row], *, blind: bool = False) -> Evaluation:
    """The whole table. Raises UnfitWeights, ValueError when there is no row."""
    return measured(rows, scores(folder, rows, blind=blind), read(folder).version)


def measured(rows: Sequence[Row], found: Sequence[float], version: str) -> Evaluation:
    """The table of rows that are scored already. Raises ValueError when there is no row."""
    if not rows:
        raise ValueError("there is no row to evaluate")
    error = expected_error(found, [row.good for row in rows])
    return Evaluation(len(rows), areas(rows, found), intervals(rows, found), error, version)
