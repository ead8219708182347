"""Wrong answers made from right ones: one fact swapped with the same field of the customer's own other record.

Such an answer quotes nothing foreign, so only reading *which* record it speaks of tells that it is wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from cascade.scorer.alignment import Fact, Index, align
from cascade.scorer.lexing import clean, lex
from cascade.scorer.records import PROFILE, Field, folders
from cascade.scorer.rows import Row


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
    choices = []
    for fact in align(lexemes, index, set(), set()):
        for rival in _rivals(fact, index, types):
            choices.append((fact, rival))
    chance.shuffle(choices)
    for number, (fact, rival) in enumerate(choices[:each]):
        start, end = lexemes[fact.start].span[0], lexemes[fact.end - 1].span[1]
        written = ("#" if answer[start] == "#" and rival.raw[0] != "#" else "") + rival.raw
        swapped = _everywhere(answer, answer[start:end], written)
        yield replace(
            row, id=f"{row.id}/own{number}", good=False, negative_type="fact_corrupted", own_record=True, answer=swapped
        )


def _everywhere(text: str, old: str, new: str) -> str:
    return text.replace(old, new.replace("_", " "))


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


def _telling(field: Field) -> bool:
    return any(x.kind in ("id", "money", "date", "time") or len(x.value) > 3 for x in field.lexemes)
