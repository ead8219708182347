"""Who calls the REST API: a tenant's program with an API key, or a member who is logged in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed

from accounts.auth import ApiCaller, InvalidApiKey, locate_api_key, prove_api_key
from accounts.members import chosen, memberships
from accounts.models import Member


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


def claimed_tenant(request: Any) -> UUID | None:
    """In whose transaction the key that is shown can be proven; None: none is shown, or there is no such."""
    with suppress(InvalidApiKey):
        if (secret := bearer(request)) is not None:
            return locate_api_key(secret)[0]
    return None


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ck_...`"""

    def authenticate(self, request: Any) -> tuple[Any, ApiUser] | None:
        if (secret := bearer(request)) is None:
            return None
        try:
            key = prove_api_key(secret)
        except InvalidApiKey as error:
            raise AuthenticationFailed(str(error)) from None
        return AnonymousUser(), ApiUser(key.tenant_id, f"key:{key.key_id}", None, key.scopes, key=key)

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
