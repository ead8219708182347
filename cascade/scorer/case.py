"""An answer held against what is known of the customer: its facts, where they stand, which record is which.

What comes of it goes to the trees, by number (`evidence`) and by name (`terms`).
No torch, no Django; linear in its input and safe for any string.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cascade.scorer.alignment import STOP_WORDS, Fact, Index, align, anchors
from cascade.scorer.company import Told, company
from cascade.scorer.evidence import evidence
from cascade.scorer.lexing import Lexeme, kind_of, lex
from cascade.scorer.named import Said, named, negated
from cascade.scorer.recital import Sentence, recital, sentences
from cascade.scorer.records import PROFILE, Folder, folders
from cascade.scorer.sums import sums
from cascade.values import Context

_LETTERS = "ABCD"
MOST_PASSAGES = 20  # as many as a small shop's models are shown
_PLACES = {"next": {"next", "upcoming", "coming"}, "latest": {"last", "latest", "recent", "recently"}}


class Case:
    """`facts`: of the answer; `asked`, `told`: of the question and of the last turns; `letters`: of the records."""

    def __init__(self, context: Context, answer: str) -> None:
        self.context = context
        self.folders = folders(context)
        index = Index(self.folders)
        self.answer = lex(answer, context.now)
        self.question = lex(context.question, context.now)
        self.turns = [(u.role, lex(u.text, context.now)) for u in context.history[-4:]]
        said = {x.value for lexemes in (self.question, *(t for _, t in self.turns)) for x in lexemes}
        read = [_read_passage(p.title, p.text, context.now.date()) for p in context.passages[:MOST_PASSAGES]]
        self.passages = [passage.lexemes for passage in read]
        self.articles = [said for passage in read for said in passage.sentences]
        policy = {x.value for lexemes in self.passages for x in lexemes}
        self.facts = align(self.answer, index, said, policy)
        self.asked = align(self.question, index, set(), set(), guess_absent=False)
        self.told = [align(t, index, set(), set(), guess_absent=False) for _, t in self.turns]
        self.letters = self._rank()

    def _rank(self) -> dict[int, str]:
        """Letters for the records, the one that answer and question speak of most first."""
        weights: Counter[int] = Counter()
        for facts, weight in ((self.facts, 4.0), (self.asked, 6.0), *((told, 2.0) for told in self.told)):
            for fact in facts:
                holders = {f.record for f in fact.fields} - {PROFILE}
                for record in holders:
                    weights[record] += weight / len(holders)  # type: ignore[assignment]
        asked_for = {x.value for x in self.question} | {x.value for x in self.answer}
        for folder in self.folders[1:]:
            named = any(words & asked_for and place in folder.derived for place, words in _PLACES.items())
            weights[folder.record] += 10.0 * named + 0.5 * ("next" in folder.derived) - 0.01 * folder.record  # type: ignore[assignment]
        ranked = sorted((f.record for f in self.folders[1:]), key=lambda r: -weights[r])
        return {record: _LETTERS[i] if i < len(_LETTERS) else "more" for i, record in enumerate(ranked)}

    def ranked(self) -> list[Folder]:
        """The records, the one at hand first."""
        places = {record: place for place, record in enumerate(self.letters)}
        return sorted(self.folders[1:], key=lambda folder: places[folder.record])

    def place_of(self, fact: Fact, anchor: int | None) -> list[str]:
        """The marks of one fact: which record holds it, and whether that is the one spoken of."""
        if fact.source not in ("record", "profile"):
            return [fact.source]
        holders = {f.record for f in fact.fields}
        if anchor is not None and anchor in holders:
            return [self.letters[anchor]]
        if PROFILE in holders:
            return ["profile"]
        best = min((self.letters[r] for r in holders), key=lambda letter: (letter == "more", letter))
        return ["swapped", best] if anchor is not None else [best]

    def places(self) -> list[list[str]]:
        spoken_of = anchors(self.facts)
        places = [self.place_of(fact, anchor) for fact, anchor in zip(self.facts, spoken_of, strict=True)]
        for fact, place in zip(self.facts, places, strict=True):
            if fact.fields and negated(self.answer, fact.start):
                place.append("denied")
        return places

    def terms(self) -> list[str]:
        """Words and values by name, each once: what answer and question say, what the records at hand hold."""
        told = [self.answer, self.question, *(turn for _, turn in self.turns[-2:])]
        said = {f"{place}:{word}" for place, text in zip("aqhh", told, strict=False) for word in plain_words(text)}
        words = plain_words(self.answer)
        said |= {f"a:{first} {second}" for first, second in pairwise(words)}
        return sorted(said | {term for folder in self.folders for term in (*self._held(folder), *self._quoted(folder))})

    def _held(self, folder: Folder) -> Iterator[str]:
        place = "profile" if folder.record == PROFILE else self.letters[folder.record]
        if place not in ("profile", "A"):
            return
        yield from (f"{place}:{word}" for word in (folder.type, *folder.derived))
        for field in folder.fields:
            if not field.is_id and len(field.lexemes) <= 2:
                yield f"{place}:{' '.join(field.keys)}={' '.join(x.value for x in field.lexemes)[:24]}"

    def _quoted(self, folder: Folder) -> Iterator[str]:
        """The names of fields that the answer quotes, and of those that it leaves out of an object that it quotes."""
        if folder.record != PROFILE and self.letters[folder.record] != "A":
            return
        fields = [field for fact in self.facts for field in fact.fields]
        quoted, objects = {id(field) for field in fields}, {(field.record, field.group) for field in fields}
        for field in folder.fields:
            if not field.is_id and (id(field) in quoted or (field.record, field.group) in objects):
                place = "profile" if folder.record == PROFILE else "A"
                yield f"{'quoted' if id(field) in quoted else 'left out'} {place}:{' '.join(field.keys)}"

    def evidence(self) -> list[float]:
        kinds = [kind_of(self.answer[fact.start : fact.end]) for fact in self.facts]
        said = set[str]().union(*(content_values(turn) for _, turn in self.turns))
        words = content_values(self.answer), content_values(self.question), said
        facts = list(zip(self.facts, kinds, self.places(), strict=True))
        return evidence(facts, self.asked, words, len(self.folders) - 1, self._together(kinds))

    def _together(self, kinds: Sequence[str]) -> Counter[str]:
        """How the facts hold together."""
        at_hand = next(iter(self.letters), None)
        asked = [fact for facts in (self.asked, *self.told) for fact in facts]
        unknown = {fact.start for fact in self.facts if fact.source in ("absent", "contradicted")}
        found = company(Told(self.answer, self.facts, kinds, self.folders, at_hand, asked))
        ranked = self.ranked()
        found.update(sums(self.answer, unknown, [*ranked, self.folders[0]], self.passages))
        found.update(recital(self.answer, self.articles))
        before = [
            (self.question, self.asked),
            *((turn, told) for (_, turn), told in zip(self.turns, self.told, strict=True)),
        ]
        first = ranked[0] if ranked else None
        found.update(named(Said(self.answer, self.facts, before, first, self.folders[0], self.folders)))
        return found


class _Passage(NamedTuple):
    """As it is read; never changed."""

    lexemes: list[Lexeme]
    sentences: list[Sentence]


@lru_cache(maxsize=256)
def _read_passage(title: str, text: str, today: date) -> _Passage:
    """A tenant's passages come back turn after turn, each time as relevant as the question makes them."""
    lexemes = lex(f"{title}: {text}", datetime(today.year, today.month, today.day, tzinfo=UTC))
    return _Passage(lexemes, sentences(lexemes))


def plain_words(lexemes: Iterable[Lexeme]) -> list[str]:
    return [x.value[:24] for x in lexemes if x.kind in ("word", "name")]


def content_values(lexemes: Iterable[Lexeme]) -> set[str]:
    return {x.value for x in lexemes if x.kind != "stop" and x.value not in STOP_WORDS}
