"""What the scorer reads: an answer, its facts marked by what this customer's records say of them, then the records.

The same rendering serves training and serving. Order: verdict marks, answer, question, records (the relevant
ones first), passages, history; when the budget is short the end is cut first, answer and question never.
No torch, no Django; linear in its input and safe for any string.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cascade.scorer.alignment import Fact
from cascade.scorer.case import Case, content_values
from cascade.scorer.lexing import KINDS, Lexeme, kind_of
from cascade.scorer.records import PROFILE, Field, Folder
from cascade.values import Context, Customer

# Marks are unused words of BERT's vocabulary, so the table of embeddings keeps its size; the word after each
# says where its embedding starts from.
MARKS = {
    name: (f"[unused{number}]", word)
    for number, (name, word) in enumerate(
        {
            "A": "first", "B": "second", "C": "third", "D": "fourth", "more": "other", "profile": "profile",
            "swapped": "instead", "said": "said", "policy": "policy", "contradicted": "wrong", "absent": "missing",
            "answer": "answer", "question": "question", "record": "record", "passage": "rule", "history": "before",
            "all_found": "true", "some_absent": "missing", "some_swapped": "instead", "no_facts": "nothing",
            "denied": "not",
        }.items(),
        start=1,
    )
}  # fmt: skip
RENDERING = 5  # raised with every change of what is written: weights know which one they were trained on
ANSWER_MOST = 240  # pieces; a longer answer loses the words between its facts first, then its middle
QUESTION_MOST = 64
BUDGET = 240  # pieces in all


def mark(name: str) -> str:
    return MARKS[name][0]


def blanked(context: Context) -> Context:
    """The same conversation with nothing known of the customer: what is left must not tell good from bad."""
    return Context(Customer("blank"), context.question, context.now, context.history, context.summary, context.passages)


class Rendered(NamedTuple):
    """One answer, written out for the scorer."""

    text: str  # for the network
    evidence: list[float]  # `evidence.SIZE` numbers
    terms: list[str]  # what is said and what is held, by name; sorted, each once


def render(context: Context, answer: str, *, budget: int = BUDGET) -> str:
    """The scorer's text of one answer, at most about `budget` word pieces (of the MiniLM vocabulary)."""
    return read(context, answer, budget=budget).text


def read(context: Context, answer: str, *, budget: int = BUDGET) -> Rendered:
    """All that the scorer goes by, in one pass over answer and records."""
    rendering = _Rendering(context, answer)
    return Rendered(" ".join(rendering.parts(budget)), rendering.evidence(), rendering.terms())


class _Rendering(Case):
    """A case, written out for the network."""

    def parts(self, budget: int) -> list[str]:
        answer, verdict = self._answer()
        parts = [*verdict, mark("answer"), *_shorten(answer, ANSWER_MOST)]
        parts += [mark("question"), *_shorten(self._marked(self.question, self.asked), QUESTION_MOST)]
        left = budget - _pieces(parts) - 2
        history = self._history(min(36, max(left // 3, 0)))
        passages = self._passages(min(44, max(left // 3, 0)))
        records = self._records(left - _pieces(history) - _pieces(passages))
        return parts + records + passages + history

    def _answer(self) -> tuple[list[str], list[str]]:
        places = self.places()
        notes = self._notes()
        found: list[str] = []
        at = 0
        for fact, place in zip(self.facts, places, strict=True):
            found += _with_notes(self.answer, at, fact.end, notes)
            found += [mark(name) for name in place] + _key_of(fact, place, self.letters)
            at = fact.end
        found += _with_notes(self.answer, at, len(self.answer), notes)
        return found, _verdict(self.answer, self.facts, places)

    def _notes(self) -> dict[int, list[str]]:
        """Where the answer names a field without its value, that value: "no insurance [A] yes"."""
        quoted = {id(f) for fact in self.facts for f in fact.fields}
        shown = [folder for folder in self.folders if self.letters.get(folder.record, "A") == "A"]
        fields = {
            tuple(_stem(key) for key in f.keys): (folder, f)
            for folder in shown
            for f in folder.fields
            if f.depth <= 2 and len(f.lexemes) == 1 and id(f) not in quoted and f.keys and not f.is_id
        }
        notes: dict[int, list[str]] = {}
        values = [x.value for x in self.answer]
        for start in range(len(values)):
            for length in (3, 2, 1):
                folder, field = fields.pop(tuple(values[start : start + length]), (None, None))
                if folder and field:
                    place = "profile" if folder.record == PROFILE else "A"
                    notes[start + length - 1] = [mark(place), *(_word_of(field.lexemes[0]) or ["given"])]
                    break
        return notes

    def _marked(self, lexemes: Sequence[Lexeme], facts: Iterable[Fact]) -> list[str]:
        found, at = [], 0
        for fact in facts:
            found += _shown(lexemes[at : fact.end])
            found += [mark(place) for place in self.place_of(fact, None)]
            at = fact.end
        return found + _shown(lexemes[at:])

    def _history(self, most: int) -> list[str]:
        found: list[str] = []
        for (role, lexemes), told in reversed(list(zip(self.turns, self.told, strict=True))):
            turn = [mark("history"), role[:9], *_shorten(self._marked(lexemes, told), 24)]
            if _pieces(found) + _pieces(turn) > most:
                break
            found += turn
        return found

    def _passages(self, most: int) -> list[str]:
        """The sentences of the tenant's articles that speak most of what answer and question speak of."""
        about = content_values(self.answer) | content_values(self.question)
        sentences = [s for passage in self.passages for s in _sentences(passage)]
        ranked = sorted(sentences, key=lambda s: -_overlap(s, about))
        found: list[str] = []
        for sentence in ranked[:6]:
            shown = [mark("passage"), *_shown(sentence)]
            if _overlap(sentence, about) and _pieces(found) + _pieces(shown) <= most:
                found += shown
        return found

    def _records(self, most: int) -> list[str]:
        about = content_values(self.answer) | content_values(self.question)
        matched = {id(f) for fact in (*self.facts, *self.asked) for f in fact.fields}
        order = self.ranked()
        found: list[str] = []
        for place, folder in enumerate([*order[:1], self.folders[0], *order[1:]]):
            share = most - _pieces(found)
            if share < 8:
                break
            found += self._folder(
                folder, about, matched, min(share, (most * 5 // 9, most // 3, most // 4)[min(place, 2)])
            )
        return found

    def _folder(self, folder: Folder, about: set[str], matched: set[int], most: int) -> list[str]:
        """One record, its fields in their own order, the less telling ones left out."""
        letter = "profile" if folder.record == PROFILE else self.letters[folder.record]
        head = [mark("record"), mark(letter), *folder.type.lower().split()[:3], *folder.derived]
        groups = Counter(f.group for f in folder.fields if id(f) in matched)
        worth = {id(f): _worth(f, about, matched, groups) for f in folder.fields}
        left, chosen = most - _pieces(head), set[int]()
        for field in sorted(folder.fields, key=lambda f: -worth[id(f)]):
            cost = _pieces(_written(field))
            if worth[id(field)] > 0 and cost <= left:
                chosen.add(id(field))
                left -= cost
        found, before = head, tuple[str, ...]()
        for field in folder.fields:
            if id(field) in chosen:
                found += _written(field)[len(field.keys) * (field.keys == before) :]
                before = field.keys
        return found


def _with_notes(lexemes: Sequence[Lexeme], start: int, end: int, notes: dict[int, list[str]]) -> list[str]:
    return [word for at in range(start, end) for word in (lexemes[at].shown, *notes.get(at, ()))]


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _verdict(lexemes: Sequence[Lexeme], facts: Sequence[Fact], places: Sequence[Sequence[str]]) -> list[str]:
    """A mark of the whole, then for each kind of fact how many are known and how many are not."""
    known, unknown, swapped, denied = Counter[str](), Counter[str](), 0, 0
    for fact, place in zip(facts, places, strict=True):
        kind = kind_of(lexemes[fact.start : fact.end])
        swapped += place[0] == "swapped"
        denied += place[-1] == "denied"
        known[kind] += fact.source in ("record", "profile")
        unknown[kind] += fact.source in ("absent", "contradicted")
    found = [mark("some_swapped"), str(min(swapped, 9))] if swapped else []
    if denied:
        found.append(mark("denied"))
    if unknown.total():
        found.append(mark("some_absent"))
    for kind in KINDS:
        if known[kind] or unknown[kind]:
            found += [kind, str(min(known[kind], 9)), str(min(unknown[kind], 9))]
    return found if swapped or unknown.total() else [mark("all_found" if known.total() else "no_facts"), *found]


def _key_of(fact: Fact, places: Sequence[str], letters: dict[int, str]) -> list[str]:
    """The key under which the marked record holds the fact ("total", "ship to")."""
    held = [f for f in fact.fields if letters.get(f.record, "profile") in places and not f.is_id]
    return list(held[0].keys[-2:]) if held else []


def _worth(field: Field, about: set[str], matched: set[int], groups: Counter[int]) -> float:
    """How much showing a field may tell; 0: nothing (a bare id the answer does not name)."""
    if field.is_id:
        return 0.0
    if not any(_word_of(x) for x in field.lexemes):
        return 0.0
    size = _pieces(_written(field))
    keyed = any(key in about or _stem(key) in about for key in field.keys)
    plain = field.depth <= 2 and size <= 10  # what a record says of itself: status, plan, cabin
    deep = 0.5 if field.depth > 2 else 1.0
    near = keyed * 3 * deep + (groups[field.group] > 0) * 1.5 * deep + bool(field.when) * deep
    return (id(field) in matched) * 4 + plain * 5 + near + 8 / (4 + size)


def _written(field: Field) -> list[str]:
    """ "ship to 123 elm street", "date may 20 in 5 days"; ids by their kind alone."""
    words = [*field.keys, *(w for x in field.lexemes for w in _word_of(x))]
    return [*words, *([field.when] if field.when else [])]


def _word_of(lexeme: Lexeme) -> list[str]:
    return [] if lexeme.kind in ("id", "email") else [lexeme.shown]


def _shown(lexemes: Iterable[Lexeme]) -> list[str]:
    return [x.shown for x in lexemes]


def _sentences(lexemes: Sequence[Lexeme]) -> list[list[Lexeme]]:
    found: list[list[Lexeme]] = [[]]
    for lexeme in lexemes:
        found[-1].append(lexeme)
        if (lexeme.kind == "stop" and lexeme.value in ".?!\n") or len(found[-1]) >= 40:
            found.append([])
    return [s for s in found if len(s) > 2]


def _overlap(sentence: Sequence[Lexeme], about: set[str]) -> float:
    content = content_values(sentence)
    return len(content & about) / (4 + len(content)) if content else 0.0


def _pieces(words: Iterable[str]) -> int:
    """A close upper estimate of word pieces, without the tokenizer."""
    return sum(1 if w[:1] == "[" or (len(w) <= 6 and w.isalpha()) else 1 + len(w) // 4 + w.count(" ") for w in words)


def _shorten(words: list[str], most: int) -> list[str]:
    """Words within `most` pieces: marks and the words before them are kept longest, the rest goes from the middle."""
    if _pieces(words) <= most:
        return words
    near = [i for i, w in enumerate(words) if any(v[:1] == "[" for v in words[i : i + 3])]
    keep: set[int] = set()
    left = most
    for i in [*_ends(len(words), most // 4), *near, *_ends(len(words), len(words))]:
        cost = _pieces(words[i : i + 1])
        if i not in keep and cost <= left:
            keep.add(i)
            left -= cost
        if left <= 0:
            break
    return [words[i] for i in sorted(keep)]


def _ends(length: int, most: int) -> list[int]:
    """Positions from both ends inwards."""
    order = [p for i in range((length + 1) // 2) for p in (i, length - 1 - i)]
    return order[:most]
