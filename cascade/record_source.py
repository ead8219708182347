"""Fresh records, asked of the tenant at the start of a turn.

The address is a tenant's word, so it is not trusted: it is resolved once, every address it resolves to must be public,
and the connection goes to the very address that was checked, under the certificate of the name. The answer is not
trusted either: it is small, strict, and about the customer that was asked. A look-up that hangs cannot be ended, only
left: one host has one at a time, so that it keeps others waiting only where many hosts hang at once. Remembering
records for a while, and using the last known ones when this fails, is the caller's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import math
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Thread
from typing import Any, NoReturn
from uuid import uuid4

import httpx

from cascade.values import Record

_MOST_RECORDS = 100
_LONGEST_TYPE, _LONGEST_ID = 40, 200  # characters: what `accounts.CustomerRecord` holds
_DEEPEST = 32  # levels of nesting; what copies a value later recurses
_CLOCK_SKEW = timedelta(minutes=5)
_SPECIAL = (  # not private to Python 3.11, yet not on the internet
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("168.63.129.16/32"),  # a cloud's metadata
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # leaves out mapped, translated (NAT64), local and multicast addresses
_MOST_LOOK_UPS = 32  # of names, at once: each takes a thread until the name server answers or is given up

_Address = IPv4Address | IPv6Address


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
    try:
        async with asyncio.timeout(source.deadline_seconds):
            url = _url(source)
            addresses = await _addresses(source, url)
            body = await _ask(source, url, addresses, _request(customer_id, question), tls or _usual_authorities())
    except TimeoutError:
        raise RecordSourceError("timeout", f"no answer within {source.deadline_seconds} s") from None
    return _parse(body, customer_id, datetime.now(UTC))


def merge(known: Sequence[Record], fetched: Sequence[Record]) -> tuple[Record, ...]:
    """Both; of the same type and external id the newer `as_of`, of equally old ones the fetched."""
    newest = {(record.type, record.external_id): record for record in known}
    for record in fetched:
        older = newest.get((record.type, record.external_id))
        if older is None or record.as_of >= older.as_of:
            newest[record.type, record.external_id] = record
    return tuple(newest.values())


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header (standardwebhooks.com, symmetric, version 1)."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


# --- where to -----------------------------------------------------------------------------


def _url(source: RecordSource) -> httpx.URL:
    try:
        url = httpx.URL(source.url)
    except httpx.InvalidURL as error:
        raise RecordSourceError("refused_address", "not an address") from error
    schemes = ("https", "http") if source.allow_private else ("https",)
    if url.scheme not in schemes or not url.host or url.userinfo:
        raise RecordSourceError("refused_address", "must be https://host/path, without a user name")
    return url


@dataclass(frozen=True, slots=True)
class _LookUp:
    began: float  # monotonic seconds
    found: Future[list[_Address]]


_LOOK_UPS: dict[str, _LookUp] = {}  # under way, by host


async def _addresses(source: RecordSource, url: httpx.URL) -> list[_Address]:
    """What the host resolves to, now and for this exchange. One bad address refuses them all."""
    host, port = url.raw_host.decode(), url.port or {"https": 443, "http": 80}[url.scheme]
    try:
        found = await _look_up(host, port, source.deadline_seconds)
    except (OSError, UnicodeError) as error:
        raise RecordSourceError("unreachable", "the name does not resolve") from error
    for address in found:
        public = _is_public(address)
        if not (public or (source.allow_private and _is_own_network(address))):
            raise RecordSourceError("refused_address", "not a public address")
        if public and url.scheme == "http":
            raise RecordSourceError("refused_address", "http is for private addresses only")
    return found


async def _look_up(host: str, port: int, patience_seconds: float) -> list[_Address]:
    """Joins the look-up of this host that is under way; one that has taken too long already is not waited for."""
    under_way = _LOOK_UPS.get(host) or _begin(host, port)
    if time.monotonic() - under_way.began >= patience_seconds:
        raise RecordSourceError("timeout", "an earlier look-up of the name hangs")
    return await asyncio.wrap_future(under_way.found)


def _begin(host: str, port: int) -> _LookUp:
    if len(_LOOK_UPS) >= _MOST_LOOK_UPS:
        raise RecordSourceError("unreachable", "too many names are being looked up")
    found: Future[list[_Address]] = Future()
    found.set_running_or_notify_cancel()  # whoever stops waiting does not cancel it for the others
    found.add_done_callback(lambda _: _LOOK_UPS.pop(host))
    look_up = _LOOK_UPS[host] = _LookUp(time.monotonic(), found)
    Thread(target=_resolve_into, args=(found, host, port), name="record-source-dns", daemon=True).start()
    return look_up


def _resolve_into(found: Future[list[_Address]], host: str, port: int) -> None:
    try:
        addresses = _resolve(host, port)
    except Exception as error:
        found.set_exception(error)
    else:
        found.set_result(addresses)


def _resolve(host: str, port: int) -> list[_Address]:
    answers = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))


def _is_public(address: _Address) -> bool:
    if isinstance(address, IPv6Address):
        tunnel = address.sixtofour or address.teredo
        return address in _GLOBAL_UNICAST and address.is_global and not tunnel
    special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not special


def _is_own_network(address: _Address) -> bool:
    """Private or loopback; never link-local, where clouds keep their metadata."""
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_private and not (plain.is_link_local or plain.is_unspecified)


# --- the exchange -------------------------------------------------------------------------


@cache
def _usual_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _request(customer_id: str, question: str) -> bytes:
    return json.dumps({"customer_id": customer_id, "question": question}).encode()


async def _ask(
    source: RecordSource, url: httpx.URL, addresses: Sequence[_Address], body: bytes, tls: ssl.SSLContext
) -> bytes:
    for address in addresses:
        try:
            return await _post(source, url, address, body, tls)
        except httpx.ConnectError as error:
            code = "tls" if _is_tls(error) else "unreachable"
            failure = RecordSourceError(code, "no trusted connection" if code == "tls" else "no connection")
        except httpx.TransportError as error:
            code = "malformed" if isinstance(error, httpx.RemoteProtocolError) else "unreachable"
            raise RecordSourceError(code, "the connection broke") from error
    raise failure


async def _post(source: RecordSource, url: httpx.URL, address: _Address, body: bytes, tls: ssl.SSLContext) -> bytes:
    """One request to one checked address; name and certificate are still the host's. Redirects are not followed."""
    message_id, timestamp = f"msg_{uuid4().hex}", int(time.time())
    headers = {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(source.secret, message_id, timestamp, body),
    }
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, timeout=None) as client,  # noqa: S113 - a deadline is around
        client.stream(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers=headers,
            extensions={"sni_hostname": url.raw_host.decode()},
        ) as response,
    ):
        return await _read(response, source.max_bytes)


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    """The body, no more than `max_bytes` of it. Compression was not offered, so a compressed one is not opened."""
    if response.status_code != 200:
        raise RecordSourceError("http_status", str(response.status_code))
    if response.headers.get("content-encoding", "identity") != "identity":
        raise RecordSourceError("malformed", "compressed, though only identity was accepted")
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise RecordSourceError("too_large", f"more than {max_bytes} bytes")
    return body


def _is_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


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
