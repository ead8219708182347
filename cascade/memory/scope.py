"""To whom an answer may be given again: to this customer alone, to those of a segment, or to everybody.

Doubt means this customer alone: a question that may be about something of theirs, an answer that names anything of
their record, or a fact that stands in no article.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from cascade.context import Instructions
from cascade.memory.wording import content, words
from cascade.scorer.alignment import Fact, Index, align
from cascade.scorer.lexing import lex
from cascade.scorer.records import folders
from cascade.values import Context, Passage

GENERAL_ABOVE = 0.9  # the probability from which a question counts as nobody's own
OWN_FIGURE = re.compile(r"\d{4,}|[^\s@]+@[^\s@]+\.")  # an order number, an address: somebody's own


class Scope(StrEnum):
    CUSTOMER = "customer"
    SEGMENT = "segment"
    EVERYBODY = "everybody"


def scope(context: Context, key: str, answer: str, general: float, instructions: Instructions) -> Scope:
    """`general`: the probability that the question is nobody's own."""
    if general < GENERAL_ABOVE or OWN_FIGURE.search(key):
        return Scope.CUSTOMER
    own = [fact for fact in _facts(context, answer, instructions) if fact.source != "policy"]
    if not own:
        return Scope.EVERYBODY
    return Scope.SEGMENT if segment(context) and all(map(_is_segment, own)) else Scope.CUSTOMER


def segment(context: Context) -> str:
    """The customer's, or "": the tenant names none."""
    return str(context.customer.attributes.get("segment") or "")[:200]


def _is_segment(fact: Fact) -> bool:
    return fact.source == "profile" and all(field.keys == ("segment",) for field in fact.fields)


def _facts(context: Context, answer: str, instructions: Instructions) -> list[Fact]:
    """What the answer asserts, and whether the articles or the instructions say it."""
    known = [f"{passage.title}\n{passage.text}" for passage in context.passages] + [instructions.instructions]
    policy = {lexeme.value for text in known for lexeme in lex(text, context.now)}
    lexemes = lex(answer, context.now)
    facts = align(lexemes, Index(folders(context)), _said(context), policy)
    return [
        fact
        for fact in facts
        if fact.source in ("policy", "said") or any(x.value not in policy for x in lexemes[fact.start : fact.end])
    ]


def _said(context: Context) -> set[str]:
    """What was said before the question: an answer that takes it up is for who said it."""
    said = [context.summary, *(utterance.text for utterance in context.history)]
    return {lexeme.value for text in said for lexeme in lex(text, context.now)}


def basis(context: Context, instructions: Instructions, scope: Scope) -> str:
    """Hash of what an answer rests on besides articles: it is given only where this is the same.

    One for several rests on the plan, the country or whatever else of the profile the articles speak of; one of this
    customer's own on all of their profile and records, and on the day.
    """
    told: list[object] = [instructions.name, instructions.instructions, instructions.tone]
    customer = context.customer
    if scope is Scope.CUSTOMER:
        told += [customer.attributes, [(r.type, r.external_id, r.data) for r in customer.records], context.now.date()]
    else:
        told += ruled(context, instructions.instructions)
    return digest(map(repr, told))


def ruled(context: Context, instructions: str) -> list[tuple[str, str]]:
    """What of the customer's profile the rules, in articles and instructions, tell apart: what they mention."""
    rules = [instructions, *(f"{passage.title} {passage.text}" for passage in context.passages)]
    mentioned = {word for rule in rules for word in words(rule, None)}
    return [
        (name, str(value))
        for name, value in sorted(context.customer.attributes.items())
        if (told := content(name if value is True else str(value))) and told <= mentioned
    ]


def knowledge(passages: Sequence[Passage]) -> str:
    """Hash of the articles."""
    return digest(f"{passage.source_id}\n{passage.title}\n{passage.text}" for passage in passages)


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
