"""The audit log: who changed what, from where.

It is written by triggers in PostgreSQL, so nothing that changes a row can forget it, bulk updates and commands
included, and the app's role can neither write nor change an entry itself. Here is only said who acts: for one
transaction, by the door that let them in.
"""

from __future__ import annotations

from accounts.tenancy import set_for_transaction


def by(actor: str, address: str = "", request_id: str = "") -> None:
    """In the tenant's transaction: what is changed from here on was changed by `actor`, "user:ID" or "key:ID"."""
    set_for_transaction("app.actor", actor)
    set_for_transaction("app.address", address[:64])
    set_for_transaction("app.request", request_id)
