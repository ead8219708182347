"""Sealed secrets survive a change of the sealing key, and only that."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet, InvalidToken

from accounts.sealing import CannotOpen, seal, unseal

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


def test_what_is_sealed_cannot_be_read_but_opens(settings):
    settings.SECRET_SEALING_KEYS = [NEW]
    sealed = seal(b"signing secret")
    assert b"signing secret" not in sealed
    assert unseal(sealed) == b"signing secret"
    assert unseal(memoryview(sealed)) == b"signing secret"  # as it comes from the database


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals(settings):
    settings.SECRET_SEALING_KEYS = [OLD]
    before = seal(b"secret")
    settings.SECRET_SEALING_KEYS = [NEW, OLD]
    assert unseal(before) == b"secret"
    after = seal(b"secret")
    assert Fernet(NEW).decrypt(after) == b"secret"
    with pytest.raises(InvalidToken):
        Fernet(OLD).decrypt(after)


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-1] + b"A=", lambda sealed: sealed[:20], lambda sealed: b""])
def test_a_damaged_secret_does_not_open(settings, damage):
    settings.SECRET_SEALING_KEYS = [NEW]
    with pytest.raises(CannotOpen):
        unseal(damage(seal(b"secret")))


def test_without_its_key_a_secret_does_not_open_and_does_not_leak(settings):
    settings.SECRET_SEALING_KEYS = [OLD]
    sealed = seal(b"secret")
    settings.SECRET_SEALING_KEYS = [OTHER, NEW]
    with pytest.raises(CannotOpen) as refused:
        unseal(sealed)
    assert not any(text in str(refused.value) for text in ("secret\n", OTHER, NEW, sealed.decode()))
    assert refused.value.__cause__ is None
