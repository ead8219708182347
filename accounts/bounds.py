"""How many a tenant may have of what is set up by hand.

The bound stands on the model (`TenantRow.MOST`). It is kept by whoever makes rows, which is one place a door.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from accounts.models import Tenant


class TooMany(Exception):
    """There are as many as there may be; the message says of what, and how many."""


def make_room(rows: QuerySet[Any], what: str = "", more: int = 1) -> None:
    """For `more` rows, of which these are counted; whoever makes some takes turns until the transaction ends.

    `what` they are called; "": as the model says. In the tenant's transaction. Raises TooMany.
    """
    most = rows.model.MOST
    Tenant.objects.select_for_update(no_key=True).get()
    if (there := rows.count()) + more > most:
        what = what or str(rows.model._meta.verbose_name_plural)
        raise TooMany(f"there may be {most:,} {what}, and there are {there:,}")
