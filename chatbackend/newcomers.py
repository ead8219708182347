"""How many new visitors one address may become: each is a row, and nobody vouches for any of them.

Counted in each process, for an hour at a time; whoever returns with their visitor's secret, or is signed for, is
not counted. The address is the one the server sees, so it must know the proxy in front (docs/operations.md).
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

LIMIT = parse("60/hour")  # an office or a mobile network shares one address
limiter = FixedWindowRateLimiter(MemoryStorage())


def may_enter(address: str) -> bool:
    """One more visitor from there?"""
    return limiter.hit(LIMIT, network(address))


def network(address: str) -> str:
    """The address, or the /64 of an IPv6 address, since one line has all of that."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has no address
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or int(ip) >> 64)
