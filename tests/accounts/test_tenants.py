"""The operator opens tenants, fills their accounts and hands out widgets, and hears what is wrong."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from accounts import ledger
from accounts.auth import find_widget
from accounts.models import Account, Member, Tenant, User, WidgetSecret
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import SlugTaken, UnknownTenant, create_tenant, every_tenant, find_tenant
from tests.accounts.books import as_owner, funded, held_turn

pytestmark = pytest.mark.usefixtures("database")


def test_a_tenant_opens_with_an_empty_account_and_its_owner():
    tenant = create_tenant("Alice's shop", "alice", "Alice@Shop.example")
    with in_tenant(tenant.id):
        member = Member.objects.select_related("user").get()
        assert Account.objects.get().balance_micros == 0
    assert (member.role, member.user.email) == ("owner", "Alice@shop.example")
    assert not member.user.has_usable_password()
    assert member.user.is_staff
    assert not member.user.is_superuser


def test_one_person_may_own_two_tenants():
    tenants = [create_tenant(slug, slug, email) for slug, email in (("a", "alice@x.example"), ("b", "ALICE@x.example"))]
    assert User.objects.count() == 1
    assert every_tenant() == [tenant.id for tenant in tenants]


def test_a_slug_is_taken_once_though_the_other_tenant_cannot_be_seen():
    create_tenant("Alice's", "shop", "alice@x.example")
    with pytest.raises(SlugTaken):
        create_tenant("Charlie's", "shop", "charlie@x.example")
    assert User.objects.count() == 1
    assert len(every_tenant()) == 1


def test_the_operator_finds_a_tenant_by_its_slug():
    tenant = create_tenant("Alice's", "alice", "alice@x.example")
    create_tenant("Charlie's", "charlie", "charlie@x.example")
    assert find_tenant("alice").id == tenant.id
    with pytest.raises(UnknownTenant):
        find_tenant("nobody")


@pytest.mark.parametrize("zone", ["Europe/Berlni", "GMT+2", "europe/berlin", ""])
def test_a_time_zone_has_a_name_that_python_and_postgresql_know(zone):
    tenant = create_tenant("Alice's", "alice", "alice@x.example")
    with in_tenant(tenant.id):
        tenant.time_zone = zone
        with pytest.raises(ValidationError, match="time_zone"):
            tenant.full_clean()
    with pytest.raises(IntegrityError, match="no time zone"), in_tenant(tenant.id):
        Tenant.objects.update(time_zone=zone)
    with in_tenant(tenant.id):
        tenant.time_zone = "Europe/Berlin"
        tenant.full_clean()
        tenant.save()
    held_turn(funded(tenant.id, 10), 10)


WITHOUT_AUDIT = ("ALTER TABLE accounts_tenant DISABLE TRIGGER audited",)  # which is younger than these migrations
WITH_AUDIT = ("ALTER TABLE accounts_tenant ENABLE TRIGGER audited",)


@pytest.mark.parametrize("repair", [("0003_tariffs_and_double_entry", "FILL_IN"), ("0006_time_zones", "KNOWN")])
def test_migrations_put_a_tenant_without_a_true_time_zone_into_utc(repair):
    tenant = create_tenant("Alice's", "alice", "alice@x.example")
    funded(tenant.id, 10)
    name, step = repair
    before, after = (getattr(import_module("accounts.migrations.0006_time_zones"), sql) for sql in ("ANY", "KNOWN"))
    as_owner(f"SET LOCAL app.tenant = '{tenant.id}'", before, "UPDATE accounts_tenant SET time_zone = 'Europe/Berlni'")
    try:
        as_owner(*WITHOUT_AUDIT, getattr(import_module(f"accounts.migrations.{name}"), step), *WITH_AUDIT)
    finally:
        if step != "KNOWN":
            as_owner(after)
    with in_tenant(tenant.id):
        assert Tenant.objects.get().time_zone == "UTC"
    held_turn(tenant.id, 10)


def test_the_operators_commands_from_opening_to_a_widget(capsys):
    call_command("create_tenant", "Alice's shop", "alice", "alice@shop.example")
    call_command("top_up", "alice", "25.50", memo="invoice 17")
    tenant = find_tenant("alice")
    assert ledger.available(tenant.id) == Money.from_usd("25.50")
    call_command("create_widget", "alice", "https://shop.example", "--identity", "required")
    shown = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[-3:])
    door = find_widget(shown["public key"])
    assert (door.tenant_id, door.allowed_origins, door.identity) == (tenant.id, ("https://shop.example",), "required")
    call_command("rotate_widget_secret", shown["public key"])
    with in_tenant(tenant.id):
        assert WidgetSecret.objects.filter(revoked_at=None).count() == 2


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("create_tenant", "Again", "alice", "a@x.example"), "there is a tenant called alice"),
        (("create_tenant", "Bad", "no slug", "a@x.example"), "slug"),
        (("create_tenant", "Bad", "bad", "no address"), "email"),
        (("top_up", "nobody", "5"), "no tenant is called nobody"),
        (("top_up", "alice", "five"), "not an amount"),
        (("top_up", "alice", "Infinity"), "not an amount"),
        (("top_up", "alice", "0.0000001"), "more than six decimal places"),
        (("top_up", "alice", "0"), "adds nothing"),
        (("create_widget", "alice", "shop.example"), "is not an origin"),
        (("create_widget", "nobody", "https://shop.example"), "no tenant is called nobody"),
        (("rotate_widget_secret", "wk_unknown"), "no such widget"),
    ],
)
def test_a_mistaken_command_says_what_is_wrong(command, complaint):
    create_tenant("Alice's", "alice", "alice@x.example")
    with pytest.raises(CommandError, match=complaint):
        call_command(*command)
