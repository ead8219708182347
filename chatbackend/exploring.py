"""Exploring for every tenant, by one process at a time (`cascade.exploration` says what it is)."""

from __future__ import annotations

import psycopg

from accounts.tenancy import in_db
from accounts.tenants import every_tenant
from cascade import exploration
from cascade.runner import Engine
from chatbackend.live import conninfo
from chatbackend.reporting import report

ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(hashtext('exploration'))"


async def explore(engine: Engine) -> int:
    """How many turns were explored; none where another process is at it. The lock ends with its connection."""
    async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as connection:
        locked = await (await connection.execute(ONE_AT_A_TIME)).fetchone()
        if locked != (True,):
            return 0
        drawn = 0
        for tenant_id in await in_db(every_tenant)():
            try:
                drawn += await exploration.explore(tenant_id, engine)
            except Exception as problem:  # one tenant's trouble keeps no other waiting
                report(problem)
        return drawn
