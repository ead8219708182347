"""Every fact of an answer held against what is known of the customer: found where, contradicted, or absent.

Works on canonical lexemes (`lexing`) and flat fields (`records`); time is linear in the answer, because every
value's list of places is capped. It says where a fact stands, never whether the answer is good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cascade.scorer.lexing import Lexeme
from cascade.scorer.records import PROFILE, Field, Folder

MOST_PLACES = 24  # of one value that are looked at
LONGEST_RUN = 16  # lexemes of one fact
STRONG = {"money", "date", "time", "id", "email"}
_COMMON = """
a an the of to in on at for from by with and or is are was were be been am i im you your my me we our us it its this
that these those there here he she his her they them their as if so do does did have has had will would can could may
might should shall not no yes ok okay please thank thanks sorry sure just any all also one once now then than what which
who whom when where how why let would like need want i'm i'd i'll i've you're don't can't it's here's id ids
"""
STOP_WORDS = frozenset(_COMMON.split())


@dataclass(frozen=True, slots=True)
class Fact:
    """A run of lexemes [start, end) of a text, and where it is known from."""

    start: int
    end: int
    source: str  # record, profile, said, policy, contradicted, absent
    fields: tuple[Field, ...] = ()  # all fields that hold it, equally well


class Index:
    """Where each value stands among all fields of one customer."""

    def __init__(self, all_folders: Sequence[Folder]) -> None:
        self.fields = [f for folder in all_folders for f in folder.fields]
        self.keys_by_kind: dict[str, set[str]] = defaultdict(set)
        self.keys = {word for f in self.fields for key in f.keys for word in (key, key.removesuffix("s"))}
        self.places: dict[str, list[tuple[Field, int]]] = defaultdict(list)
        for field in self.fields:
            for position, lexeme in enumerate(field.lexemes):
                places = self.places[lexeme.value]
                if len(places) < MOST_PLACES:
                    places.append((field, position))
            for lexeme in field.lexemes[:4]:
                self.keys_by_kind[lexeme.kind].update(field.keys)

    def longest(self, lexemes: Sequence[Lexeme], start: int) -> tuple[int, tuple[Field, ...]]:
        """Length of the longest run from `start` that some field holds in this order, and those fields."""
        best, holders = 0, []
        for field, position in self.places.get(lexemes[start].value, ()):
            length = _common(lexemes, start, field.lexemes, position)
            if not _tells(lexemes[start : start + length], field) or (
                field.is_count and not _near(lexemes, start, field)
            ):
                continue
            if length > best:
                best, holders = length, [field]
            elif length == best:
                holders.append(field)
        whole = [f for f in holders if len(f.lexemes) <= best]
        return best, tuple(whole or holders)


def _near(lexemes: Sequence[Lexeme], at: int, field: Field) -> bool:
    """Whether a word of the field's key stands close by: "2 passengers" counts them, "2 days" does not."""
    around = {x.value for x in lexemes[max(0, at - 3) : at + 4]}
    return any(key in around or key.removesuffix("s") in around for key in field.keys)


def _common(left: Sequence[Lexeme], start: int, right: Sequence[Lexeme], j: int) -> int:
    """How many lexemes of `left` say what `right` says from `j` on, stops between them passed over."""
    at, length = start, 0
    while at < min(len(left), start + LONGEST_RUN) and j < len(right):
        if left[at].value == right[j].value:
            at, j = at + 1, j + 1
            length = at - start
        elif left[at].kind == "stop" and at + 1 < len(left) and left[at + 1].kind != "stop":
            at += 1
        else:
            break
    return length


def _content(lexemes: Iterable[Lexeme]) -> int:
    return sum(1 for lexeme in lexemes if lexeme.kind != "stop" and lexeme.value not in STOP_WORDS)


def _tells(run: Sequence[Lexeme], field: Field) -> bool:
    """A fact, not an accidental word: a strong kind, two words of content, most of the field, a name."""
    content = _content(run)
    if not content:
        return False
    if any(x.kind in STRONG or (x.kind == "number" and len(x.value) >= 3) for x in run):
        return True
    return content >= 2 or 2 * content > _content(field.lexemes) or run[0].kind == "name"


def align(
    lexemes: Sequence[Lexeme], index: Index, said: set[str], policy: set[str], *, guess_absent: bool = True
) -> list[Fact]:
    """The facts of a text in order. `said`: values of question and history; `policy`: of the passages."""
    facts: list[Fact] = []
    position = 0
    while position < len(lexemes):
        length, holders = (0, ()) if _numbers_a_list(lexemes, position) else index.longest(lexemes, position)
        if length:
            source = "profile" if all(f.record == PROFILE for f in holders) else "record"
            facts.append(Fact(position, position + length, source, holders))
            position += length
            continue
        length = _claim(lexemes, position, index.keys)
        if length and guess_absent:
            source = _elsewhere(lexemes, position, length, index, said, policy)
            facts.append(Fact(position, position + length, source))
        position += max(length, 1)
    return facts


def _claim(lexemes: Sequence[Lexeme], start: int, keys: set[str]) -> int:
    """Length of a run that claims a fact though no field holds it: amounts, dates, ids, names."""
    lexeme = lexemes[start]
    if _numbers_a_list(lexemes, start):
        return 0
    if lexeme.kind in STRONG or lexeme.kind == "number":
        return 1
    if not _is_name(lexeme):
        return 0
    length = 1
    while start + length < len(lexemes) and _is_name(lexemes[start + length]):
        length += 1
    opens = start == 0 or lexemes[start - 1].kind == "stop"
    if length == 1 and (opens or len(lexeme.value) < 3):
        return 0
    labels = start + length < len(lexemes) and lexemes[start + length].value == ":"
    return 0 if labels or any(x.value in keys for x in lexemes[start : start + length]) else length


def _is_name(lexeme: Lexeme) -> bool:
    return lexeme.kind == "name" and lexeme.value not in STOP_WORDS


def _numbers_a_list(lexemes: Sequence[Lexeme], at: int) -> bool:
    opens = at == 0 or lexemes[at - 1].kind == "stop"
    return opens and lexemes[at].kind == "number" and at + 1 < len(lexemes) and lexemes[at + 1].value == "."


def _elsewhere(
    lexemes: Sequence[Lexeme], start: int, length: int, index: Index, said: set[str], policy: set[str]
) -> str:
    values = {x.value for x in lexemes[start : start + length]}
    if values <= said:
        return "said"
    if values <= policy:
        return "policy"
    around = {x.value for x in lexemes[max(0, start - 4) : start] if x.value not in STOP_WORDS}
    rivals = index.keys_by_kind.get(lexemes[start].kind, set())
    return "contradicted" if around & rivals else "absent"


def anchors(facts: Sequence[Fact]) -> list[int | None]:
    """For each fact the record its text is speaking of: that of the last id named, else of the next one."""
    own = [next((f.record for f in fact.fields if f.is_id), None) for fact in facts]
    first = next((record for record in own if record is not None), None)
    held, result = first, []
    for record in own:
        held = record if record is not None else held
        result.append(held)
    return result
