"""Fresh records, asked of the tenant at the start of a turn.

The address is a tenant's word, so it is not trusted (`accounts.pinned`). The answer is not trusted either: it is small,
strict, and about the customer that was asked. Remembering records for a while, and using the last known ones when this
fails, is the caller's.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import uuid4

from accounts.pinned import PostFailed, Target, post
from cascade.values import Record

_MOST_RECORDS = 100
_LONGEST_TYPE, _LONGEST_ID = 40, 200  # characters: what `accounts.CustomerRecord` holds
_DEEPEST = 32  # levels of nesting; what copies a value later recurses
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RecordSource:
    """Where a tenant answers for its customers' records."""

    url: str  # https; http only to a private address, where `allow_private`
    secret: bytes  # signs each request (Standard Webhooks, HMAC-SHA256)
    allow_private: bool = False  # the operator's word, never the tenant's: may name an address of the own network
    deadline_seconds: float = 1.5  # for the whole exchange
    max_bytes: int = 65_536  # of the answer


class RecordSourceError(Exception):
    """The source gave no records.

    `code` is one of: timeout, refused_address, http_status, too_large, malformed, wrong_customer, tls, unreachable.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


async def fetch(
    source: RecordSource, customer_id: str, question: str, *, tls: ssl.SSLContext | None = None
) -> tuple[Record, ...]:
    """The customer's records as the tenant knows them now. Raises RecordSourceError.

    `tls`: whom to trust; None: the usual authorities.
    """
    target = Target(source.url, source.allow_private, source.deadline_seconds, source.max_bytes)
    request = json.dumps({"customer_id": customer_id, "question": question}).encode()
    try:
        status, body = await post(target, request, f"msg_{uuid4().hex}", [source.secret], tls=tls)
    except PostFailed as failed:
        raise RecordSourceError(failed.code, failed.detail) from failed
    if status != 200:
        raise RecordSourceError("http_status", str(status))
    return _parse(body, customer_id, datetime.now(UTC))


def merge(known: Sequence[Record], fetched: Sequence[Record]) -> tuple[Record, ...]:
    """Both; of the same type and external id the newer `as_of`, of equally old ones the fetched."""
    newest = {(record.type, record.external_id): record for record in known}
    for record in fetched:
        older = newest.get((record.type, record.external_id))
        if older is None or record.as_of >= older.as_of:
            newest[record.type, record.external_id] = record
    return tuple(newest.values())


# --- the answer ---------------------------------------------------------------------------


def _parse(body: bytes, customer_id: str, now: datetime) -> tuple[Record, ...]:
    try:
        answer = json.loads(body.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecordSourceError("malformed", "not JSON") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("records"), list):
        _malformed("no list of records")
    if len(answer["records"]) > _MOST_RECORDS:
        _malformed(f"more than {_MOST_RECORDS} records")
    _check_customer(answer, customer_id)
    records = tuple(_record(item, customer_id, now) for item in answer["records"])
    if len({(record.type, record.external_id) for record in records}) < len(records):
        _malformed("a record twice")
    return records


def _record(item: Any, customer_id: str, now: datetime) -> Record:
    if not isinstance(item, dict) or not {"type", "external_id", "as_of", "data"} <= item.keys():
        _malformed("a record needs type, external_id, as_of and data")
    _check_customer(item, customer_id)
    kind, external_id, material = item["type"], item["external_id"], item["data"]
    if not (_is_name(kind, _LONGEST_TYPE) and _is_name(external_id, _LONGEST_ID) and isinstance(material, dict)):
        _malformed("type and external_id are short texts, data is an object")
    if not all(map(_is_storable, (kind, external_id, *_texts(material)))):
        _malformed("NUL or half a character")
    return Record(kind, external_id, _as_of(item["as_of"], now), material)


def _check_customer(named: dict[str, Any], customer_id: str) -> None:
    if named.get("customer_id", customer_id) != customer_id:
        raise RecordSourceError("wrong_customer", "the answer is about somebody else")


def _as_of(text: Any, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        aware = moment.utcoffset() is not None
        as_of = moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        _malformed("as_of is not a time")
    if not aware or as_of > now + _CLOCK_SKEW:
        _malformed("as_of has no time zone, or has not come yet")
    return as_of


def _is_name(value: Any, longest: int) -> bool:
    return isinstance(value, str) and len(value.strip()) > 0 and len(value) <= longest


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys included. Raises RecordSourceError where it is nested too deep."""
    open_values = [(value, 0)]
    while open_values:
        value, depth = open_values.pop()
        if depth > _DEEPEST:
            _malformed("nested too deep")
        match value:
            case str() as text:
                yield text
            case dict() as inner:
                yield from inner
                open_values.extend((item, depth + 1) for item in inner.values())
            case list() as inner:
                open_values.extend((item, depth + 1) for item in inner)


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _malformed(detail: str) -> NoReturn:
    raise RecordSourceError("malformed", detail)
