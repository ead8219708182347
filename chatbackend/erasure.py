"""Everything of one customer is forgotten, and the books stay balanced.

Each storey forgets its own, in one transaction. A turn of theirs that runs is stopped and settled first, wherever it
runs: what it has cost stays on the books, under ids from which nothing leads to the customer any more.
"""

from __future__ import annotations

import time
from uuid import UUID

import structlog

from accounts import personal_data
from accounts.tenancy import in_tenant
from cascade import conversations, remembered
from chatbackend.live import ask_to_cancel

PATIENCE_SECONDS = 30.0
AGAIN_SECONDS = 0.1
log = structlog.get_logger(__name__)


class StillAnswering(Exception):
    """A turn of the customer, or exploring one, did not end in time; nothing was erased."""


def erase(tenant_id: UUID, customer_id: UUID, patience: float = PATIENCE_SECONDS) -> bool:
    """False: the tenant has no such customer. Waits for running turns; off the event loop, please.

    Who comes back afterwards is a new customer. Raises StillAnswering.
    """
    until = time.monotonic() + patience
    while True:
        with in_tenant(tenant_id):
            answering = conversations.answering(customer_id)
            if not answering:
                remembered.erase(tenant_id, customer_id)  # first: its rows are found by the conversations
                conversations.erase(customer_id)
                known = personal_data.erase(customer_id)
                break
        if time.monotonic() >= until:
            raise StillAnswering("a turn of this customer has not ended; nothing was erased")
        for conversation_id in answering:
            ask_to_cancel(str(conversation_id))
        conversations.give_up(tenant_id)  # turns of processes that are gone
        time.sleep(AGAIN_SECONDS)
    log.info("customer_erased", tenant_id=str(tenant_id), known=known)
    return known
