"""Labelled questions and pairs from files of JSON lines, .gz or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cascade.memory.fitting import Asked, Pair
from cascade.memory.twins import made


class BadRow(ValueError):
    """A line that cannot be used; the message says which and why."""


class Labelled(NamedTuple):
    questions: list[Asked]
    pairs: list[Pair]

    @property
    def texts(self) -> set[str]:
        """All that is read, and the made questions."""
        pairs = {text for pair in self.pairs for text in (pair.one, pair.other)}
        return pairs | {each.text for each in self.questions} | {text for text, _ in made()}


def read(questions: Path, pairs: Path, split: str = "") -> Labelled:
    """`split`: only rows of this one; "": all. Raises OSError, BadRow."""
    return Labelled(
        [_asked(row) for row in _rows(questions) if not split or row["split"] == split],
        [_pair(row) for row in _rows(pairs) if not split or row["split"] == split],
    )


def _asked(row: dict[str, Any]) -> Asked:
    return Asked(str(row["id"]), str(row["text"]), str(row["intent"]), bool(row["personal"]))


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(
        one=str(row["q1"]),
        other=str(row["q2"]),
        same=bool(row["same_question"]),
        serves=bool(row["label"]),
        personal=bool(row["personal1"] and row["personal2"]),
        kind=str(row["pair_type"]),
    )


class _Row(dict[str, Any]):
    def __init__(self, content: dict[str, Any], where: str) -> None:
        super().__init__(content)
        self.where = where

    def __missing__(self, column: str) -> Any:
        raise BadRow(f"{self.where} has no {column!r}")


def _rows(path: Path) -> Iterator[_Row]:
    found = 0
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found += 1
            yield _Row(_parsed(line, f"{path.name}, line {number}"), f"{path.name}, line {number}")
    if not found:
        raise BadRow(f"{path.name} is empty")


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as problem:
        raise BadRow(f"{where} is not JSON: {problem}") from problem
    if not isinstance(content, dict):
        raise BadRow(f"{where} is no JSON object")
    return content
