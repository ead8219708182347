"""What must be true of the database role before anything is served."""

from __future__ import annotations

from typing import Any

from django.core.checks import Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

# What hides rows, grants and the policies of owners bind nobody who is an owner or may become one.
UNBOUND = """
    SELECT current_user FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls OR EXISTS (
        SELECT FROM pg_class WHERE relpersistence <> 't' AND pg_has_role(relowner, 'MEMBER')))
"""


@register(Tags.database)
def app_role_is_bound(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[Error]:
    """A superuser, a role with BYPASSRLS or an owner of tables would see other tenants' rows."""
    if not databases or "default" not in databases:
        return []
    with connections["default"].cursor() as cursor:
        cursor.execute(UNBOUND)
        role = cursor.fetchone()
    if not role:
        return []
    return [
        Error(
            f"DATABASE_URL connects as {role[0]}, whom row-level security does not bind",
            hint="Use a role with NOSUPERUSER NOBYPASSRLS that owns no table; migrations use DATABASE_OWNER_URL.",
            id="accounts.E001",
        )
    ]


def refuse_unbound_role() -> None:
    """The same for who begins to serve. Raises ImproperlyConfigured, and what the database raises."""
    for error in app_role_is_bound(None, ["default"]):
        raise ImproperlyConfigured(f"{error.msg}. {error.hint}")
