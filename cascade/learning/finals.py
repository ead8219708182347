"""What an answer comes to, and whether two answers come to the same.

The final answer is what stands in an "answer" field, in a box, or after "the answer is"; compared as numbers, as
literals or as plain words. Answers in free text have none: they are as alike as the words that each adds to the
question, the rarer the more they count.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cascade.learning.table import Numbers

FIELD = re.compile(r'"answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^",}\n][^}\n]*)', re.S)
BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
LETTER = re.compile(r"answer\s+is:?\s*\**\(?([A-J])\)?(?![A-Za-z])", re.I)
SAID = re.compile(r"(?:final answer|answer)\s*(?:is|:)\s*\**\s*(.{1,80}?)\s*\**\s*(?:\.\s|\.?$)", re.I | re.M)
NUMBER = re.compile(r"^[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?$|^[-+]?\.\d+$")
UNITS = re.compile(r"[\s$€£%]|\\(?:text|mathrm|%|\$)|[{}]")
WORD = re.compile(r"\w+")


def final(answer: str) -> str | None:
    """In a form in which equal answers are equal strings; None: the answer is free text."""
    for rule in (FIELD, BOX, LETTER, SAID):
        found = rule.findall(answer)
        if found:
            return normal(found[-1])
    return None


def normal(said: str) -> str:
    said = said.strip()
    if said.startswith('"') and said.endswith('"') and len(said) > 1:
        said = said[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    plain = UNITS.sub("", said).rstrip(".").lower()
    if NUMBER.match(plain):
        return number(plain)
    if said[:1] in "[({'\"" and len(said) < 1000:
        try:
            return repr(ast.literal_eval(said))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass
    return plain


def number(plain: str) -> str:
    over, _, under = plain.replace(",", "").partition("/")
    value = float(over) / (float(under or 1) or math.nan)
    return f"{value:.6g}"


class Alikeness:
    """How alike answers to one question are, 0..1; knows which words are rare among the answers it was fitted on."""

    def __init__(self, answers: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        total = 0
        for answer in answers:
            counts.update(set(words(answer)))
            total += 1
        self.rarity: Mapping[str, float] = {word: math.log((total + 1) / count) for word, count in counts.items()}
        self.rarest = math.log(total + 1)

    def of(self, question: str, answers: Sequence[str], finals: Sequence[str | None]) -> Numbers:
        """(answers, answers), symmetric, 1 on the diagonal."""
        asked = set(words(question))
        added = [set(words(answer)) - asked for answer in answers]
        alike = np.eye(len(answers))
        for i in range(len(answers)):
            for j in range(i):
                a, b = finals[i], finals[j]
                same = float(a == b) if a is not None and b is not None else self._shared(added[i], added[j])
                alike[i, j] = alike[j, i] = same
        return alike

    def _shared(self, a: set[str], b: set[str]) -> float:
        either = self._weight(a | b)
        return self._weight(a & b) / either if either else 1.0

    def _weight(self, said: set[str]) -> float:
        return math.fsum(self.rarity.get(word, self.rarest) for word in said)  # exact: a set has no order


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())
