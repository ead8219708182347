"""Who may read and change what through the REST API: one row a resource, and what no row allows is denied.

A member is let in by their role, a program by the scopes of its API key: `AREA:read` and `AREA:write`. The chat door
(`/v1/chat/completions`) asks for the scope `chat`.
"""

from __future__ import annotations

from dataclasses import dataclass

from accounts.models import Member

NOBODY: frozenset[str] = frozenset()
LEAD = frozenset({Member.Role.OWNER, Member.Role.ADMIN})
BOOKS = LEAD | {Member.Role.ANALYST}
DESK = LEAD | {Member.Role.SUPPORT}
EVERYBODY = BOOKS | {Member.Role.SUPPORT}


@dataclass(frozen=True, slots=True)
class Right:
    """`area` is the first part of the scopes that a program needs; the sets are roles."""

    area: str
    read: frozenset[str]
    write: frozenset[str] = NOBODY


RIGHTS: dict[str, Right] = {
    "tenant": Right("tenant", EVERYBODY, LEAD),
    "members": Right("members", BOOKS, LEAD),
    "api-keys": Right("keys", LEAD, LEAD),
    "customers": Right("customers", EVERYBODY, LEAD),
    "chatbots": Right("chatbots", EVERYBODY, LEAD),
    "articles": Right("chatbots", EVERYBODY, LEAD),
    "gaps": Right("conversations", EVERYBODY),
    "saved-replies": Right("chatbots", EVERYBODY, LEAD),
    "remembered-answers": Right("conversations", EVERYBODY, LEAD),
    "strategies": Right("chatbots", BOOKS, LEAD),
    "proposals": Right("chatbots", BOOKS, LEAD),
    "shadow-trials": Right("chatbots", BOOKS, LEAD),
    "drift-readings": Right("chatbots", BOOKS),
    "models": Right("chatbots", BOOKS),
    "conversations": Right("conversations", EVERYBODY, DESK),
    "turns": Right("conversations", EVERYBODY),
    "model-calls": Right("conversations", EVERYBODY),
    "feedback": Right("conversations", EVERYBODY),
    "budgets": Right("books", BOOKS, LEAD),
    "tariffs": Right("books", BOOKS),
    "usage": Right("books", BOOKS),
    "ledger": Right("books", BOOKS),
    "statements": Right("books", BOOKS, LEAD),
    "exports": Right("books", BOOKS, LEAD),
    "scorer-versions": Right("scorer", BOOKS, LEAD),
    "webhooks": Right("webhooks", LEAD, LEAD),
    "audit-log": Right("audit", LEAD),
}
CHAT = "chat"
SCOPES: tuple[str, ...] = (
    CHAT,
    *sorted({f"{right.area}:read" for right in RIGHTS.values()}),
    *sorted({f"{right.area}:write" for right in RIGHTS.values() if right.write}),
)


def allows(resource: str, *, writing: bool, role: str | None, scopes: frozenset[str]) -> bool:
    """`role` None: a program, let in by `scopes` alone."""
    right = RIGHTS[resource]
    if role is not None:
        return role in (right.write if writing else right.read)
    return bool(right.write if writing else right.read) and f"{right.area}:{'write' if writing else 'read'}" in scopes
