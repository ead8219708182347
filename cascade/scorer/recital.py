"""Whether an answer recites the tenant's articles: a sentence of theirs, told as it stands, holds for everybody.

"Basic members can return it within 30 days, Plus members within 60" names figures of three plans and is wrong for none
of them, while "you can return it within 60 days" is right for one. So each sentence of the answer is held against the
one sentence of the articles that it shares most with: with its words in their order, its figures, its negations, and
nobody else's name in it. Counts only; what is looked at is bounded. No torch, no Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from cascade.scorer.alignment import STOP_WORDS
from cascade.scorer.lexing import Lexeme
from cascade.scorer.named import negates

COUNTS = (
    *(
        "recited",
        "recited in part",
        "recited in another order",
        "recited with another name",
        "recited denied otherwise",
    ),
    *("recited with other figures", "in own words", "figures not of the articles"),
)
FIGURES = {"money", "date", "time", "number"}
SHORTEST = 4  # words of content that make a sentence
SAME, WHOLE = 0.7, 0.6  # shares of the answer's sentence and of the article's that are common to both
MOST = 40  # sentences of an answer; of all articles, five times as many
Word = tuple[bool, str]  # whether it is a figure, and which


@dataclass(frozen=True)
class Sentence:
    """Its words of content in order, and those that a negation stands before."""

    words: tuple[Word, ...]
    denied: frozenset[Word]

    @cached_property
    def known(self) -> frozenset[Word]:
        return frozenset(self.words)

    @cached_property
    def gaps(self) -> list[tuple[Word | None, Word | None]]:
        """What stands on both sides of each word."""
        return list(zip((None, *self.words[:-1]), (*self.words[1:], None), strict=True))


def recital(answer: Sequence[Lexeme], articles: Iterable[Sentence]) -> Iterator[str]:
    """One of COUNTS for each sentence of the answer; nothing where no article is shown. `articles`: their sentences."""
    told = list(islice(articles, 5 * MOST))
    if not told:
        return
    everywhere = frozenset[Word]().union(*(each.known for each in told))
    for said in sentences(answer)[:MOST]:
        shared = [len(said.known & each.known) for each in told]
        most = max(shared)
        nearest = [each for each, common in zip(told, shared, strict=True) if common == most]
        yield min((_verdict(said, each, everywhere) for each in nearest), key=COUNTS.index)


def sentences(lexemes: Sequence[Lexeme]) -> list[Sentence]:
    """Those of a text, short ones left out."""
    found, words, denied, denies = list[Sentence](), list[Word](), set[Word](), False
    text = [*lexemes, Lexeme("stop", ".", ".")]
    for at, lexeme in enumerate(text):
        if lexeme.kind == "stop" and lexeme.value in ".!?\n":
            if denies and words:  # "those that were shipped cannot."
                denied.add(words[-1])
            if len(set(words)) >= SHORTEST:
                found.append(Sentence(tuple(words), frozenset(denied)))
            words, denied, denies = [], set(), False
        elif negates(text, at):
            denies = True
        elif lexeme.kind != "stop" and lexeme.value not in STOP_WORDS:
            words.append((lexeme.kind in FIGURES, lexeme.value.removesuffix("s")))
            if denies:
                denied.add(words[-1])
            denies = False
    return found


def _verdict(said: Sentence, told: Sentence, everywhere: frozenset[Word]) -> str:
    """`everywhere`: the words of all articles."""
    common, foreign = said.known & told.known, any(is_figure for is_figure, _ in said.known - told.known)
    if len(common) < SAME * len(said.known):
        return "figures not of the articles" if foreign else "in own words"
    if foreign:
        return "recited with other figures"
    if (said.denied ^ told.denied) & common:
        return "recited denied otherwise"
    others = everywhere - told.known
    if any(word in others and gap in told.gaps for word, gap in zip(said.words, said.gaps, strict=True)):
        return "recited with another name"  # "Gold members have" for "Silver members have"
    if len(common) < WHOLE * len(told.known):
        return "recited in part"
    rest = iter(told.words)
    return "recited" if all(word in rest for word in said.words if word in common) else "recited in another order"
