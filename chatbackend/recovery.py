"""What a dead process or a lost database left behind is settled: at every start, and each minute.

First the journal (turns that ended without a database), then the turns whose process is gone.
Each open hold is settled exactly once, whoever comes first.
"""

from __future__ import annotations

import logging

from accounts.tenancy import in_db
from cascade.conversations import give_up, tenants_with_open_turns
from chatbackend import journal

log = logging.getLogger(__name__)


async def settle_dead_turns() -> int:
    return await in_db(settle)()


def settle() -> int:
    """How many turns were closed. Raises what the database raises."""
    closed = journal.replay() + sum(give_up(tenant_id) for tenant_id in tenants_with_open_turns())
    if closed:
        log.warning("closed %s turns that were left behind", closed)
    return closed
