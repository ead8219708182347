"""How a scorer is trained: load, split, fit trees and network, weigh them, calibrate, measure, save.

Trees and network learn from the same rows; wrong answers made from right ones teach both. Nothing of the validation
rows enters either: one half of their customers weighs and calibrates, the other is reported. The loop that changes the
network is in `fitting`, what the trees are in `trees`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from cascade.scorer import calibration, head, manifest, report, trees
from cascade.scorer import model as network
from cascade.scorer.counterfactuals import beside_the_point, own_record_swaps
from cascade.scorer.evaluation import measured, scores
from cascade.scorer.fitting import Example, TrainingConfig, fit
from cascade.scorer.rows import Row, fingerprint, half, read_rows
from cascade.scorer.trees import Trees

Say = Callable[[str], None]


def train(
    paths: Sequence[Path],
    start: Path,
    folder: Path,
    config: TrainingConfig,
    *,
    beside: Sequence[Path] = (),
    say: Say = print,
    progress: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> manifest.Manifest:
    """Train on the rows of split "train" and write a folder of weights that can be served.

    The rows of `beside` teach too, and no more: `paths` alone calibrate and measure, however few they are. `start`
    holds the plain MiniLM encoder, or weights of an earlier run. Resumes when `folder` has a
    checkpoint of the same rows, start and configuration.
    Raises ValueError when a split is empty, WrongBytes when the encoder is not the pinned one.
    """
    learnt, validation = read_rows([*paths, *beside], "train"), read_rows(paths, "validation")
    if not learnt or not validation:
        raise ValueError("rows of split train and of split validation are needed")
    torch.manual_seed(config.seed)  # a new head begins at random
    model, tokenizer = _start(start)
    swaps, elsewhere = made_from(learnt, config)
    rows = [*learnt, *swaps, *elsewhere]
    say(f"reading {len(rows)} rows")
    readings = [_read(tokenizer, row, config) for row in rows]
    say("growing trees")
    weights = [1.0] * len(learnt) + [config.swap_weight] * len(swaps) + [config.beside_weight] * len(elsewhere)
    grown = grow(rows, readings, weights, _trees_of(start), config)
    told = zip(rows[: len(learnt) + len(swaps)], readings, strict=False)
    examples = [Example(reading.pieces, float(row.good), row.group_id) for row, reading in told]
    checkpoint = folder / f"checkpoint-{_terms([*paths, *beside], start, config)}.pt"
    fit(model, examples, config, checkpoint=checkpoint, say=progress)
    network.save(model, tokenizer, folder)
    head.save(head.Head(grown), folder)
    facts: dict[str, Any] = {
        "window": config.window,
        "budget": config.budget,
        "config": asdict(config),
        "data": {
            "files": sorted(p.name for p in (*paths, *beside)),
            "rows": len(learnt),
            "sha256": fingerprint([*paths, *beside]),
        },
    }
    say("calibrating and measuring")
    written = finish(folder, validation, facts)
    checkpoint.unlink(missing_ok=True)
    return written


def _terms(paths: Sequence[Path], start: Path, config: TrainingConfig) -> str:
    """What an unfinished run must share with one that goes on from it."""
    begun = (start / "model.safetensors").stat()
    told = f"{fingerprint(paths)} {begun.st_size} {begun.st_mtime_ns} {asdict(config)}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def finish(folder: Path, validation: Sequence[Row], facts: dict[str, Any]) -> manifest.Manifest:
    """Weigh and calibrate on one half of the validation customers, measure on the other, write manifest and report."""
    chosen = [row for row in validation if half(row) == 0]
    reported = [row for row in validation if half(row) == 1]
    own = own_record_measure(validation)
    fitted = _weigh(folder, chosen, facts["budget"], facts["window"])
    calibrated = manifest.describe(folder, calibration=fitted, metrics={}, **facts)
    manifest.write(calibrated, folder)
    found = scores(folder, [*reported, *chosen, *own])
    blind = scores(folder, reported, blind=True)
    both = len(validation)
    metrics = {
        "reported half": _figures(reported, found[: len(reported)]),
        "reported half, blind": _figures(reported, blind),
        "all of validation": _figures([*reported, *chosen], found[:both]),
        "made own-record swaps": _figures(own, found[both:]),
    }
    final = manifest.describe(folder, calibration=fitted, metrics=metrics, **facts)
    manifest.write(final, folder)
    report.write(folder, reported, found[: len(reported)], blind, final)
    return final


def _figures(rows: Sequence[Row], found: Sequence[float]) -> dict[str, Any] | None:
    if not rows:
        return None
    told = measured(rows, found, "")
    ranges = {name: list(between) if between else None for name, between in told.ranges.items()}
    return {"rows": told.rows, "auc": told.auc, "ece": told.ece, "95 %": ranges}


def _weigh(folder: Path, chosen: Sequence[Row], budget: int, window: int) -> calibration.Calibration:
    """Weights of trees and network, written into the folder; the map from their logit to a probability."""
    model, tokenizer = network.load(folder)
    readings = [network.reading(tokenizer, row.context, row.answer, budget, window) for row in chosen]
    good = [row.good for row in chosen]
    with torch.autocast("cpu", torch.bfloat16):
        joined = head.weighed(model, head.load(folder), readings, good)
        found = head.logits(model, joined, readings)
    head.save(joined, folder)
    return calibration.fit(found, good)


def _start(folder: Path) -> tuple[Any, Tokenizer]:
    if (folder / manifest.NAME).is_file():
        return network.load(folder)
    return network.from_minilm(folder)


def _read(tokenizer: Tokenizer, row: Row, config: TrainingConfig) -> network.Reading:
    """A training row as the scorer reads it; half of them go without passages: a tenant may have none."""
    without = random.Random(row.id).random() < 0.5  # noqa: S311
    context = replace(row.context, passages=()) if without else row.context
    return network.reading(tokenizer, context, row.answer, config.budget, config.window)


def _trees_of(start: Path) -> Trees | None:
    return head.load(start).trees if (start / manifest.NAME).is_file() else None


def grow(
    rows: Sequence[Row],
    readings: Sequence[network.Reading],
    weights: Sequence[float],
    before: Trees | None,
    config: TrainingConfig,
) -> Trees:
    """Trees for the rows, or more of them on top of those of an earlier scorer."""
    terms = [each.terms for each in readings]
    return trees.fit(
        [each.evidence for each in readings],
        terms,
        [row.good for row in rows],
        before.vocabulary if before else trees.vocabulary_of(terms, [row.user_id for row in rows]),
        weights=weights,
        before=before,
        rounds=config.added_rounds if before else config.rounds,
        seed=config.seed,
        threads=config.threads,
    )


def made_from(rows: Sequence[Row], config: TrainingConfig) -> tuple[list[Row], list[Row]]:
    """Wrong answers made from the rows: swaps, and answers beside the point."""
    return list(own_record_swaps(rows, config.seed, each=2)), list(beside_the_point(rows, config.seed))


def own_record_measure(validation: Sequence[Row]) -> list[Row]:
    """Own-record swaps made from customers that trained nothing, with the good rows they were made from."""
    made = list(own_record_swaps(validation, seed=1, each=2))
    groups = {row.group_id for row in made}
    return [*made, *(row for row in validation if row.good and row.group_id in groups)]


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
