"""What the tenant knows of a customer, as short readable lines, the records that matter for a question first.

Reads any JSON object: the keys are the tenant's own. Dates are put beside today, because small models cannot count
days. Leaves the choice of what fits to `cascade.context`; the scorer has its own reading (`cascade.scorer.text`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from cascade.plain_text import as_material
from cascade.values import Record

_DEEPEST = 6  # levels of nesting that are read
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|[_\s]+")
_LONGEST_WORDS = 4000  # characters of a text that are compared, so that ranking stays cheap


def record_line(record: Record, now: datetime, *, stale: bool = False) -> str:
    """`order A-1 (as of ...; may be out of date): status: shipped; placed at: 2026-11-18 (4 days ago)`."""
    mark = f" (as of {beside_today(record.as_of, now)}; may be out of date)" if stale else ""
    return f"{_plain(record.type)} {_plain(record.external_id)}{mark}: {facts(record.data, now)}"


def facts(material: Mapping[str, Any], now: datetime) -> str:
    """The fields of a JSON object in one line, `key: value` parted by semicolons."""
    return "; ".join(_fields(material, now, 0))


def beside_today(moment: datetime | date, now: datetime) -> str:
    """`2026-11-10 (12 days ago)`, counted in the time zone of `now`."""
    day = moment.astimezone(now.tzinfo).date() if isinstance(moment, datetime) else moment
    days = (day - now.date()).days
    if days in (0, 1, -1):
        return f"{day} ({ {0: 'today', 1: 'tomorrow', -1: 'yesterday'}[days] })"
    return f"{day} (in {days} days)" if days > 0 else f"{day} ({-days} days ago)"


def _fields(material: Mapping[str, Any], now: datetime, depth: int) -> Iterator[str]:
    for key, value in material.items():
        name = " ".join(_CAMEL.split(_plain(str(key)))).lower()
        yield f"{name}: {_value(value, now, depth + 1)}"


def _value(value: Any, now: datetime, depth: int) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return str(value)
        case Mapping() if depth < _DEEPEST:
            return "(" + ", ".join(_fields(value, now, depth)) + ")" if value else "none"
        case list() | tuple() if depth < _DEEPEST:
            return ", ".join(_value(item, now, depth + 1) for item in value) if value else "none"
        case str():
            return _dated(value, now)
        case _:
            return "…"


def _dated(text: str, now: datetime) -> str:
    moment = _moment(text, now) if len(text) <= 40 and _DATE.fullmatch(text) else None
    return beside_today(moment, now) if moment else _quoted(_plain(text))


def _moment(text: str, now: datetime) -> datetime | date | None:
    """The date or time that an ISO 8601 text names (without a zone: in that of `now`), or None: it names none."""
    try:
        if len(text) == 10:
            return date.fromisoformat(text)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(now.tzinfo) if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
    except (ValueError, OverflowError):
        return None


def _plain(text: str) -> str:
    return " ".join(as_material(text).split())


def _quoted(text: str) -> str:
    """A value that could be taken for further fields stands in quotation marks."""
    return '"' + text.replace('"', "'") + '"' if any(mark in text for mark in ';:()"') else text


# --- which records a question is about ----------------------------------------------------


def record_order(question: str, records: Sequence[Record], recent: str = "") -> list[int]:
    """The places of the records, those that share most with the question first; of equals the most recent first.

    `recent`: what was said just before, which counts a quarter, so that "and when does it arrive?" finds its order.
    """
    scores = record_relevance(question, records, recent)
    return sorted(range(len(records)), key=lambda i: (-scores[i], -_latest(records[i]), i))


def record_relevance(question: str, records: Sequence[Record], recent: str = "") -> list[float]:
    """`relevance` of each record, what was said just before counting a quarter."""
    texts = [_searchable(record) for record in records]
    now, before = relevance(question, texts), relevance(recent, texts)
    return [asked + said / 4 for asked, said in zip(now, before, strict=True)]


def relevance(question: str, texts: Sequence[str]) -> list[float]:
    """How much of the question each text shares: its words weighed by how few of the texts have them.

    Inverse document frequency (Spärck Jones, 1972) over word beginnings, so that "orders" finds "order". 0 means
    nothing shared.
    """
    asked = stems(question)
    found = [stems(text) & asked for text in texts]
    holders = {stem: sum(stem in shared for shared in found) for stem in asked}
    weight = {stem: math.log(1 + len(texts) / count) for stem, count in holders.items() if count}
    return [sum(weight[stem] for stem in shared) for shared in found]


def stems(text: str) -> set[str]:
    words = _WORD.findall(text[:_LONGEST_WORDS].casefold())
    return {_stem(word) for word in words if len(word) > 2 or not word.isascii()} - _COMMON


def _stem(word: str) -> str:
    return word.rstrip("s")[:5] if word.isalpha() else word


_COMMON = {
    _stem(word)
    for word in [
        "about",
        "after",
        "again",
        "also",
        "and",
        "any",
        "are",
        "before",
        "but",
        "can",
        "could",
        "did",
        "does",
        "doing",
        "dont",
        "for",
        "from",
        "get",
        "give",
        "got",
        "had",
        "has",
        "have",
        "hello",
        "help",
        "her",
        "him",
        "his",
        "how",
        "its",
        "just",
        "like",
        "may",
        "need",
        "not",
        "now",
        "off",
        "our",
        "out",
        "please",
        "she",
        "should",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "want",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "would",
        "yet",
        "you",
        "your",
    ]
}


def _searchable(record: Record) -> str:
    return f"{record.type} {record.external_id} {' '.join(_leaves(record.data, 0))}"


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield " ".join(_CAMEL.split(str(key)))
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _latest(record: Record) -> float:
    """Seconds since 1970 of the latest time that the record names, else of its `as_of`."""
    named = (_moment(leaf, record.as_of) for leaf in _leaves(record.data, 0) if _DATE.fullmatch(leaf))
    times = [_seconds(moment) for moment in named if moment]
    return max(times, default=_seconds(record.as_of))


def _seconds(moment: datetime | date) -> float:
    if isinstance(moment, datetime):
        return moment.timestamp()
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC).timestamp()
