"""Placeholders of saved replies: `{{ customer.name }}`, `{{ order.status }}`. Plain Python, and no template language.

The first word is `customer`, for the profile, or a record's type; the rest is the way to one plain value, by the
tenant's own keys. There are no filters, no tags, no calls and no attributes: a text is split at its placeholders, and
each is looked up. A placeholder without a value fills nothing: there is no reply then, never a blank in one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cascade.facts import record_relevance
from cascade.plain_text import clean
from cascade.values import Context, Record

LONGEST_VALUE = 200  # characters
PROFILE = "customer"

_PLACEHOLDER = re.compile(r"\{\{ *(\w+(?:\.\w+)+) *\}\}")


class BadPlaceholder(ValueError):
    """Something in braces is no placeholder; the message quotes it."""


class NoValue(LookupError):
    """A placeholder has no value for this customer; the message says which, and why."""


def placeholders(text: str) -> list[str]:
    """Their names, in order. Raises BadPlaceholder."""
    rest = _PLACEHOLDER.sub("", text)
    for mark in ("{{", "}}", "{%", "%}"):
        if (at := rest.find(mark)) >= 0:
            around = rest[max(at - 10, 0) : at + 30]
            raise BadPlaceholder(f"“{around}” is no placeholder; one looks like {{{{ order.status }}}}")
    return _PLACEHOLDER.findall(text)


def fill(text: str, context: Context, stale_after: timedelta) -> str:
    """The text for this customer. Raises NoValue, BadPlaceholder.

    Of several records of a type the one that the question names is meant; where it names none, or more than one alike,
    there is no value. Nor is there one in a record that is older than `stale_after`.
    """
    placeholders(text)
    records: dict[str, Record] = {}

    def value(match: re.Match[str]) -> str:
        first, *way = match[1].split(".")
        if first == PROFILE:
            return _plain(context.customer.attributes, way, match[1])
        if first not in records:
            records[first] = _meant(first, context, stale_after)
        return _plain({"id": records[first].external_id, **records[first].data}, way, match[1])

    return _PLACEHOLDER.sub(value, text)


def _meant(type: str, context: Context, stale_after: timedelta) -> Record:
    own = [record for record in context.customer.records if record.type == type]
    if not own:
        raise NoValue(f"this customer has no {type}")
    recent = " ".join(said.text for said in context.history[-2:])
    scores = record_relevance(context.question, own, recent)
    named = [_names(context.question, record) for record in own]
    if any(named):
        scores = [float(each) for each in named]
    best = max(scores)
    if len(own) > 1 and (best == 0 or scores.count(best) > 1):
        raise NoValue(f"this customer has {len(own)} of {type}, and the question does not say which is meant")
    record = own[scores.index(best)]
    if context.now - record.as_of > stale_after:
        raise NoValue(f"what is known of {type} {record.external_id} may be out of date")
    return record


def _names(question: str, record: Record) -> bool:
    return re.search(rf"(?<!\w){re.escape(record.external_id)}(?!\w)", question, re.IGNORECASE) is not None


def _plain(material: Mapping[str, Any], way: list[str], name: str) -> str:
    value: Any = material
    for key in way:
        value = value.get(key) if isinstance(value, Mapping) else None
    told = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    told = " ".join(clean(told).split())
    if not told or len(told) > LONGEST_VALUE:
        raise NoValue(f"{{{{ {name} }}}} has no plain value")
    return told


def with_placeholders(answer: str, context: Context) -> str:
    """The other way round: the answer with the customer's own values taken out, for others to be given it.

    Values of three characters and more, the longest first; one that stands in several places of profile and records is
    taken for the first of them. Whatever of the customer's is not a plain value stays in the text.
    """
    found = {f"{PROFILE}.{key}": value for key, value in context.customer.attributes.items()}
    for record in context.customer.records:
        named = {f"{record.type}.{key}": value for key, value in {"id": record.external_id, **record.data}.items()}
        found = {**named, **found}
    own = {str(value): name for name, value in reversed(found.items()) if _is_own(name, value)}
    if not own:
        return answer
    longest_first = sorted(own, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(value)}(?!\w)" for value in longest_first))
    return pattern.sub(lambda match: f"{{{{ {own[match[0]]} }}}}", answer)


def _is_own(name: str, value: Any) -> bool:
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return plain and 3 <= len(str(value)) <= LONGEST_VALUE and re.fullmatch(r"\w+\.\w+", name) is not None
