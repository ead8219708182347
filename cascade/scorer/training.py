"""How a scorer is trained: load, split, fit trees and network, weigh them, calibrate, measure, save.

Trees learn which answer is right for whom, the network which is to the point; wrong answers made from right ones teach
both. Nothing of the validation rows enters either: one half of their customers weighs and calibrates, the other is
reported. The loop that teaches the network is in `fitting`, what the trees are in `trees`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer

from cascade.scorer import calibration, head, manifest, report, trees
from cascade.scorer import model as network
from cascade.scorer.counterfactuals import beside_the_point, own_record_swaps, recitals
from cascade.scorer.evaluation import measured, scores
from cascade.scorer.fitting import Example, TrainingConfig, fit
from cascade.scorer.rows import Row, fingerprint, half, read_rows
from cascade.scorer.text import plain
from cascade.scorer.trees import Trees

Say = Callable[[str], None]
SAID = ("a:", "q:", "h:")  # terms of what is said; all others name fields
TO_THE_POINT = {None: True, "right_answer_wrong_user": True, "fact_corrupted": True, "off_topic": False}


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
    holds the plain MiniLM encoder, or weights of an earlier run. What the encoder has read when a run is killed is not
    read again by the next with the same rows, start and configuration.
    Raises ValueError when a split is empty, WrongBytes when the encoder is not the pinned one.
    """
    learnt, validation = read_rows([*paths, *beside], "train"), read_rows(paths, "validation")
    if not learnt or not validation:
        raise ValueError("rows of split train and of split validation are needed")
    torch.manual_seed(config.seed)  # a new head begins at random
    model, tokenizer = _start(start)
    grown = _grown(learnt, tokenizer, start, config, say)
    say("teaching the network")
    examples = lessons(learnt, tokenizer, config)
    checkpoint = folder / f"checkpoint-{_terms([*paths, *beside], start, config)}.pt"
    fit(model, examples, config, checkpoint=checkpoint, say=progress)
    network.save(model, tokenizer, folder)
    head.save(head.Head(grown), folder)
    facts: dict[str, Any] = {
        "window": config.window,
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
    fitted = _weigh(folder, chosen, facts["window"])
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


def _weigh(folder: Path, chosen: Sequence[Row], window: int) -> calibration.Calibration:
    """Weights of trees and network, written into the folder; the map from their logit to a probability."""
    model, tokenizer = network.load(folder)
    readings = [network.reading(tokenizer, row.context, row.answer, window) for row in chosen]
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
    return network.reading(tokenizer, context, row.answer, config.window)


class Lesson(NamedTuple):
    """A row that teaches the trees, as they are shown it, and what it weighs."""

    row: Row
    reading: network.Reading
    weight: float = 1.0


def lessons_of_trees(learnt: Sequence[Row], tokenizer: Tokenizer, config: TrainingConfig) -> list[Lesson]:
    """The given rows, those that are made of them, and last the given ones once more without names."""
    swaps, elsewhere = made_from(learnt, config)
    made = [(row, config.swap_weight) for row in swaps] + [(row, config.beside_weight) for row in elsewhere]
    given = [Lesson(row, _read(tokenizer, row, config)) for row in learnt]
    return [
        *given,
        *(Lesson(row, _read(tokenizer, row, config), weight) for row, weight in made),
        *(
            Lesson(row, _read_recital(tokenizer, row, config), config.recital_weight)
            for row in recitals(learnt, config.seed)
        ),
        *(Lesson(row, nameless(row, reading), config.nameless_weight) for row, reading, _ in given),
    ]


def _grown(learnt: Sequence[Row], tokenizer: Tokenizer, start: Path, config: TrainingConfig, say: Say) -> Trees:
    say("reading the rows")
    found = lessons_of_trees(learnt, tokenizer, config)
    say(f"growing trees from {len(found)}")
    return grow(found, _trees_of(start), config)


def nameless(row: Row, reading: network.Reading) -> network.Reading:
    """As of a company that the trees have never seen: no field is known by name, and every other word."""
    chance = random.Random(f"nameless/{row.id}")  # noqa: S311
    words = [term for term in reading.terms if term.startswith(SAID) and chance.random() < 0.5]
    return reading._replace(terms=words)


def _read_recital(tokenizer: Tokenizer, row: Row, config: TrainingConfig) -> network.Reading:
    """Half of them as of a company whose words are unknown: it is not these few articles that are to be learnt."""
    found = network.reading(tokenizer, row.context, row.answer, config.window)
    unknown = random.Random(row.group_id).random() < 0.5  # noqa: S311
    return found._replace(terms=()) if unknown else found


def _trees_of(start: Path) -> Trees | None:
    return head.load(start).trees if (start / manifest.NAME).is_file() else None


def grow(learnt: Sequence[Lesson], before: Trees | None, config: TrainingConfig) -> Trees:
    """Trees, or more of them on top of those of an earlier scorer."""
    terms = [each.reading.terms for each in learnt]
    return trees.fit(
        [each.reading.evidence for each in learnt],
        terms,
        [each.row.good for each in learnt],
        before.vocabulary if before else trees.vocabulary_of(terms, [each.row.user_id for each in learnt]),
        weights=[each.weight for each in learnt],
        before=before,
        rounds=config.added_rounds if before else config.rounds,
        seed=config.seed,
        threads=config.threads,
    )


def made_from(rows: Sequence[Row], config: TrainingConfig) -> tuple[list[Row], list[Row]]:
    """Wrong answers made from the rows: swaps, and answers beside the point."""
    return list(own_record_swaps(rows, config.seed, each=2)), list(beside_the_point(rows, config.seed))


def lessons(rows: Sequence[Row], tokenizer: Tokenizer, config: TrainingConfig) -> list[Example]:
    """What teaches the network: each question with each answer once, to the point if it is a right one for anybody.

    Beside the point are the given answers that are, and right ones of other conversations. Answers that people found
    bad, nobody knows why, teach it nothing.
    """
    found: dict[tuple[str, str], bool] = {}
    for row in [*rows, *beside_the_point(rows, config.seed, each=config.strangers)]:
        if (to_the_point := TO_THE_POINT.get(row.negative_type)) is not None:
            pair = plain(row.context.question), plain(row.answer)
            found[pair] = found.get(pair, False) or to_the_point
    pieces = {text: network.encode(tokenizer, text, config.window) for pair in found for text in pair}
    return [Example(pieces[asked], pieces[answered], float(right)) for (asked, answered), right in found.items()]


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
