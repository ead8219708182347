"""One POST to an address that a tenant named, which is not trusted.

It is resolved once, every address it resolves to must be public, and the connection goes to the very address that was
checked, under the certificate of the name. Redirects are not followed, and of the answer no more is read than was
asked for. A look-up that hangs cannot be ended, only left: one host has one at a time, so that it keeps others waiting
only where many hosts hang at once. Pure.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from threading import Thread

import httpx

_SPECIAL = (  # not private to Python 3.11, yet not on the internet
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("168.63.129.16/32"),  # a cloud's metadata
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # leaves out mapped, translated (NAT64), local and multicast addresses
_MOST_LOOK_UPS = 32  # of names, at once: each takes a thread until the name server answers or is given up

_Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, and how much patience there is."""

    url: str  # https; http only to a private address, where `allow_private`
    allow_private: bool = False  # the operator's word, never the tenant's: may name an address of the own network
    deadline_seconds: float = 1.5  # for the whole exchange
    max_bytes: int = 65_536  # of the answer


class PostFailed(Exception):
    """No answer. `code` is one of: timeout, refused_address, too_large, malformed, tls, unreachable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


async def post(
    target: Target, body: bytes, message_id: str, secrets: Sequence[bytes], *, tls: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer. Signed with each of `secrets` (Standard Webhooks). Raises PostFailed.

    `tls`: whom to trust; None: the usual authorities.
    """
    try:
        async with asyncio.timeout(target.deadline_seconds):
            url = _url(target)
            addresses = await _addresses(target, url)
            headers = _headers(url, body, message_id, secrets)
            return await _ask(target, url, addresses, headers, body, tls or _usual_authorities())
    except TimeoutError:
        raise PostFailed("timeout", f"no answer within {target.deadline_seconds} s") from None


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """A part of the `webhook-signature` header (standardwebhooks.com, symmetric, version 1)."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _headers(url: httpx.URL, body: bytes, message_id: str, secrets: Sequence[bytes]) -> dict[str, str]:
    timestamp = int(time.time())
    return {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp, body) for secret in secrets),
    }


# --- where to -----------------------------------------------------------------------------


def _url(target: Target) -> httpx.URL:
    try:
        url = httpx.URL(target.url)
    except httpx.InvalidURL as error:
        raise PostFailed("refused_address", "not an address") from error
    schemes = ("https", "http") if target.allow_private else ("https",)
    if url.scheme not in schemes or not url.host or url.userinfo:
        raise PostFailed("refused_address", "must be https://host/path, without a user name")
    return url


@dataclass(frozen=True, slots=True)
class _LookUp:
    began: float  # monotonic seconds
    found: Future[list[_Address]]


_LOOK_UPS: dict[str, _LookUp] = {}  # under way, by host


async def _addresses(target: Target, url: httpx.URL) -> list[_Address]:
    """What the host resolves to, now and for this exchange. One bad address refuses them all."""
    host, port = url.raw_host.decode(), url.port or {"https": 443, "http": 80}[url.scheme]
    try:
        found = await _look_up(host, port, target.deadline_seconds)
    except (OSError, UnicodeError) as error:
        raise PostFailed("unreachable", "the name does not resolve") from error
    for address in found:
        public = _is_public(address)
        if not (public or (target.allow_private and _is_own_network(address))):
            raise PostFailed("refused_address", "not a public address")
        if public and url.scheme == "http":
            raise PostFailed("refused_address", "http is for private addresses only")
    return found


async def _look_up(host: str, port: int, patience_seconds: float) -> list[_Address]:
    """Joins the look-up of this host that is under way; one that has taken too long already is not waited for."""
    under_way = _LOOK_UPS.get(host) or _begin(host, port)
    if time.monotonic() - under_way.began >= patience_seconds:
        raise PostFailed("timeout", "an earlier look-up of the name hangs")
    return await asyncio.wrap_future(under_way.found)


def _begin(host: str, port: int) -> _LookUp:
    if len(_LOOK_UPS) >= _MOST_LOOK_UPS:
        raise PostFailed("unreachable", "too many names are being looked up")
    found: Future[list[_Address]] = Future()
    found.set_running_or_notify_cancel()  # whoever stops waiting does not cancel it for the others
    found.add_done_callback(lambda _: _LOOK_UPS.pop(host, None))  # another thread may have looked it up too
    look_up = _LOOK_UPS[host] = _LookUp(time.monotonic(), found)
    Thread(target=_resolve_into, args=(found, host, port), name="pinned-dns", daemon=True).start()
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


async def _ask(
    target: Target, url: httpx.URL, addresses: Sequence[_Address], headers: dict[str, str], body: bytes,
    tls: ssl.SSLContext,
) -> tuple[int, bytes]:  # fmt: skip
    for address in addresses:
        try:
            return await _post(target, url, address, headers, body, tls)
        except httpx.ConnectError as error:
            code = "tls" if _is_tls(error) else "unreachable"
            failure = PostFailed(code, "no trusted connection" if code == "tls" else "no connection")
        except httpx.TransportError as error:
            code = "malformed" if isinstance(error, httpx.RemoteProtocolError) else "unreachable"
            raise PostFailed(code, "the connection broke") from error
    raise failure


async def _post(
    target: Target, url: httpx.URL, address: _Address, headers: dict[str, str], body: bytes, tls: ssl.SSLContext
) -> tuple[int, bytes]:
    """One request to one checked address; name and certificate are still the host's. Redirects are not followed."""
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
        return response.status_code, await _read(response, target.max_bytes)


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    """The body, no more than `max_bytes` of it. Compression was not offered, so a compressed one is not opened."""
    if not response.is_success:
        return b""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PostFailed("malformed", "compressed, though only identity was accepted")
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise PostFailed("too_large", f"more than {max_bytes} bytes")
    return body


def _is_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
