"""How a question is worded, as numbers: its runs of words, and those of its skeleton.

The skeleton keeps the small words and drops the topic: "how long will my _ _" is somebody's own whatever it is about,
"how long do _ _" is not. Runs are hashed, so that no vocabulary has to be shipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from zlib import crc32

import numpy as np

from cascade.scorer.alignment import STOP_WORDS

BUCKETS = 1 << 14
MOST_WORDS = 60  # of a question
_WORD = re.compile(r"[a-z']+|\d+|[?#$%€£]")
_SMALL = """
    me mine myself i'd much many long often ever still yet already get got getting gets give take takes took find check
    see show tell know use using make makes made change happen happened when's what's where's who's there's can't
    cannot won't isn't doesn't didn't hasn't haven't wasn't without within after before during until your yours us ours
    someone anyone people customers possible allowed available able able why's supposed seem keep keeps went gone
    ? # $ 0
"""
_KEPT = STOP_WORDS | frozenset(_SMALL.split())
Buckets = np.ndarray[tuple[int], np.dtype[np.int64]]


def words(text: str, most: int | None = MOST_WORDS) -> list[str]:
    """In lower case, figures as 0; the first `most` (None: all)."""
    return [
        "0" if word.isdigit() else word
        for word in _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))[:most]
    ]


def runs(text: str) -> Iterator[str]:
    """Of one to three words, and of two to five of the skeleton."""
    found = ["<", *words(text), ">"]
    skeleton = [word if word in _KEPT or word in "<>" else "_" for word in found]
    for length in (1, 2, 3):
        yield from (" ".join(found[i : i + length]) for i in range(len(found) - length + 1))
    for length in (1, 2, 3, 4, 5):
        yield from ("~" + " ".join(skeleton[i : i + length]) for i in range(len(skeleton) - length + 1))


def buckets(text: str) -> Buckets:
    """The numbers of its runs, each once."""
    return np.unique(np.fromiter((crc32(run.encode()) % BUCKETS for run in runs(text)), np.int64))


def content(text: str) -> set[str]:
    """What it is about: its words that are not small ones."""
    return {word for word in words(text) if word not in _KEPT}


def overlap(one: str, other: str) -> float:
    """Of the words that either is about, the share that both are; 0..1."""
    left, right = content(one), content(other)
    return len(left & right) / len(left | right) if left and right else 0.0
