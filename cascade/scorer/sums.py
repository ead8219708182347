"""Amounts that no record holds but that follow from others: a total, a difference, so many times a price.

No torch, no Django; the amounts looked at are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from cascade.scorer.lexing import Lexeme
from cascade.scorer.records import Field, Folder

COUNTS = ("adds up", "follows from others", "follows from nothing")
MOST, MOST_HELD = 24, 40  # amounts of the answer, of the articles; of the records, those of the first
MOST_OF_A_THING = 12


def sums(
    answer: Sequence[Lexeme], unknown: set[int], folders: Sequence[Folder], passages: Iterable[Sequence[Lexeme]]
) -> list[str]:
    """One of COUNTS for each amount of the answer that it holds for. `unknown`: positions of what stands nowhere.

    `folders`: the record at hand first.
    """
    said = [(at, _cents(lexeme)) for at, lexeme in enumerate(answer) if lexeme.kind == "money"][:MOST]
    held = [_cents(field.lexemes[0]) for folder in folders for field in folder.fields if _is_amount(field)]
    rules = [_cents(lexeme) for passage in passages for lexeme in passage if lexeme.kind == "money"][:MOST]
    counts = _counts([*answer, *(x for folder in folders for f in folder.fields if f.is_count for x in f.lexemes)])
    found: list[str] = []
    for n, (at, amount) in enumerate(said):
        adds = _is_sum_of_the_last(amount, [value for _, value in said[:n]])
        found += ["adds up"] * adds
        if at in unknown:
            others = [value for m, (_, value) in enumerate(said) if m != n] + held[:MOST_HELD]
            follows = adds or _follows(amount, others, rules, counts)
            found.append("follows from others" if follows else "follows from nothing")
    return found


def _is_amount(field: Field) -> bool:
    """Whether a field is a price, a balance: money, or a number of two digits and more that is all it holds."""
    if not field.lexemes or field.is_count:
        return False
    first = field.lexemes[0]
    return first.kind == "money" or (first.kind == "number" and len(first.value) > 1 and len(field.lexemes) == 1)


def _cents(lexeme: Lexeme) -> int:
    return round(float(lexeme.value) * 100)


def _counts(lexemes: Iterable[Lexeme]) -> set[int]:
    small = {int(x.value) for x in lexemes if x.kind == "number" and x.value.isdigit() and len(x.value) < 3}
    return {count for count in small if 1 < count <= MOST_OF_A_THING}


def _is_sum_of_the_last(amount: int, before: Sequence[int]) -> bool:
    """Whether the last two, three ... amounts come to it."""
    run = 0
    for n, value in enumerate(reversed(before)):
        run += value
        if n and run == amount:
            return True
    return False


def _follows(amount: int, others: Sequence[int], rules: Sequence[int], counts: set[int]) -> bool:
    """Whether two of the others come to it or differ by it, or one of them, so many times, is it."""
    return any(amount in (a + b, abs(a - b)) for a, b in combinations(others, 2)) or any(
        count * value == amount for count in counts for value in (*others, *rules)
    )
