"""How often a program or a member may ask, told in every answer's headers. Counted where messages are."""

from __future__ import annotations

import math
import time
from uuid import UUID

from django.conf import settings

from accounts import limits


def count(tenant_id: UUID, name: str) -> tuple[bool, dict[str, str]]:
    """One more request: whether it fits, and the headers that say so. With Redis this waits for the network."""
    limit = settings.RATE_API
    if limit is None:
        return True, {}
    fits, left, reset = limits.counter.measure(limit, "caller", f"{tenant_id} {name}")
    wait = max(1, math.ceil(reset - time.time()))
    told = {"RateLimit-Limit": limit.amount, "RateLimit-Remaining": left, "RateLimit-Reset": wait}
    if not fits:
        told["Retry-After"] = wait
    return fits, {header: str(value) for header, value in told.items()}
