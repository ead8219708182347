"""A customer's attributes and records as flat, canonical fields, with the facts that follow from them.

Any JSON object will do: nothing here knows a tenant's keys. How a field bears on an answer is decided elsewhere
(`alignment`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from cascade.scorer.lexing import Lexeme, clean, lex
from cascade.values import Context

PROFILE = -1  # the "record" of the customer's own attributes
MOST_FIELDS = 1_500  # of one customer; what comes later is not read
MOST_RECORDS = 40
MOST_LEXEMES = 60  # of one field
DEEPEST = 6
LONGEST_KEY = 100  # characters


@dataclass(frozen=True, slots=True)
class Field:
    """One scalar of a record. `group` numbers the JSON object it stands in."""

    record: int
    group: int
    keys: tuple[str, ...]  # canonical words of its key
    lexemes: tuple[Lexeme, ...]
    moment: datetime | None = None
    is_id: bool = False  # the record's own id
    raw: str = ""  # as the tenant wrote it
    is_count: bool = False  # how many entries a list has


@dataclass(slots=True)
class Folder:
    """All fields of one record, or of the profile."""

    record: int
    type: str
    fields: list[Field] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)  # "next", "latest", ...


def folders(context: Context) -> list[Folder]:
    """Profile first, then the records in the order given."""
    reader = _Reader(context.now)
    profile = Folder(PROFILE, "customer")
    profile.fields.extend(reader.read(PROFILE, context.customer.attributes))
    found = [profile]
    for number, record in enumerate(context.customer.records[:MOST_RECORDS]):
        folder = Folder(number, clean(record.type))
        identity = tuple(lexeme for lexeme in lex(record.external_id, context.now) if lexeme.kind != "stop")
        folder.fields.append(Field(number, reader.next_group(), ("id",), identity, is_id=True, raw=record.external_id))
        folder.fields.extend(f for f in reader.read(number, record.data) if not _repeats(f, identity))
        found.append(folder)
    _mark_order(found[1:], context.now)
    return found


def _repeats(field_: Field, identity: tuple[Lexeme, ...]) -> bool:
    return bool(identity) and [x.value for x in field_.lexemes] == [x.value for x in identity]


def _mark_order(records: list[Folder], now: datetime) -> None:
    """Name the record that comes next and the one that was last, by its dates."""
    starts = {}
    for folder in records:
        moments = [f.moment for f in folder.fields if f.moment and not _is_creation(f)]
        if moments:
            starts[folder.record] = (min(moments), max(moments), folder)
    ahead = [s for s in starts.values() if s[0] >= now.replace(hour=0, minute=0, second=0, microsecond=0)]
    over = [s for s in starts.values() if s[1] < now]
    for _, _, folder in ahead:
        folder.derived.append("upcoming")
    for _, _, folder in over:
        folder.derived.append("past")
    if ahead:
        min(ahead, key=lambda s: s[0])[2].derived.append("next")
    if over:
        max(over, key=lambda s: s[1])[2].derived.append("latest")


def _is_creation(field_: Field) -> bool:
    return bool({"created", "booked", "ordered", "placed", "updated", "birth", "dob", "born"} & set(field_.keys))


class _Reader:
    """Walks JSON, counting groups and fields."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.groups = 0
        self.left = MOST_FIELDS

    def next_group(self) -> int:
        self.groups += 1
        return self.groups

    def read(self, record: int, data: Mapping[str, Any]) -> Iterator[Field]:
        yield from self._walk(record, data, (), self.next_group(), 0)

    def _walk(self, record: int, value: Any, keys: tuple[str, ...], group: int, depth: int) -> Iterator[Field]:
        if self.left <= 0 or depth > DEEPEST or value is None or value == "":
            return
        if isinstance(value, Mapping):
            inside = self.next_group() if depth and len(value) > 1 else group
            for key, item in value.items():
                yield from self._walk(record, item, _key_words(str(key)[:LONGEST_KEY]) or keys, inside, depth + 1)
        elif isinstance(value, (list, tuple)):
            counted = Lexeme("number", str(len(value)), str(len(value)) if value else "none")
            yield replace(self._field(record, group, keys, (counted,)), is_count=True)
            for item in value:
                yield from self._walk(record, item, keys, group, depth + 1)
        else:
            yield self._scalar(record, group, keys, value)

    def _scalar(self, record: int, group: int, keys: tuple[str, ...], value: Any) -> Field:
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, float):
            value = f"{Decimal(str(value)):f}" if abs(value) < 1e15 else str(value)
        text = str(value)
        lexemes = tuple(lexeme for lexeme in lex(text, self.now) if lexeme.kind != "stop")[:MOST_LEXEMES]
        return self._field(record, group, keys, lexemes, _moment(text, self.now), text)

    def _field(
        self,
        record: int,
        group: int,
        keys: tuple[str, ...],
        lexemes: tuple[Lexeme, ...],
        moment: datetime | None = None,
        raw: str = "",
    ) -> Field:
        self.left -= 1
        return Field(record, group, keys, lexemes, moment, raw=raw)


@lru_cache(maxsize=1_024)
def _key_words(key: str) -> tuple[str, ...]:
    """A tenant's keys come back record after record."""
    words = (lexeme.shown for lexeme in lex(key, datetime(2000, 1, 1, tzinfo=UTC)) if lexeme.kind != "stop")
    return tuple(words)[:4]


def _moment(text: str, now: datetime) -> datetime | None:
    if not (10 <= len(text) <= 35 and text[:4].isdigit() and text[4] == "-"):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)
