"""How often a program or a member may ask: counted in each web process, told in every answer's headers."""

from __future__ import annotations

import math
import time
from uuid import UUID

from django.conf import settings
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

limiter = MovingWindowRateLimiter(MemoryStorage())


def count(tenant_id: UUID, name: str) -> tuple[bool, dict[str, str]]:
    """One more request: whether it fits, and the headers that say what is left."""
    limit, who = settings.RATE_API, f"{tenant_id} {name}"
    if limit is None:
        return True, {}
    fits = limiter.hit(limit, who)
    reset, left = limiter.get_window_stats(limit, who)
    wait = max(1, math.ceil(reset - time.time()))
    told = {"RateLimit-Limit": limit.amount, "RateLimit-Remaining": left, "RateLimit-Reset": wait}
    if not fits:
        told["Retry-After"] = wait
    return fits, {header: str(value) for header, value in told.items()}
