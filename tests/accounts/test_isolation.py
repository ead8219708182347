"""No tenant sees another's rows, whatever the query: the database itself refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import ProgrammingError, connection, connections
from django.db.migrations.state import ProjectState
from uuid_utils.compat import uuid7

from accounts.checks import app_role_is_bound, refuse_unbound_role
from accounts.models import Customer, LedgerEntry, Tenant
from accounts.rls import for_app
from accounts.tenancy import in_tenant

pytestmark = pytest.mark.usefixtures("database")


def make_tenant(name: str):
    tenant_id = uuid7()
    with in_tenant(tenant_id):
        Tenant.objects.create(id=tenant_id, name=name, slug=name)
        Customer.objects.create(tenant_id=tenant_id, external_id="c1")
    return tenant_id


def test_the_tests_run_as_a_role_that_row_level_security_binds():
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False, False)
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tableowner = current_user")
        assert cursor.fetchone() == (0,)


def test_every_tenant_table_forces_its_policy():
    tables = {
        model._meta.db_table
        for app in ("accounts", "cascade")
        for model in apps.get_app_config(app).get_models()
        if model is Tenant or any(field.name == "tenant" for field in model._meta.fields)
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        forced = {name for (name,) in cursor.fetchall()}
    assert len(tables) > 15
    assert tables <= forced


def test_without_a_tenant_there_are_no_rows():
    make_tenant("alice")
    assert Customer.objects.count() == 0
    assert Tenant.objects.count() == 0


def test_a_tenant_sees_its_own_rows_alone():
    alice, _charlie = make_tenant("alice"), make_tenant("charlie")
    with in_tenant(alice):
        assert [customer.tenant_id for customer in Customer.objects.all()] == [alice]
        assert [tenant.name for tenant in Tenant.objects.all()] == ["alice"]


def test_a_row_of_another_tenant_cannot_be_written():
    alice, charlie = make_tenant("alice"), make_tenant("charlie")
    with pytest.raises(ProgrammingError, match="row-level security"), in_tenant(alice):
        Customer.objects.create(tenant_id=charlie, external_id="smuggled")


def test_the_tenant_is_forgotten_with_the_transaction():
    alice = make_tenant("alice")
    with in_tenant(alice):
        assert Customer.objects.count() == 1
    assert Customer.objects.count() == 0


def test_one_tenants_transaction_never_turns_into_anothers():
    alice, charlie = make_tenant("alice"), make_tenant("charlie")
    with in_tenant(alice), pytest.raises(RuntimeError, match="another tenant"), in_tenant(charlie):
        pass


def test_a_ledger_entry_cannot_be_changed_or_deleted():
    alice = make_tenant("alice")
    with in_tenant(alice):
        entry = LedgerEntry.objects.create(
            tenant_id=alice, kind="top_up", period="2026-11-01", received_micros=5, amount_micros=5
        )
    for change in (lambda: LedgerEntry.objects.update(amount_micros=6), lambda: entry.delete()):
        with pytest.raises(ProgrammingError, match="permission denied"), in_tenant(alice):
            change()


# --- the role itself --------------------------------------------------------------------------


def test_a_role_that_owns_nothing_is_let_serve():
    assert app_role_is_bound(None, ["default"]) == []
    refuse_unbound_role()


def test_an_owner_of_tables_is_not_let_serve():
    serve = "import django; django.setup(); from accounts import checks; checks.refuse_unbound_role()"
    owner = os.environ["DATABASE_OWNER_URL"]
    for command in (["manage.py", "check", "--database", "default"], ["-c", serve]):
        environment = {**os.environ, "DATABASE_URL": owner, "DJANGO_SETTINGS_MODULE": "chatbackend.settings"}
        run = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        assert run.returncode != 0
        assert "whom row-level security does not bind" in run.stderr


def test_migrations_grant_nothing_to_the_owner_itself(monkeypatch):
    owner = connections["owner"].settings_dict["USER"]
    grant, state = for_app("GRANT SELECT ON accounts_tenant TO {app}"), ProjectState.from_apps(apps)
    with connections["owner"].schema_editor() as editor:
        grant.database_forwards("accounts", editor, state, state)
    monkeypatch.setitem(settings.DATABASES["default"], "USER", owner)
    with pytest.raises(ImproperlyConfigured, match=owner), connections["owner"].schema_editor() as editor:
        grant.database_forwards("accounts", editor, state, state)
