"""Members: whose tenants a user may enter, and who may give whom which role.

Owners are made, changed and removed by owners alone, and every tenant keeps at least one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.http import HttpRequest

from accounts.bounds import make_room
from accounts.models import Member, Tenant, User
from accounts.tenancy import in_tenant, set_for_transaction
from accounts.tenants import user_of

CHOSEN = "tenant"  # in the session


class NotAllowed(Exception):
    """Only an owner may do this."""


class LastOwner(Exception):
    """A tenant keeps at least one owner."""


class AlreadyMember(Exception):
    """The user has a role in this tenant already."""


def memberships(user: Any) -> list[Member]:
    """The user's roles in all their tenants, oldest first, each with its tenant."""
    with transaction.atomic():
        set_for_transaction("app.user", user.pk)
        members = list(Member.objects.filter(user=user).order_by("created_at"))
    for member in members:
        with in_tenant(member.tenant_id):
            member.tenant = Tenant.objects.get(id=member.tenant_id)
    return members


def chosen(request: HttpRequest, members: list[Member]) -> Member | None:
    """The membership the user works under: the one they chose, else their first; None: they have none."""
    wanted = request.session.get(CHOSEN)
    return next((member for member in members if str(member.tenant_id) == wanted), members[0] if members else None)


def add(tenant_id: UUID, email: str, role: str, *, by_owner: bool) -> Member:
    """Raises NotAllowed, AlreadyMember, TooMany. A new user cannot log in until the operator sets a password."""
    _check_owner(role, by_owner)
    with in_tenant(tenant_id):
        make_room(Member.objects.all())
        user: User = user_of(email)
        try:
            with transaction.atomic():
                return Member.objects.create(tenant_id=tenant_id, user=user, role=role)
        except IntegrityError:
            raise AlreadyMember(f"{email} is a member already") from None


def change_role(member: Member, role: str, *, by_owner: bool) -> None:
    """Raises NotAllowed, LastOwner."""
    _check_owner(role, by_owner)
    with in_tenant(member.tenant_id):
        if role != Member.Role.OWNER:
            _keep_an_owner(member, by_owner)
        member.role = role
        member.save(update_fields=["role"])


def remove(member: Member, *, by_owner: bool) -> None:
    """Raises NotAllowed, LastOwner."""
    with in_tenant(member.tenant_id):
        _keep_an_owner(member, by_owner)
        member.delete()


def _check_owner(role: str, by_owner: bool) -> None:
    if role == Member.Role.OWNER and not by_owner:
        raise NotAllowed("only an owner makes, changes or removes owners")


def _keep_an_owner(member: Member, by_owner: bool) -> None:
    _check_owner(member.role, by_owner)
    owners = Member.objects.select_for_update().filter(role=Member.Role.OWNER).order_by("id")
    if [owner.pk for owner in owners] == [member.pk]:
        raise LastOwner("a tenant keeps at least one owner")
