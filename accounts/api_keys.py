"""A tenant's programs: API keys, each with a secret that is given out once and kept hashed.

The tenant is not known before the key is, so a key's prefix is looked up through a SQL function that answers with ids
alone; what the key may do is read inside the tenant.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

from django.db import connection
from django.utils import timezone

from accounts.bounds import make_room
from accounts.models import ApiKey
from accounts.tenancy import in_tenant

API_KEY = re.compile(r"(?P<prefix>ck_[0-9a-f]{12})_[A-Za-z0-9_-]{43}")
LAST_USED_EVERY = timedelta(minutes=1)
FIND = "SELECT tenant_id, id FROM find_api_key(%s)"  # migration 0002
ENTER = "SELECT secret_hash, scopes, noted FROM enter_by_key(%s, %s, %s)"  # migration 0013


class InvalidApiKey(Exception):
    """Unknown, wrong, expired or revoked; which of these is not said."""


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """A tenant's program."""

    tenant_id: UUID
    key_id: UUID
    scopes: frozenset[str]
    noted: bool = True  # its `last_used_at` is of this minute


def authenticate_api_key(secret: str) -> ApiCaller:
    """Whose program this is; that it was used is noted. Raises InvalidApiKey."""
    with in_tenant_of(secret) as caller:
        pass
    note_use(caller)
    return caller


@contextmanager
def in_tenant_of(secret: str) -> Iterator[ApiCaller]:
    """`in_tenant`, for the program of this API key, as the row of the key says now. Raises InvalidApiKey."""
    tenant_id, key_id = _located(secret)
    with in_tenant(tenant_id, ENTER, tenant_id, key_id, timezone.now() - LAST_USED_EVERY) as found:
        if found is None or not hmac.compare_digest(found[0], _hash(secret)):
            raise InvalidApiKey("this API key is not valid")
        _, scopes, noted = found
        yield ApiCaller(tenant_id, key_id, frozenset(scopes), noted)


def note_use(caller: ApiCaller) -> None:
    """`last_used_at`, to the minute: whatever becomes of the request, so in a transaction of its own."""
    if not caller.noted:
        with in_tenant(caller.tenant_id):
            ApiKey.objects.filter(pk=caller.key_id).update(last_used_at=timezone.now())


def _located(secret: str) -> tuple[UUID, UUID]:
    """Tenant and key that it claims to be of; nothing is proven yet. Raises InvalidApiKey: there is no such key."""
    match = API_KEY.fullmatch(secret)
    if not match:
        raise InvalidApiKey("this API key is not valid")
    return _key_of(match["prefix"])


@lru_cache(maxsize=10_000)
def _key_of(prefix: str) -> tuple[UUID, UUID]:
    """A prefix is one key's for ever, so what was found once is not looked up again. Raises InvalidApiKey."""
    with connection.cursor() as cursor:
        cursor.execute(FIND, [prefix])
        found: tuple[UUID, UUID] | None = cursor.fetchone()
    if not found:
        raise InvalidApiKey("this API key is not valid")
    return found


def create_api_key(
    tenant_id: UUID, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """An API key and its secret, which cannot be shown again. Without `expires_at` it does not expire.

    Raises TooMany.
    """
    prefix = f"ck_{secrets.token_hex(6)}"
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    with in_tenant(tenant_id):
        make_room(ApiKey.objects.filter(revoked_at=None), "API keys that are not revoked")
        key = ApiKey.objects.create(
            tenant_id=tenant_id,
            name=name,
            prefix=prefix,
            secret_hash=_hash(secret),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
        )
    return key, secret


def revoke_api_key(key: ApiKey) -> None:
    """From now on the key is nobody's. A key that is revoked already keeps its date."""
    with in_tenant(key.tenant_id):
        ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def _hash(secret: str) -> str:
    """SHA-256, in hexadecimal.

    A slow hash defends passwords, which can be guessed; a secret of 256 random bits cannot, and a
    fast hash keeps every request fast.
    """
    return sha256(secret.encode()).hexdigest()
