"""Which articles stand behind an answer: those whose telling words it uses, not all that the model was shown.

A word tells when few of the shown passages have it and neither the question nor the customer's own facts do: what an
answer says of the customer's order cites no article.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cascade.facts import stems
from cascade.values import Context, Passage

LEAST_WORDS = 3  # that an answer shares with an article it rests on; a figure counts for two
LEAST_SHARE = 0.6  # of what the best article shares
MOST = 3

_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")


def cited(answer: str, context: Context) -> tuple[Passage, ...]:
    """Passages of `context` behind `answer`, at most one an article, the firmest first; often none."""
    known = _telling(" ".join([context.question, *_leaves([context.customer.attributes, *_records(context)])]))
    said = _telling(answer) - known
    shared = [said & _telling(f"{passage.title} {passage.text}") for passage in context.passages]
    weights = [_weight(each, shared) if _enough(each) else 0.0 for each in shared]
    best = max(weights, default=0.0)
    firm = sorted((-weight, i) for i, weight in enumerate(weights) if weight and weight >= LEAST_SHARE * best)
    found: dict[str, Passage] = {}
    for _, i in firm:
        found.setdefault(context.passages[i].source_id, context.passages[i])
    return tuple(found.values())[:MOST]


def _telling(text: str) -> set[str]:
    return stems(text) | {figure.rstrip(".,") for figure in _FIGURE.findall(text)}


def _enough(shared: set[str]) -> bool:
    return sum(2 if word[0].isdigit() else 1 for word in shared) >= LEAST_WORDS


def _weight(shared: set[str], all_shared: Sequence[set[str]]) -> float:
    """Of a word, by how few of the passages have it (inverse document frequency)."""
    return sum(math.log(1 + len(all_shared) / sum(word in each for each in all_shared)) for word in shared)


def _records(context: Context) -> Iterator[Mapping[str, Any]]:
    return (record.data for record in context.customer.records)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)
