"""Secrets that must be read again (signing secrets) are sealed at rest with a key that rotates.

`SECRET_SEALING_KEYS` holds Fernet keys, newest first: the first seals, all of them open.
Secrets that need only be recognised (API keys) are hashed instead, in `accounts.auth`.
"""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CannotOpen(Exception):
    """No key in SECRET_SEALING_KEYS opens this secret."""


def seal(secret: bytes) -> bytes:
    return _keys().encrypt(secret)


def unseal(sealed: bytes | memoryview) -> bytes:
    """Raises CannotOpen when the key that sealed it is no longer configured."""
    try:
        return _keys().decrypt(bytes(sealed))
    except InvalidToken:
        raise CannotOpen("the sealing key of this secret is not among SECRET_SEALING_KEYS") from None


def _keys() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.SECRET_SEALING_KEYS])
