"""What an answer says of the fields that it names: yes or no, how many; and of what was said before by the customer.

"It has no insurance" denies a field that holds yes; "1 checked bag" counts what another field counts; a flight that the
question named by number is not told by another number. Each is held against the record at hand and the profile. Counts
only; the lexemes and fields looked at are bounded. No torch, no Django.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from cascade.scorer.alignment import STOP_WORDS, Fact, anchors
from cascade.scorer.lexing import Lexeme
from cascade.scorer.records import PROFILE, Field, Folder

COUNTS = (
    *(f"{what} {how}" for what in ("yes or no", "number") for how in ("fits", "clashes")),
    *("said so before", "said otherwise before"),
    *("beside the record named", "beside it, denied", "beside it, rival"),
    *("not of the record at hand, rival", "list mixed", "list mixed and cut"),
)
NEGATIONS = {"no", "not", "never", "none", "without", "cannot", "nothing", "neither", "nor"}
IDLE = {"only", "just", "doubt", "worry", "need", "hesitate", "problem"}  # after a negation, which then denies nothing
YES, NO = {"yes", "true"}, {"no", "false"}
SHORTEST = 3  # letters that a word and a key must share: "bag" names "baggages"
BEFORE, AFTER = 3, 5  # lexemes around a number, in which the thing counted is named
CLAUSE, SOON = 8, 4  # lexemes before a word, and after it, in which a negation counts
MOST, MOST_NAMED, MOST_NAMINGS = 200, 40, 8  # lexemes, facts; fields of yes and no, and those that count; of one


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, its facts and those of the question and of the last turns, each with its own text."""

    answer: Sequence[Lexeme]
    facts: Sequence[Fact]
    before: Sequence[tuple[Sequence[Lexeme], Sequence[Fact]]]
    at_hand: Folder | None
    profile: Folder
    folders: Sequence[Folder]


def named(said: Said) -> Iterator[str]:
    """One of COUNTS for each time that it holds."""
    fields = [*(said.at_hand.fields if said.at_hand else ()), *said.profile.fields]
    yield from _yes_or_no(said, [field for field in fields if _says_yes_or_no(field)][:MOST_NAMED])
    yield from _numbers(said.answer[:MOST], [field for field in fields if _counts_something(field)][:MOST_NAMED])
    yield from _before(said)
    yield from _records(said)


def negated(lexemes: Sequence[Lexeme], at: int) -> bool:
    """Whether a negation stands before a word in its clause: "I see no gift card"."""
    for before in range(at - 1, max(0, at - CLAUSE) - 1, -1):
        if lexemes[before].kind == "stop":
            return False
        if negates(lexemes, before):
            return True
    return False


def negates(lexemes: Sequence[Lexeme], at: int) -> bool:
    """Whether a word is a negation that denies something: not that of "not only", "no doubt" or "need not"."""
    value = lexemes[at].value
    if value not in NEGATIONS and not value.endswith("n't"):
        return False
    needless = at > 0 and lexemes[at - 1].value == "need"
    return not needless and (at + 1 == len(lexemes) or lexemes[at + 1].value not in IDLE)


def _yes_or_no(said: Said, fields: Sequence[Field]) -> Iterator[str]:
    answer = said.answer[:MOST]
    for field in fields:
        holds_no = field.lexemes[0].value in NO
        found = {_verdict(_denied(answer, at) == holds_no) for at in islice(_namings(answer, field), MOST_NAMINGS)}
        yield from (f"yes or no {verdict}" for verdict in found)


def _denied(answer: Sequence[Lexeme], at: int) -> bool:
    soon = range(at + 1, at + 1 + len(_clause_after(answer, at)[:SOON]))
    return negated(answer, at) or any(negates(answer, after) for after in soon)


def _verdict(fits: bool) -> str:
    return "fits" if fits else "clashes"


def _namings(lexemes: Sequence[Lexeme], field: Field) -> Iterator[int]:
    """Where a text names the field, by a word of its key."""
    return (at for at, x in enumerate(lexemes) if x.kind in ("word", "name") and _is_of(x, field))


def _is_of(lexeme: Lexeme, field: Field) -> bool:
    word = lexeme.value.removesuffix("s")
    if len(word) < SHORTEST or lexeme.value in STOP_WORDS:
        return False
    return any(key.startswith(word) or (len(key) > SHORTEST and word.startswith(key)) for key in field.keys)


def _clause_after(lexemes: Sequence[Lexeme], at: int) -> Sequence[Lexeme]:
    end = next((n for n in range(at, len(lexemes)) if lexemes[n].kind == "stop"), len(lexemes))
    return lexemes[at + 1 : end]


def _says_yes_or_no(field: Field) -> bool:
    return len(field.lexemes) == 1 and field.lexemes[0].value in YES | NO


def _counts_something(field: Field) -> bool:
    return len(field.lexemes) == 1 and _is_small(field.lexemes[0])


def _is_small(lexeme: Lexeme) -> bool:
    return lexeme.kind == "number" and lexeme.value.isdigit() and len(lexeme.value) < 3


def _numbers(answer: Sequence[Lexeme], fields: Sequence[Field]) -> Iterator[str]:
    """Small numbers beside a word that names a field which counts."""
    for at, lexeme in enumerate(answer):
        if not _is_small(lexeme):
            continue
        around = [*answer[max(0, at - BEFORE) : at], *_clause_after(answer, at)[:AFTER]]
        meant = [field for field in fields if any(_is_of(x, field) for x in around if x.kind in ("word", "name"))]
        if meant:
            yield f"number {_verdict(any(field.lexemes[0].value == lexeme.value for field in meant))}"


def _before(said: Said) -> Iterator[str]:
    """Facts of a field of which the customer or the chatbot named a value before."""
    values: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for lexemes, facts in said.before:
        for fact in facts:
            for field in fact.fields:
                values[field.keys].add(_text(lexemes, fact))
    for fact in said.facts[:MOST]:
        known = [values[field.keys] for field in fact.fields if field.keys in values]
        if known:
            so = any(_text(said.answer, fact) in each for each in known)
            yield "said so before" if so else "said otherwise before"


def _text(lexemes: Sequence[Lexeme], fact: Fact) -> str:
    return " ".join(lexeme.value for lexeme in lexemes[fact.start : fact.end])


def _records(said: Said) -> Iterator[str]:
    """Facts beside the record that was last named by its id, and beside the one at hand."""
    keys = {folder.record: {field.keys for field in folder.fields} for folder in said.folders}
    for fact, anchor in zip(said.facts[:MOST], anchors(said.facts), strict=False):
        holders = {field.record for field in fact.fields}
        if not holders or PROFILE in holders or any(field.is_id for field in fact.fields):
            continue
        if anchor is not None and anchor not in holders:
            yield "beside the record named"
            if negated(said.answer, fact.start):
                yield "beside it, denied"
            elif _rival(fact, keys[anchor]):
                yield "beside it, rival"
        if said.at_hand and said.at_hand.record not in holders and _rival(fact, keys[said.at_hand.record]):
            yield "not of the record at hand, rival"
    yield from _lists(said)


def _rival(fact: Fact, keys: Collection[tuple[str, ...]]) -> bool:
    return any(field.keys in keys for field in fact.fields)


def _lists(said: Said) -> Iterator[str]:
    """Values that the record at hand has several of, and of which another record's is told among its own."""
    if said.at_hand is None:
        return
    own = said.at_hand.record
    told = {id(field) for fact in said.facts for field in fact.fields}
    foreign = {field.keys for fact in said.facts for field in fact.fields if own not in {f.record for f in fact.fields}}
    values: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    for field in said.at_hand.fields:
        values[field.keys].append(id(field) in told)
    for keys in sorted(foreign & values.keys()):
        if any(values[keys]):
            yield "list mixed"
            if not all(values[keys]):
                yield "list mixed and cut"
