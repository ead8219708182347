"""Recorded answers of several models to the same questions, read from JSON lines.

One row for each question and model, with the columns source, task, question_id, question, model, answer, quality
(0..1) and usd_cost; others are passed over. Every question needs a row of every model.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.learning.table import LEAST_QUESTIONS, BadTable, Numbers

COLUMNS = ("source", "task", "question_id", "question", "model", "answer", "quality", "usd_cost")


@dataclass(frozen=True, eq=False)
class Records:
    """One entry a question, one column a model, in the order of `models`."""

    ids: tuple[str, ...]  # source, task and question_id
    tasks: tuple[str, ...]
    questions: tuple[str, ...]
    models: tuple[str, ...]  # cheapest first, by mean cost
    answers: tuple[tuple[str, ...], ...]
    quality: Numbers  # (questions, models)
    cost_micros: Numbers  # (questions, models)

    def of(self, models: tuple[str, ...]) -> Records:
        """In the order of these models. Raises BadTable for one that is missing here."""
        if missing := [model for model in models if model not in self.models]:
            raise BadTable(f"model {missing[0]!r} has no answers here, though there were some to learn from")
        order = [self.models.index(model) for model in models]
        answers = tuple(tuple(row[place] for place in order) for row in self.answers)
        kept = (self.quality[:, order], self.cost_micros[:, order])
        return Records(self.ids, self.tasks, self.questions, models, answers, *kept)


def read(path: Path) -> Records:
    """Raises BadTable naming the line, the question or the shortage; OSError where there is no such file."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for line, row in _lines(path):
        if problem := _problem(row):
            raise BadTable(f"{path.name}, line {line}: {problem}")
        question = rows.setdefault(f"{row['source']}/{row['task']}/{row['question_id']}", {})
        if row["model"] in question:
            raise BadTable(f"{path.name}, line {line}: a second answer of {row['model']} to the same question")
        question[row["model"]] = row
    if len(rows) < LEAST_QUESTIONS:
        raise BadTable(f"{path.name} has {len(rows)} questions, at least {LEAST_QUESTIONS} are needed")
    return _records(path.name, rows)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise BadTable(f"{path.name}, line {number}: {error}") from None


def _problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "an object is needed"
    if missing := [column for column in COLUMNS if column not in row]:
        return f"{missing[0]} is missing"
    if not all(isinstance(row[column], str) for column in ("question", "model")):
        return "question and model are to be text"
    if not (isinstance(row["quality"], int | float) and 0 <= row["quality"] <= 1):
        return f"quality {row['quality']} is not from 0 to 1"
    if not (isinstance(row["usd_cost"], int | float) and 0 <= row["usd_cost"] < float("inf")):
        return f"usd_cost {row['usd_cost']} is not a cost"
    return None


def _records(name: str, rows: dict[str, dict[str, dict[str, Any]]]) -> Records:
    models = sorted({model for answers in rows.values() for model in answers})
    for question, answers in rows.items():
        if missing := [model for model in models if model not in answers]:
            raise BadTable(f"{name}: {question} has no answer of {missing[0]}")
    kept = [[answers[model] for model in models] for answers in rows.values()]
    cost, quality = (np.array([[row[key] for row in each] for each in kept], float) for key in ("usd_cost", "quality"))
    if np.unique(quality).size == 1:
        raise BadTable(f"{name}: every answer has the quality {quality[0, 0]:g}; good and bad ones are needed")
    order = np.argsort(cost.mean(axis=0), kind="stable")
    return Records(
        ids=tuple(rows),
        tasks=tuple(str(each[0]["task"]) for each in kept),
        questions=tuple(each[0]["question"] for each in kept),
        models=tuple(models[place] for place in order),
        answers=tuple(tuple(each[place]["answer"] or "" for place in order) for each in kept),
        quality=quality[:, order],
        cost_micros=cost[:, order] * 1e6,
    )
