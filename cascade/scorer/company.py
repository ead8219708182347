"""Whether a fact stands in good company: the right date beside the right flight, one record told at a time.

A fact that some record holds may still be wrong where it is said. So each is held against the facts around it. Objects:
those in which most of its neighbours stand together; a fact that they lack, while they hold another one under the same
key, is a clash. Records: the one that most facts stand in alone, against those that lend single facts. Counts only;
linear in the answer. No torch, no Django.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cascade.scorer.alignment import Fact
from cascade.scorer.lexing import KINDS, Lexeme
from cascade.scorer.records import PROFILE, Field, Folder

NEIGHBOURS = 3  # facts on either side, of the same line
FARTHEST = 30  # lexemes
SECOND = 2  # facts from which on another record is spoken of rather than strayed into
_Object = tuple[int, int]  # record and group of the fields of one JSON object
_SOURCES = ("known", "unknown", "elsewhere")
COUNTS = (
    "alone",
    *(f"{deed} {most}" for deed in ("agrees with", "clashes with", "is foreign to") for most in ("one", "several")),
    *(f"clash of {source} {kind}" for source in _SOURCES for kind in KINDS),
    *(f"sure clash of {source}" for source in _SOURCES),
    *("main record", "main record by id", "main record is A", "records", "records by id"),
    *(f"{how}{rival}" for how in ("stray", "second") for rival in ("", " rival")),
    *(f"rival {kind}" for kind in KINDS),
    *("isolated", "isolated rival", "between two of another"),
    *("asked of the main record", "asked of others"),
    *("said again", "id said again"),
    *("objects quoted", "left out of them", "most quoted of one", "left out of that one"),
)


class _Places:
    """What an object has values for."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.keys = {field.keys for field in fields}
        self.kinds = {lexeme.kind for field in fields for lexeme in field.lexemes[:3]}

    def rival(self, fact: Fact, kind: str) -> bool:
        """Whether it has one in the fact's place: under its key or, of what is unknown, of its kind."""
        return any(field.keys in self.keys for field in fact.fields) if fact.fields else kind in self.kinds


@dataclass(frozen=True, slots=True)
class Told:
    """An answer's facts, each with its kind, and where they may stand."""

    lexemes: Sequence[Lexeme]
    facts: Sequence[Fact]
    kinds: Sequence[str]
    folders: Sequence[Folder]
    at_hand: int | None  # the record that is most likely meant
    asked: Sequence[Fact]  # of the question and of the last turns


def company(told: Told) -> Counter[str]:
    """How often each of COUNTS holds."""
    objects: dict[_Object, list[Field]] = defaultdict(list)
    for folder in told.folders:
        for field in folder.fields:
            objects[_object(field)].append(field)
    return Counter((*_of_objects(told, objects), *_of_records(told), *_said_again(told))) + _left_out(told, objects)


def _object(field: Field) -> _Object:
    return field.record, field.group


def _of_objects(told: Told, objects: dict[_Object, list[Field]]) -> Iterator[str]:
    homes = [{_object(field) for field in fact.fields} for fact in told.facts]
    lines = _lines(told.lexemes)
    places = {home: _Places(fields) for home, fields in objects.items()}
    for at, fact in enumerate(told.facts):
        around = range(max(0, at - NEIGHBOURS), min(len(told.facts), at + NEIGHBOURS + 1))
        near = [n for n in around if n != at and _is_near(fact, told.facts[n], lines)]
        votes = Counter(home for n in near for home in homes[n])
        if not votes:
            yield "alone"
            continue
        most = max(votes.values())
        best = [home for home, count in votes.items() if count == most]
        often = "one" if most == 1 else "several"
        if homes[at] & set(best):
            yield f"agrees with {often}"
        elif any(places[home].rival(fact, told.kinds[at]) for home in best):
            source = _source(fact)
            yield from (f"clashes with {often}", f"clash of {source} {told.kinds[at]}")
            if len(best) == 1 and most > 1:
                yield f"sure clash of {source}"
        else:
            yield f"is foreign to {often}"


def _lines(lexemes: Sequence[Lexeme]) -> list[int]:
    """The line that each lexeme stands on."""
    found, line = [], 0
    for lexeme in lexemes:
        found.append(line)
        line += lexeme.kind == "stop" and lexeme.value == "\n"
    return found


def _is_near(fact: Fact, other: Fact, lines: Sequence[int]) -> bool:
    return lines[fact.start] == lines[other.start] and abs(fact.start - other.start) < FARTHEST


def _source(fact: Fact) -> str:
    if fact.fields:
        return "known"
    return "unknown" if fact.source in ("absent", "contradicted") else "elsewhere"


def _of_records(told: Told) -> Iterator[str]:
    """Of facts that stand in one record alone."""
    owners = [_owner(fact) for fact in told.facts]
    owned = Counter(owner for owner in owners if owner is not None)
    if not owned:
        return
    by_id = {field.record for fact in told.facts for field in fact.fields if field.is_id}
    main, count = max(owned.items(), key=lambda item: (item[1], item[0] in by_id, -item[0]))
    yield from ["main record"] * count + ["records"] * len(owned) + ["records by id"] * len(by_id)
    yield from ["main record by id"] * (main in by_id) + ["main record is A"] * (main == told.at_hand)
    asked = Counter(owner for fact in told.asked if (owner := _owner(fact)) is not None)
    yield from ["asked of the main record"] * asked[main] + ["asked of others"] * (asked.total() - asked[main])
    keys = {field.keys for folder in told.folders if folder.record == main for field in folder.fields}
    places = [at for at, owner in enumerate(owners) if owner is not None]
    for n, at in enumerate(places):
        if (owner := owners[at]) is None or owner == main:
            continue
        rival = any(field.keys in keys for field in told.facts[at].fields)
        how = "second" if owned[owner] >= SECOND or owner in by_id else "stray"
        yield how
        if rival:
            yield from (f"{how} rival", f"rival {told.kinds[at]}")
        beside = [owners[places[m]] for m in (n - 1, n + 1) if 0 <= m < len(places)]
        if owner not in beside:
            yield from _isolated(beside, rival and not told.facts[at].fields[0].is_id)


def _isolated(beside: Sequence[int | None], rival: bool) -> Iterator[str]:
    yield "isolated"
    if rival:
        yield "isolated rival"
    if len(beside) == 2 and beside[0] == beside[1]:
        yield "between two of another"


def _owner(fact: Fact) -> int | None:
    """The one record that holds a fact; None: none, several, or the profile does."""
    records = {field.record for field in fact.fields}
    return records.pop() if len(records) == 1 and PROFILE not in records else None


def _said_again(told: Told) -> Iterator[str]:
    """Numbers, dates and ids that are named more than once."""
    seen = set[tuple[str, ...]]()
    for fact, kind in zip(told.facts, told.kinds, strict=True):
        said = tuple(lexeme.value for lexeme in told.lexemes[fact.start : fact.end])
        if kind in ("id", "email", "money", "date", "time") and said in seen:
            yield "said again"
            if any(field.is_id for field in fact.fields):
                yield "id said again"
        seen.add(said)


def _left_out(told: Told, objects: dict[_Object, list[Field]]) -> Counter[str]:
    """Of the objects that several facts stand in, how much the answer leaves out."""
    quoted = {id(field) for fact in told.facts for field in fact.fields}
    found, most = Counter[str](), 0
    for home, count in Counter(home for fact in told.facts for home in {_object(f) for f in fact.fields}).items():
        if count < 2:
            continue
        left = sum(1 for f in objects[home] if id(f) not in quoted and 0 < len(f.lexemes) <= 6 and not f.is_count)
        found.update({"objects quoted": 1, "left out of them": left})
        if count > most:
            most = count
            found["most quoted of one"], found["left out of that one"] = count, left
    return found
