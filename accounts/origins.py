"""Which web origins a widget may stand on. Pure.

This keeps a tenant's widget off strangers' pages; it proves nothing about who is calling, since a
program can send any Origin it likes. Identity is proven in `accounts.identity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<wildcard>\*\.)?(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int
    wildcard: bool  # True: any subdomain of host, but not host itself


def parse_origin(text: str) -> Origin | None:
    """`https://shop.example`, `https://*.shop.example`, `http://localhost:8000`; None: not an origin."""
    match = ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    return Origin(scheme, match["host"].lower(), port, bool(match["wildcard"]))


def check_allowed(origins: Iterable[str]) -> None:
    """Raises ValueError for what cannot be allowed: no origin, or a wildcard over a whole top-level domain."""
    for text in origins:
        origin = parse_origin(text)
        if origin is None:
            raise ValueError(f"{text!r} is not an origin such as https://shop.example or https://*.shop.example")
        if origin.wildcard and "." not in origin.host:
            raise ValueError(f"{text!r} would allow a whole top-level domain")


def is_allowed(origin: str, allowed: Iterable[str]) -> bool:
    asked = parse_origin(origin)
    if asked is None or asked.wildcard:
        return False
    return any(_covers(rule, asked) for rule in map(parse_origin, allowed) if rule)


def _covers(rule: Origin, asked: Origin) -> bool:
    if (rule.scheme, rule.port) != (asked.scheme, asked.port):
        return False
    return asked.host.endswith("." + rule.host) if rule.wildcard else asked.host == rule.host
