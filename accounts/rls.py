"""Row-level security and grants, as migration operations.

The owner role runs migrations and owns the tables; the app role serves requests, owns nothing
and bypasses nothing. Every tenant table FORCEs its policy, so that even the owner sees no rows
without naming a tenant.
"""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.migrations import RunPython, RunSQL
from django.db.migrations.operations.base import Operation

TENANT = "(SELECT nullif(current_setting('app.tenant', true), '')::uuid)"


def isolate(table: str, column: str = "tenant_id") -> RunSQL:
    """Hide every row of `table` but those of the transaction's tenant."""
    return RunSQL(
        f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table} USING ({column} = {TENANT}) WITH CHECK ({column} = {TENANT});
        """,
        f"""
        DROP POLICY tenant ON {table};
        ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
        """,
    )


def append_only(table: str) -> RunSQL:
    """Refuse every UPDATE and DELETE, whoever asks."""
    return RunSQL(
        f"""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION refuse_change();
        """,
        f"DROP TRIGGER append_only ON {table};",
    )


def audited(table: str, *, names_only: bool = False) -> RunSQL:
    """Write each change of `table` to the audit log. `names_only`: not the values, and only where somebody is named."""
    return RunSQL(
        f"""
        CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON {table}
        FOR EACH ROW EXECUTE FUNCTION write_audit({"'names'" if names_only else ""});
        """,
        f"DROP TRIGGER audited ON {table};",
    )


def for_app(sql: str) -> Operation:
    """Run `sql` with {app} replaced by the app role's quoted name.

    Raises ImproperlyConfigured where the app role is the owner or may become it: no grant or policy would bind it.
    """

    def run(apps: object, schema_editor: object) -> None:
        role = settings.DATABASES["default"]["USER"]
        connection = schema_editor.connection  # type: ignore[attr-defined]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_has_role(%s, current_user, 'MEMBER')", [role])
            if cursor.fetchone() == (True,):
                raise ImproperlyConfigured(f"DATABASE_URL's role, {role}, must not be the tables' owner or its member")
            cursor.execute(sql.format(app=connection.ops.quote_name(role)))

    return RunPython(run, RunPython.noop)
