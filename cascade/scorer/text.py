"""What the scorer takes in of one answer: two plain texts for the network, numbers and names for the trees.

The network reads what was asked and what was answered apart, without the customer's records, so what it says is the
same whoever asks. Training and serving read alike. No torch, no Django; linear in its input and safe for any string.
"""

from __future__ import annotations

from typing import NamedTuple

from cascade.scorer.case import Case
from cascade.scorer.lexing import clean
from cascade.values import Context, Customer

RENDERING = 8  # raised with every change of what is written: weights know which one they were trained on
_NO_MARKS = str.maketrans("[]", "()")  # nobody can write the tokenizer's own, such as [SEP]


class Rendered(NamedTuple):
    """One answer, as the scorer takes it in."""

    asked: str  # these two for the network
    answered: str
    evidence: list[float]  # `evidence.SIZE` numbers
    terms: list[str]  # what is said and what is held, by name; sorted, each once


def read(context: Context, answer: str) -> Rendered:
    """All that the scorer goes by."""
    case = Case(context, answer)
    return Rendered(plain(context.question), plain(answer), case.evidence(), case.terms())


def plain(text: str) -> str:
    """One text as the network reads it, of bounded length."""
    return clean(text).translate(_NO_MARKS)


def blanked(context: Context) -> Context:
    """The same conversation with nothing known of the customer: what is left must not tell good from bad."""
    return Context(Customer("blank"), context.question, context.now, context.history, context.summary, context.passages)
