"""How much may be sent: by one customer, one tenant, one address. For every door.

Counted in Redis where `REDIS_URL` is set, so that all web processes count together, else in each process's own memory.
While Redis fails each process counts alone: nobody is refused because of Redis. What a door says to whoever sent too
much is its own matter; the address is the one that the server sees, so it must know the proxy in front
(docs/operations.md).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from threading import Timer
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

PATIENCE_SECONDS = 0.5  # with Redis
PAUSE_SECONDS = 15.0  # after it failed
SWEPT_AFTER_SECONDS = 30.0  # what is over leaves the memory
log = logging.getLogger(__name__)

T = TypeVar("T")
Asked = tuple[RateLimitItem | None, str, str]  # a limit (None: there is none), who is counted, and which one of them


class RateLimited(Exception):
    """Too much was sent; after `retry_after` whole seconds (1 or more) there is room again."""

    def __init__(self, who: str, retry_after: int) -> None:
        super().__init__(f"too much from this {who}; again in {retry_after} seconds")
        self.who, self.retry_after = who, retry_after


class Memory(MemoryStorage):
    """As limits' own, whose sweeper is a new thread at nearly every hit: here it is one in half a minute."""

    def acquire_entry(self, *told: Any, **more: Any) -> bool:
        if not self.timer.is_alive():
            self.timer = Timer(SWEPT_AFTER_SECONDS, self.timer.function)
            self.timer.daemon = True  # no process waits for it to end
            self.timer.start()
        return super().acquire_entry(*told, **more)


class Counter:
    """Counts of moving windows; safe in threads."""

    def __init__(self, redis_url: str = "") -> None:
        """`redis_url` "": in this process alone."""
        self._alone = MovingWindowRateLimiter(Memory())
        self._together = _over(redis_url) if redis_url else None
        self._alone_until = 0.0  # monotonic seconds

    def hit(self, asked: Sequence[Asked]) -> None:
        """Count one more of each, in this order; none after the first that is full. Raises RateLimited."""
        self._counted(lambda limiter: _hit(limiter, asked))

    def measure(self, limit: RateLimitItem, who: str, which: str) -> tuple[bool, int, float]:
        """Count one more: whether it fits, how many more do, and when one that was counted is forgotten (Unix time)."""

        def measured(limiter: MovingWindowRateLimiter) -> tuple[bool, int, float]:
            fits = limiter.hit(limit, who, which)
            reset, left = limiter.get_window_stats(limit, who, which)
            return fits, left, reset

        return self._counted(measured)

    def _counted(self, work: Callable[[MovingWindowRateLimiter], T]) -> T:
        """Together with all processes if that is possible, else alone."""
        if self._together and time.monotonic() >= self._alone_until:
            try:
                return work(self._together)
            except StorageError as error:
                self._alone_until = time.monotonic() + PAUSE_SECONDS
                log.warning("each process counts alone: Redis fails with %s", type(error.storage_error).__name__)
        return work(self._alone)


def _over(redis_url: str) -> MovingWindowRateLimiter:
    storage = RedisStorage(
        redis_url, wrap_exceptions=True, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
    )
    return MovingWindowRateLimiter(storage)


def _hit(limiter: MovingWindowRateLimiter, asked: Sequence[Asked]) -> None:
    for limit, who, which in asked:
        if limit is not None and not limiter.hit(limit, who, which):
            wait = limiter.get_window_stats(limit, who, which).reset_time - time.time()
            raise RateLimited(who, max(1, math.ceil(wait)))


counter = Counter(settings.REDIS_URL)


def message(tenant_id: UUID, customer_id: UUID | None, address: str) -> None:
    """One more message to be answered. `customer_id` None: no customer is known; `address` "": none is.

    The narrowest first, so that whoever sends too much uses up nothing of the others'. With Redis this waits for the
    network: off the event loop, please. Raises RateLimited.
    """
    asked: list[Asked] = [(settings.RATE_TENANT, "tenant", str(tenant_id))]
    if address:
        asked.insert(0, (settings.RATE_ADDRESS, "address", network(address)))
    if customer_id:
        asked.insert(0, (settings.RATE_CUSTOMER, "customer", str(customer_id)))
    counter.hit(asked)


def newcomer(address: str) -> None:
    """One more visitor whom nobody vouches for: each is a row. Raises RateLimited."""
    counter.hit([(settings.RATE_NEWCOMERS, "newcomers' address", network(address))])


def network(address: str) -> str:
    """The address, or the /64 of an IPv6 address, since one line has all of that."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket has no address
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or int(ip) >> 64)
