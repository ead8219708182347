"""What a tenant used and what it cost, added up by day, model, chatbot, segment, customer or outcome: from the ledger.

Only what statements read is read, and whose turn it was; so the sums equal the statement's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.money import Money
from accounts.tenancy import in_tenant

LONGEST = timedelta(days=366)
MOST = 1000  # groups, the dearest first; of days the newest
GROUPS = {
    "day": "to_char(e.created_at AT TIME ZONE t.time_zone, 'YYYY-MM-DD')",
    "model": "e.model",
    "chatbot": "coalesce(e.chatbot_id::text, '')",
    "outcome": "e.outcome",
    "kind": "e.kind",
    "customer": "coalesce(c.external_id, '')",
    "segment": "coalesce(c.attributes ->> 'segment', '')",
}
# The customer of an entry stands on its conversation.
WHOSE = """
    LEFT JOIN cascade_conversation k ON k.id = e.conversation_id
    LEFT JOIN accounts_customer c ON c.id = k.customer_id
"""
REPORT = """
    SELECT {key} AS key, count(*), count(DISTINCT e.turn_id),
           sum(e.input_tokens)::bigint, sum(e.output_tokens)::bigint,
           sum(e.included_micros - e.amount_micros)::bigint, sum(e.cost_micros)::bigint, sum(e.dearest_micros)::bigint
    FROM accounts_ledgerentry e JOIN accounts_tenant t ON t.id = e.tenant_id {joins}
    WHERE e.tenant_id = %s AND e.created_at >= %s AND e.created_at < %s AND e.kind IN ('charge', 'adjustment')
    GROUP BY 1 ORDER BY {order} DESC, 1 LIMIT %s
"""
COLUMNS = ("key", "entries", "turns", "input_tokens", "output_tokens", "charged", "cost", "dearest")


class TooLong(ValueError):
    """More than a year at once, or an end before its beginning."""


def check_length(since: datetime, until: datetime) -> None:
    """Raises TooLong."""
    if not timedelta(0) <= until - since <= LONGEST:
        raise TooLong("from `since` to `until` are 0 to 366 days")


def report(tenant_id: UUID, since: datetime, until: datetime, by: str) -> list[dict[str, Any]]:
    """Charges and their corrections from `since` until before `until`, by a key of GROUPS. Raises TooLong."""
    check_length(since, until)
    joins = WHOSE if by in ("customer", "segment") else ""
    sql = REPORT.format(key=GROUPS[by], joins=joins, order="1" if by == "day" else "6")
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(sql, [tenant_id, since, until, MOST])
        rows = cursor.fetchall()
    return [dict(zip(COLUMNS, (*row[:5], *map(Money, row[5:])), strict=True)) for row in rows]
