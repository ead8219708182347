"""What the alignment of an answer comes to, as numbers: the wide half of the scorer, beside the network that reads.

How many of the answer's facts, of which kind, are known from where; which records they stand in; whether answer and
question speak of the same. Counts are written out in steps, so that "one is missing" is not half of "two are".
No torch, no Django.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from cascade.scorer import company, named, recital, sums
from cascade.scorer.alignment import Fact
from cascade.scorer.lexing import KINDS

SOURCES = ("record", "profile", "said", "policy", "contradicted", "absent")
PLACES = ("A", "B", "C", "D", "more", "swapped", "denied")
COUNTS = (
    *SOURCES,
    *(f"{source} {kind}" for source in SOURCES for kind in KINDS),
    *(f"in {place}" for place in PLACES),
    *(f"question's {source}" for source in ("record", "profile")),
)
SHARES = (
    *(f"words {source}" for source in SOURCES),
    "known of all facts",
    "no fact to check",
    "question's words in the answer",
    "answer's words said before",
    "answer's length",
    "records",
    "answer and question quote the same field",
    "question quotes fields that the answer does not",
    "answer and question speak of the same record",
    "answer and question speak of different records",
)
STEPS = (1, 2, 3)
TOGETHER = (*company.COUNTS, *sums.COUNTS, *named.COUNTS, *recital.COUNTS)
MOST = 12  # of anything in TOGETHER that is told apart
SIZE = len(COUNTS) * (1 + len(STEPS)) + len(SHARES) + len(TOGETHER)
TAKEN_UP = len(COUNTS) * (1 + len(STEPS)) + SHARES.index("question's words in the answer")  # its place


def evidence(
    facts: Sequence[tuple[Fact, str, Sequence[str]]],
    asked: Sequence[Fact],
    words: tuple[Collection[str], Collection[str], Collection[str]],
    records: int,
    together: Counter[str],
) -> list[float]:
    """SIZE numbers, each between 0 and about 1.

    `facts`: the answer's, each with its kind and the marks of its place; `asked`: the question's;
    `words`: the content words of answer, question and earlier talk; `records`: how many the customer has; `together`:
    how often each of TOGETHER holds of the facts.
    """
    counts = _counts(facts, asked)
    steps = [value for name in COUNTS for value in _in_steps(counts[name])]
    joint = [min(together[name], MOST) / MOST for name in TOGETHER]
    return [*steps, *_shares(facts, asked, words, records, counts), *joint]


def _counts(facts: Sequence[tuple[Fact, str, Sequence[str]]], asked: Sequence[Fact]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for fact, kind, places in facts:
        counts[fact.source] += 1
        counts[f"{fact.source} {kind}"] += 1
        counts.update(f"in {place}" for place in places)
    counts.update(f"question's {fact.source}" for fact in asked)
    return counts


def _in_steps(count: int) -> list[float]:
    return [min(count, 4) / 4, *(float(count >= step) for step in STEPS)]


def _shares(
    facts: Sequence[tuple[Fact, str, Sequence[str]]],
    asked: Sequence[Fact],
    words: tuple[Collection[str], Collection[str], Collection[str]],
    records: int,
    counts: Counter[str],
) -> list[float]:
    answer, question, said = (set(each) for each in words)
    length: Counter[str] = Counter()
    for fact, _, _ in facts:
        length[fact.source] += fact.end - fact.start
    known, unknown = counts["record"] + counts["profile"], counts["contradicted"] + counts["absent"]
    quoted = {id(field) for fact, _, _ in facts for field in fact.fields}
    wanted = {id(field) for fact in asked for field in fact.fields}
    spoken_of = {field.record for fact, _, _ in facts for field in fact.fields if field.record}
    asked_of = {field.record for fact in asked for field in fact.fields if field.record}
    return [
        *(min(length[source], 30) / 30 for source in SOURCES),
        (known + 1) / (known + unknown + 2),
        float(known + unknown == 0),
        len(question & answer) / (1 + len(question)),
        len(answer & said) / (1 + len(answer)),
        min(len(answer), 60) / 60,
        min(records, 8) / 8,
        float(bool(quoted & wanted)),
        float(bool(wanted) and not quoted & wanted),
        float(bool(spoken_of & asked_of)),
        float(bool(spoken_of and asked_of) and not spoken_of & asked_of),
    ]
