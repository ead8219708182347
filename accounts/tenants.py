"""Tenants as the operator sees them: opening one, and finding all of them.

What one tenant owns is reached through `accounts.tenancy.in_tenant`; what it pays, through
`accounts.ledger`.
"""

from __future__ import annotations

from uuid import UUID

from django.db import IntegrityError, connection
from uuid_utils.compat import uuid7

from accounts.models import Account, Member, Tenant, User
from accounts.tenancy import in_tenant


class SlugTaken(Exception):
    """Another tenant has this slug."""


class UnknownTenant(LookupError):
    """No tenant has this slug."""


def create_tenant(name: str, slug: str, owner_email: str) -> Tenant:
    """Open a tenant with an empty account and its owner, who is made a user if nobody has the address yet.

    A new user has no password and cannot log in until the operator sets one (`changepassword`);
    an existing user is left as they are. Raises SlugTaken.
    """
    tenant_id = uuid7()
    with in_tenant(tenant_id):
        try:
            tenant = Tenant.objects.create(id=tenant_id, name=name, slug=slug)
        except IntegrityError:
            raise SlugTaken(f"there is a tenant called {slug}") from None
        Account.objects.create(tenant=tenant)
        Member.objects.create(tenant=tenant, user=user_of(owner_email), role=Member.Role.OWNER)
        return tenant


def every_tenant() -> list[UUID]:
    """The ids of all tenants, oldest first: the one thing that is known of them from outside."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT every_tenant()")
        return [tenant_id for (tenant_id,) in cursor.fetchall()]


def find_tenant(slug: str) -> Tenant:
    """For the operator's commands, who know a tenant by its slug. Raises UnknownTenant."""
    for tenant_id in every_tenant():
        with in_tenant(tenant_id):
            tenant = Tenant.objects.filter(slug=slug).first()
        if tenant:
            return tenant
    raise UnknownTenant(f"no tenant is called {slug}")


def user_of(email: str) -> User:
    """Who has this address; a new user without a password, if nobody has."""
    address = User.objects.normalize_email(email)
    user = User.objects.filter(email__iexact=address).order_by("id").first()
    return user or User.objects.create_user(username=address, email=address, is_staff=True)
