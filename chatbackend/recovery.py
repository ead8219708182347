"""What a dead process or a lost database left behind is settled: at every start, and each minute.

First the journal (turns that ended without a database; each machine has its own), then the turns whose
process is gone. Each open hold is settled exactly once, whoever comes first.
"""

from __future__ import annotations

import asyncio
import logging

from django.db import DatabaseError, InterfaceError

from accounts.tenancy import in_db
from cascade.conversations import give_up, tenants_with_open_turns
from chatbackend import journal
from chatbackend.reporting import report

SECONDS = 60.0
log = logging.getLogger(__name__)


async def keep_settling() -> None:
    """In every web process, for as long as it lives."""
    while True:
        try:
            await settle_dead_turns()
        except Exception as problem:
            report(problem)
        await asyncio.sleep(SECONDS)


async def settle_dead_turns() -> int:
    return await in_db(settle)()


def settle() -> int:
    """How many turns were closed. Raises what the database raises."""
    closed = journal.replay()
    for tenant_id in tenants_with_open_turns():
        try:
            closed += give_up(tenant_id)
        except (DatabaseError, InterfaceError) as problem:  # of one tenant: the others are settled all the same
            report(problem)
    if closed:
        log.warning("closed %s turns that were left behind", closed)
    return closed
