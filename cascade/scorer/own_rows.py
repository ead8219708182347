"""A tenant's labelled answers as rows to learn from, with wrong answers made from its own customers.

Beside each good answer stand copies in which another of the tenant's customers asks: the same words, now wrong, because
a fact of the answer is not theirs. Customers of training, of either half of validation, and of no other part lend each
other nothing, so that nobody is in two parts. Customers go by a hash. No Django: where labels come from is
`cascade.scorer_labels`'s business.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade.scorer.alignment import Fact, Index, align
from cascade.scorer.lexing import lex
from cascade.scorer.records import folders
from cascade.scorer.rows import CONTEXT, Row, row_of
from cascade.values import Context, Customer

VALIDATION = 0.3  # of the customers; one half of them calibrates, the other is reported
STRANGERS = 2  # copies of a good answer with another customer
KNOWN = ("record", "profile")


@dataclass(frozen=True, slots=True)
class Label:
    """What a person said of one answer."""

    id: str
    customer: str  # a hash, or the tenant's own id: it is hashed before it is written
    context: Context
    answer: str
    good: bool
    kind: str  # reply (that was shown), correction (of one, by staff), staff (after a hand-over), draft (before one)
    group: str  # of answers to one question


def rows(labels: Sequence[Label], seed: int) -> list[dict[str, Any]]:
    """The labels and the copies made from the good ones, as columns that `rows.row_of` reads."""
    own = [_columns(label) for label in labels]
    customers = _by_part(labels)
    strangers = (row for label in labels if label.good for row in _with_strangers(label, customers, seed))
    return [*own, *strangers]


def write(found: Iterable[dict[str, Any]], path: Path) -> None:
    """JSON lines that the owner of the process alone may read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in found)


def part(customer: str) -> str:
    """ "train" or "validation", by hash of the customer; independent of `rows.half`."""
    share = hashlib.sha256(f"part of {name(customer)}".encode()).digest()[0] / 256
    return "validation" if share < VALIDATION else "train"


def half(customer: str) -> int:
    """As `rows.half` has it: of the validation customers, 0 calibrate and 1 are reported."""
    return hashlib.sha256(name(customer).encode()).digest()[0] & 1


def name(customer: str) -> str:
    """What a customer goes by in rows."""
    return hashlib.sha256(customer.encode()).hexdigest()[:16]


def as_rows(labels: Sequence[Label]) -> list[Row]:
    """The labels alone, as the scorer is measured by them."""
    return [row_of(_columns(label)) for label in labels]


def _columns(of: Label, **changed: Any) -> dict[str, Any]:
    found = {
        "id": f"own-{of.id}",
        "user_id": name(of.customer),
        "group_id": of.group,
        "split": part(of.customer),
        "label": "good" if of.good else "bad",
        "negative_type": None if of.good else "other",
        "answer": of.answer,
        "context": CONTEXT.dump_python(of.context, mode="json"),
    }
    return found | changed


def _cell(customer: str) -> tuple[str, int]:
    """Who may lend whom: customers of one part and, within validation, of one half."""
    split = part(customer)
    return split, half(customer) if split == "validation" else 0


def _by_part(labels: Sequence[Label]) -> dict[tuple[str, int], dict[str, Customer]]:
    """Each customer as last seen."""
    found: dict[tuple[str, int], dict[str, Customer]] = defaultdict(dict)
    for label in labels:
        found[_cell(label.customer)][label.customer] = label.context.customer
    return found


def _with_strangers(
    label: Label, customers: dict[tuple[str, int], dict[str, Customer]], seed: int
) -> Iterator[dict[str, Any]]:
    others = sorted(who for who in customers[_cell(label.customer)] if who != label.customer)
    random.Random(f"{seed}/{label.id}").shuffle(others)  # noqa: S311
    told, made = _facts(label.context, label.answer), 0
    for other in others[: 20 * STRANGERS]:
        context = replace(label.context, customer=customers[_cell(label.customer)][other])
        if made < STRANGERS and _loses_a_fact(told, _facts(context, label.answer)):
            made += 1
            yield _columns(
                label,
                id=f"own-{label.id}/stranger{made}",
                label="bad",
                negative_type="right_answer_wrong_user",
                needs="lookup",
                context=CONTEXT.dump_python(context, mode="json"),
            )


def _facts(context: Context, answer: str) -> list[Fact]:
    said = [lex(told, context.now) for told in (context.question, *(u.text for u in context.history))]
    rules = [lex(passage.text, context.now) for passage in context.passages]
    values = [{x.value for lexemes in texts for x in lexemes} for texts in (said, rules)]
    return align(lex(answer, context.now), Index(folders(context)), *values)


def _loses_a_fact(told: Sequence[Fact], now: Sequence[Fact]) -> bool:
    """Whether words that quoted the customer's records quote nothing that is known when another customer asks."""
    known = {at for fact in told if fact.source in KNOWN for at in range(fact.start, fact.end)}
    return any(fact.source in ("absent", "contradicted") and known & set(range(fact.start, fact.end)) for fact in now)
