"""Wrong answers made from right ones, in the two ways that quote nothing foreign; and what the articles say.

Swapped: one fact is replaced by the same field of the customer's own other record, so that only reading *which* record
is spoken of tells. Beside the point: a right answer, of the same customer where there is one, to another question.
Recitals: sentences of an article that is shown, which hold for everybody, the same with a figure changed, with two
figures or names in each other's place, or with a negation dropped, and those of another article.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cascade.scorer.alignment import STOP_WORDS, Fact, Index, align
from cascade.scorer.lexing import clean, lex
from cascade.scorer.records import PROFILE, Field, folders
from cascade.scorer.rows import Row

_ASKING = ("What are your rules on {}?", "Can you tell me about {}?", "{}: how does it work?", "How is it with {}?")
_FIGURE = re.compile(r"\b\d+\b")
_NAME = re.compile(r"\b[A-Z][a-z]{2,}\b")
_NEGATION = re.compile(r" (?:not|never)\b|(?<=\bcan)not\b|\bno (?=[a-z])", re.IGNORECASE)
_FIGURES = (*range(10), 12, 14, 15, 20, 21, 25, 30, 45, 60, 90, 100)


def own_record_swaps(rows: Iterable[Row], seed: int, *, each: int = 1) -> Iterator[Row]:
    """At most `each` swapped copies of every good row whose customer has two records of a type."""
    for row in rows:
        if row.good and len(row.context.customer.records) > 1:
            chance = random.Random(f"{seed}/{row.id}")  # noqa: S311
            yield from _swaps(row, chance, each)


def _swaps(row: Row, chance: random.Random, each: int) -> Iterator[Row]:
    known = folders(row.context)
    index = Index(known)
    answer = clean(row.answer)
    lexemes = lex(row.answer, row.context.now)
    types = {folder.record: folder.type for folder in known}
    facts = align(lexemes, index, set(), set())
    choices = [(f, rival) for f in facts if _is_pinned(f, facts) for rival in _rivals(f, index, types)]
    chance.shuffle(choices)
    for number, (fact, rival) in enumerate(choices[:each]):
        start, end = lexemes[fact.start].span[0], lexemes[fact.end - 1].span[1]
        if answer.count(answer[start:end]) > 1:
            continue
        written = ("#" if answer[start] == "#" and rival.raw[0] != "#" else "") + rival.raw
        swapped = answer.replace(answer[start:end], written.replace("_", " "))
        yield replace(
            row, id=f"{row.id}/own{number}", good=False, negative_type="fact_corrupted", own_record=True, answer=swapped
        )


def _is_pinned(fact: Fact, facts: Sequence[Fact]) -> bool:
    """Whether another fact of the answer stands in the very same record alone: the two cannot part unnoticed."""
    holders = {f.record for f in fact.fields}
    return any(other is not fact and {f.record for f in other.fields} == holders for other in facts)


def _rivals(fact: Fact, index: Index, types: dict[int, str]) -> list[Field]:
    """The same field of this customer's other records, holding something that the fact's own record does not."""
    holders = {f.record for f in fact.fields}
    if len(holders) != 1 or PROFILE in holders:
        return []
    field = fact.fields[0]
    if len(field.lexemes) != fact.end - fact.start or (not field.is_id and len(field.lexemes) == 0):
        return []
    own = {x.value for f in index.fields if f.record == field.record for x in f.lexemes}
    return [
        other
        for other in index.fields
        if other.record not in holders
        and other.record != PROFILE
        and types[other.record] == types[field.record]
        and other.keys == field.keys
        and other.raw
        and other.is_id == field.is_id
        and _telling(other)
        and not {x.value for x in other.lexemes} <= own
    ][:8]


def beside_the_point(rows: Sequence[Row], seed: int, *, each: int = 1) -> Iterator[Row]:
    """Every good row's question with answers of other conversations on other subjects: one of the same customer's,
    `each` of anybody's, where they are found."""
    good = [row for row in rows if row.good]
    topics = {row.id: _words(row.context.question) | _words(row.answer) for row in good}
    by_user: dict[str, list[Row]] = defaultdict(list)
    by_source: dict[str, list[Row]] = defaultdict(list)
    for row in good:
        by_user[row.user_id].append(row)
        by_source[row.source].append(row)
    for row in good:
        chance = random.Random(f"{seed}/beside/{row.id}")  # noqa: S311
        for number, (pool, most) in enumerate(((by_user[row.user_id], 1), (by_source[row.source], each))):
            tried = chance.sample(pool, min(len(pool), 6 * most))
            donors = islice((other for other in tried if _elsewhere(row, other, topics)), most)
            for place, donor in enumerate(donors):
                yield replace(
                    row, id=f"{row.id}/beside{number + place}", good=False, negative_type="off_topic", needs=None,
                    answer=donor.answer,
                )  # fmt: skip


def _elsewhere(row: Row, other: Row, topics: dict[str, set[str]]) -> bool:
    """Whether two rows are of different conversations and share next to no word of content."""
    shared = topics[row.id] & topics[other.id]
    return row.conversation_id != other.conversation_id and 8 * len(shared) <= len(topics[row.id] | topics[other.id])


def recitals(rows: Iterable[Row], seed: int, *, every: int = 4) -> Iterator[Row]:
    """Of each so many good rows that articles are shown with, one is asked for: recited rightly twice, and wrongly."""
    shown = [row for row in rows if row.good and len(row.context.passages) > 1]
    for row in shown[::every]:
        chance = random.Random(f"{seed}/recital/{row.id}")  # noqa: S311
        asked, other = chance.sample(row.context.passages, 2)
        question = chance.choice(_ASKING).format(asked.title.lower())
        context = replace(row.context, question=question, history=())
        about = replace(row, group_id=f"{row.id}/recital", context=context, needs=None)
        told = _recited(asked.text, chance)
        yield replace(about, id=f"{row.id}/recital0", answer=told)
        yield replace(about, id=f"{row.id}/recital1", answer=_recited(asked.text, chance))
        yield replace(
            about, id=f"{row.id}/recital2", good=False, negative_type="off_topic", answer=_recited(other.text, chance)
        )
        for number, wrong in enumerate(misrecited(told, chance), start=3):
            yield replace(
                about, id=f"{row.id}/recital{number}", good=False, negative_type="fact_corrupted", answer=wrong
            )


def _recited(text: str, chance: random.Random) -> str:
    """Some sentences of an article, one after the other."""
    said = re.findall(r"\S.*?[.!?](?=\s|$)", text, re.DOTALL) or [text]
    most = chance.randint(1, len(said))
    begin = chance.randint(0, len(said) - most)
    return " ".join(said[begin : begin + most])


def misrecited(told: str, chance: random.Random) -> Iterator[str]:
    """As far as there is something to change: a figure, the places of two figures, of two names, a negation."""
    figures = sorted(set(_FIGURE.findall(told)))
    names = sorted({name for name in _NAME.findall(told) if name.lower() not in STOP_WORDS})
    if figures:
        other = str(chance.choice([n for n in _FIGURES if str(n) not in figures]))
        yield re.sub(rf"\b{chance.choice(figures)}\b", other, told, count=1)
    for words in (figures, names):
        if len(words) > 1:
            pair = chance.sample(words, 2)
            places = dict(zip(pair, reversed(pair), strict=True))
            yield re.sub(rf"\b(?:{'|'.join(pair)})\b", lambda found, to=places: to[found.group()], told)  # type: ignore[misc]
    if _NEGATION.search(told):
        yield _NEGATION.sub("", told, count=1)


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in STOP_WORDS}


def _telling(field: Field) -> bool:
    return any(x.kind in ("id", "money", "date", "time") or len(x.value) > 3 for x in field.lexemes)
