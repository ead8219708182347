"""How a scorer is trained: load, split, fit, calibrate, measure, save. Read top to bottom.

The loop itself is in `fitting`. Nothing of the validation rows enters the weights: one half of their customers
calibrates, the other is reported.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from cascade.scorer import calibration, head, manifest
from cascade.scorer import model as network
from cascade.scorer.counterfactuals import own_record_swaps
from cascade.scorer.evaluation import evaluate, scores
from cascade.scorer.fitting import Example, TrainingConfig, fit
from cascade.scorer.rows import Row, fingerprint, half, read_rows
from cascade.scorer.text import render
from cascade.values import Context

Say = Callable[[str], None]


def train(
    paths: Sequence[Path],
    start: Path,
    folder: Path,
    config: TrainingConfig,
    *,
    say: Say = print,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> manifest.Manifest:
    """Train on the rows of split "train" and write a folder of weights that can be served.

    `start` holds the plain MiniLM encoder, or weights of an earlier run. Resumes when `folder` has a checkpoint.
    Raises ValueError when a split is empty, WrongBytes when the encoder is not the pinned one.
    """
    learnt, validation = read_rows(paths, "train"), read_rows(paths, "validation")
    if not learnt or not validation:
        raise ValueError("rows of split train and of split validation are needed")
    own = own_record_measure(learnt)
    learnt = with_counterfactuals(learnt, config)
    model, tokenizer = _start(start)
    say(f"writing {len(learnt)} rows out")
    fit(model, examples(learnt, tokenizer, config), config, checkpoint=folder / "checkpoint.pt", say=progress)
    network.save(model, tokenizer, folder)
    say("fitting the head")
    head.save(fit_head(folder, learnt, config), folder)
    facts: dict[str, Any] = {
        "window": config.window,
        "budget": config.budget,
        "config": asdict(config),
        "data": {"files": sorted(p.name for p in paths), "rows": len(learnt), "sha256": fingerprint(paths)},
    }
    say("calibrating and measuring")
    written = finish(folder, validation, own, facts)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return written


def finish(folder: Path, validation: Sequence[Row], own: Sequence[Row], facts: dict[str, Any]) -> manifest.Manifest:
    """Calibrate on one half of the validation customers, measure on the other, write the manifest."""
    plain = manifest.describe(folder, calibration=calibration.Calibration(), metrics={}, **facts)
    manifest.write(plain, folder)
    chosen = [row for row in validation if half(row) == 0]
    reported = [row for row in validation if half(row) == 1]
    fitted = calibration.fit([_logit(p) for p in scores(folder, chosen)], [row.good for row in chosen])
    calibrated = manifest.describe(folder, calibration=fitted, metrics={}, **facts)
    manifest.write(calibrated, folder)
    metrics = {
        "reported half": _figures(folder, reported),
        "reported half, blind": _figures(folder, reported, blind=True),
        "all of validation": _figures(folder, validation),
        "made own-record swaps": _figures(folder, own),
    }
    final = manifest.describe(folder, calibration=fitted, metrics=metrics, **facts)
    manifest.write(final, folder)
    return final


def _figures(folder: Path, rows: Sequence[Row], *, blind: bool = False) -> dict[str, Any] | None:
    if not rows:
        return None
    found = evaluate(folder, rows, blind=blind)
    ranges = {name: list(between) if between else None for name, between in found.ranges.items()}
    return {**found.as_json(), "95 %": ranges}


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(bounded / (1 - bounded))


def _start(folder: Path) -> tuple[Any, Tokenizer]:
    if (folder / manifest.NAME).is_file():
        return network.load(folder)
    return network.from_minilm(folder)


def fit_head(folder: Path, learnt: Sequence[Row], config: TrainingConfig) -> head.Head:
    """The head for the encoder as it was saved, on the rows that the encoder learnt from, passages and all."""
    model, tokenizer = network.load(folder)
    readings = [network.reading(tokenizer, row.context, row.answer, config.budget, config.window) for row in learnt]
    with torch.autocast("cpu", torch.bfloat16):
        read = torch.tensor(network.logits(model, [pieces for pieces, _ in readings]))
    return head.fit(read, torch.tensor([c for _, c in readings]), [row.good for row in learnt], config.seed)


def examples(rows: Sequence[Row], tokenizer: Tokenizer, config: TrainingConfig) -> list[Example]:
    """The rows as the network reads them."""
    texts = (render(_as_learnt(row), row.answer, budget=config.budget) for row in rows)
    encoded = (network.encode(tokenizer, text, config.window) for text in texts)
    return [Example(pieces, float(row.good), row.group_id) for row, pieces in zip(rows, encoded, strict=True)]


def _as_learnt(row: Row) -> Context:
    """Half of the training rows go without passages: a tenant may have none."""
    without = row.split == "train" and random.Random(row.id).random() < 0.5  # noqa: S311
    return replace(row.context, passages=()) if without else row.context


def with_counterfactuals(rows: Sequence[Row], config: TrainingConfig) -> list[Row]:
    """Training rows and the swaps made from them; customers kept for measuring give none."""
    givers = [row for row in rows if not kept_for_measuring(row)]
    return [*rows, *own_record_swaps(givers, config.seed, each=config.own_record_each)]


def own_record_measure(rows: Sequence[Row]) -> list[Row]:
    """Own-record swaps made from customers that gave none to training, with the good rows they were made from."""
    made = list(own_record_swaps([row for row in rows if kept_for_measuring(row)], seed=1, each=2))
    groups = {row.group_id for row in made}
    return [*made, *(row for row in rows if row.good and row.group_id in groups)]


def kept_for_measuring(row: Row) -> bool:
    """About a seventh of the customers: their own-record swaps measure, and are never trained on."""
    return random.Random(row.user_id).random() < 0.15  # noqa: S311


def card(written: manifest.Manifest) -> str:
    """The measured part of the model card, Markdown."""
    lines = ["| slice | reported half | 95 % | blind | all of validation |", "| --- | --- | --- | --- | --- |"]
    reported, blind, every = (
        written.metrics[name] for name in ("reported half", "reported half, blind", "all of validation")
    )
    for name, value in reported["auc"].items():
        between = reported["95 %"][name]
        shown = [_number(value), " to ".join(map(_number, between)) if between else "-"]
        lines.append(
            f"| {name} | {' | '.join(shown)} | {_number(blind['auc'][name])} | {_number(every['auc'][name])} |"
        )
    told = f"ECE on the reported half {reported['ece']:.4f}; {json.dumps(dict(written.data))}"
    return "\n".join([*lines, "", told])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
