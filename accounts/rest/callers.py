"""Who calls the REST API: a tenant's program with an API key, or a member who is logged in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated

from accounts.api_keys import ApiCaller, InvalidApiKey, in_tenant_of
from accounts.members import chosen, memberships
from accounts.models import Member
from accounts.tenancy import in_tenant


@dataclass(frozen=True, slots=True)
class ApiUser:
    """Whoever is let in, as far as the API is concerned."""

    tenant_id: UUID
    name: str  # for the record: "key:ID" or "user:ID"
    role: str | None  # None: a program
    scopes: frozenset[str] = frozenset()
    user: Any = None  # None: a program
    key: ApiCaller | None = None  # None: a member

    @property
    def is_owner(self) -> bool:
        return self.role == Member.Role.OWNER


def bearer(request: Any) -> str | None:
    """The secret that a program shows; None: it shows none."""
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None


@contextmanager
def in_tenant_of_caller(request: Any) -> Iterator[ApiUser]:
    """The transaction of whoever calls; a key is proven in the one that does the work.

    Raises AuthenticationFailed, NotAuthenticated.
    """
    if (secret := bearer(request)) is None:
        if not isinstance(request.auth, ApiUser):
            raise NotAuthenticated
        with in_tenant(request.auth.tenant_id):
            yield request.auth
        return
    try:
        with in_tenant_of(secret) as key:
            request.user = AnonymousUser()
            request.auth = ApiUser(key.tenant_id, f"key:{key.key_id}", None, key.scopes, key=key)
            yield request.auth
    except InvalidApiKey as error:
        raise AuthenticationFailed(str(error)) from None


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ck_...`: told to whoever shows nothing; a key that is shown is proven above."""

    def authenticate(self, request: Any) -> None:
        return None

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="api"'


class MemberAuthentication(SessionAuthentication):
    """The session of the admin pages, with its CSRF token. The tenant is the one that was chosen there."""

    def authenticate(self, request: Any) -> tuple[Any, ApiUser] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user, _ = found
        member = chosen(request, memberships(user))
        if member is None:
            raise AuthenticationFailed("the user is a member of no tenant")
        return user, ApiUser(member.tenant_id, f"user:{user.pk}", member.role, user=user)


class KeyScheme(OpenApiAuthenticationExtension):
    target_class = KeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key with the scopes that the resource asks for.",
        }


class MemberScheme(OpenApiAuthenticationExtension):
    target_class = MemberAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "With X-CSRFToken on writes."}
