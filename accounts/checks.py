"""What must be true of the database role before anything is served."""

from __future__ import annotations

from typing import Any

from django.core.checks import Error, Tags, register
from django.db import connections


@register(Tags.database)
def app_role_is_bound(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[Error]:
    """A superuser or a role with BYPASSRLS would see every tenant's rows."""
    if not databases or "default" not in databases:
        return []
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)")
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
