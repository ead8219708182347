"""Whether an answer recites the tenant's articles: a sentence of theirs, told as it stands, holds for everybody.

"Basic members can return it within 30 days, Plus members within 60" names figures of three plans and is wrong for none
of them, while "you can return it within 60 days" is right for one. So each sentence of the answer is held against the
one sentence of the articles that it shares most with. Counts only; what is looked at is bounded. No torch, no Django.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cascade.scorer.alignment import STOP_WORDS
from cascade.scorer.lexing import Lexeme

COUNTS = ("recited", "recited in part", "recited with other figures", "in own words", "figures not of the articles")
FIGURES = {"money", "date", "time", "number"}
SHORTEST = 4  # words of content that make a sentence
SAME, WHOLE = 0.7, 0.6  # shares of the answer's sentence and of the article's that are common to both
MOST = 40  # sentences of an answer; of all articles, five times as many


def recital(answer: Sequence[Lexeme], passages: Sequence[Sequence[Lexeme]]) -> Iterator[str]:
    """One of COUNTS for each sentence of the answer; nothing where no article is shown."""
    told = [said for passage in passages for said in sentences(passage)][: 5 * MOST]
    if not told:
        return
    for said in sentences(answer)[:MOST]:
        yield _verdict(said, max(told, key=lambda other: len(said & other)))


def sentences(lexemes: Sequence[Lexeme]) -> list[frozenset[tuple[bool, str]]]:
    """The words of content of each, figures told apart; short ones left out."""
    found, words = list[frozenset[tuple[bool, str]]](), set[tuple[bool, str]]()
    for lexeme in [*lexemes, Lexeme("stop", ".", ".")]:
        if lexeme.kind == "stop" and lexeme.value in ".!?\n":
            if len(words) >= SHORTEST:
                found.append(frozenset(words))
            words = set()
        elif lexeme.kind != "stop" and lexeme.value not in STOP_WORDS:
            words.add((lexeme.kind in FIGURES, lexeme.value.removesuffix("s")))
    return found


def _verdict(said: frozenset[tuple[bool, str]], told: frozenset[tuple[bool, str]]) -> str:
    common, foreign = len(said & told), any(is_figure for is_figure, _ in said - told)
    if common < SAME * len(said):
        return "figures not of the articles" if foreign else "in own words"
    if foreign:
        return "recited with other figures"
    return "recited" if common >= WHOLE * len(told) else "recited in part"
