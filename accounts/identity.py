"""What a tenant's server signs to say who its customer is: an HS256 JWT, read and written. Pure.

The header names the signing secret (`kid`); `aud` is the widget's public key, `sub` the tenant's
own id of the customer, and `exp` at most an hour after `iat`. Which secrets are live, and the row
the customer becomes, are left to `accounts.auth`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import jwt as pyjwt

ALGORITHM = "HS256"
LONGEST_LIFETIME = timedelta(hours=1)
LEEWAY = timedelta(seconds=30)  # between the tenant's clock and ours
MAX_JWT_CHARACTERS = 32 * 1024
MAX_ATTRIBUTES_BYTES = 16 * 1024
MAX_SUBJECT_CHARACTERS = 200
VISITOR_PREFIX = "visitor:"  # external ids of visitors; no tenant can sign one
LOCALE = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,3}")

# The first that fits; DecodeError is the parent of some, so it comes late.
CODES: tuple[tuple[type[Exception], str], ...] = (
    (pyjwt.InvalidAlgorithmError, "alg"),
    (pyjwt.ExpiredSignatureError, "expired"),
    (pyjwt.ImmatureSignatureError, "not_yet_valid"),
    (pyjwt.InvalidAudienceError, "audience"),
    (pyjwt.MissingRequiredClaimError, "missing_claim"),
    (pyjwt.exceptions.InvalidSubjectError, "subject"),
    (pyjwt.InvalidSignatureError, "signature"),
)


class IdentityRefused(Exception):
    """The caller is not let in. `code` is for our logs; the message is the same whatever was wrong."""

    def __init__(self, code: str) -> None:
        super().__init__("This identity was not accepted.")
        self.code = code


@dataclass(frozen=True, slots=True)
class Claims:
    """What the tenant's server vouches for."""

    external_id: str
    attributes: Mapping[str, Any]
    locale: str  # "": not said
    issued_at: datetime  # aware, as is the other
    expires_at: datetime


def read_identity(jwt: str, audience: str, find_secret: Callable[[str], bytes | None]) -> Claims:
    """The claims of a JWT that is signed, current and meant for this widget.

    `find_secret` gives the live secret of a `kid`, or None. Raises IdentityRefused.
    """
    payload = _verified(jwt, audience, find_secret)
    return Claims(_subject(payload), _attributes(payload), _locale(payload), *_lifetime(payload))


def write_identity(
    secret: bytes, kid: str, audience: str, external_id: str, attributes: Mapping[str, Any], lifetime: timedelta
) -> str:
    """What a tenant's own server would sign. Raises ValueError for a lifetime that would be refused."""
    if not timedelta(0) < lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"an identity lives for at most {LONGEST_LIFETIME}, not {lifetime}")
    now = datetime.now(UTC)
    payload = {"aud": audience, "sub": external_id, "iat": now, "exp": now + lifetime, "attributes": dict(attributes)}
    return pyjwt.encode(payload, secret, ALGORITHM, headers={"kid": kid})


def _verified(jwt: str, audience: str, find_secret: Callable[[str], bytes | None]) -> Mapping[str, Any]:
    if len(jwt) > MAX_JWT_CHARACTERS:
        _refuse("too_long")
    try:
        secret = find_secret(pyjwt.get_unverified_header(jwt).get("kid", ""))
        if secret is None:
            _refuse("kid")
        return pyjwt.decode(
            jwt,
            secret,
            algorithms=[ALGORITHM],
            audience=audience,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "aud"], "strict_aud": True},
        )
    except (pyjwt.PyJWTError, ValueError, RecursionError) as error:
        _refuse(next((code for kind, code in CODES if isinstance(error, kind)), "malformed"))


def _subject(payload: Mapping[str, Any]) -> str:
    """`sub`, or one of its aliases; where several are given they must agree."""
    given = [payload[name] for name in ("sub", "user_id", "external_id") if name in payload]
    if not given or any(value != given[0] for value in given):
        _refuse("subject")
    subject = given[0]
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT_CHARACTERS:
        _refuse("subject")
    if subject.startswith(VISITOR_PREFIX) or not subject.isprintable():
        _refuse("subject")
    return subject


def _attributes(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = payload.get("attributes", {})
    if not isinstance(attributes, dict) or len(json.dumps(attributes)) > MAX_ATTRIBUTES_BYTES:
        _refuse("attributes")
    return attributes


def _locale(payload: Mapping[str, Any]) -> str:
    locale = payload.get("locale", "")
    if not isinstance(locale, str) or (locale and not LOCALE.fullmatch(locale)):
        _refuse("locale")
    return locale


def _lifetime(payload: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """When it was issued and when it expires."""
    issued, expires = payload["iat"], payload["exp"]
    for moment in (issued, expires):
        if isinstance(moment, bool) or not isinstance(moment, int | float):
            _refuse("lifetime")
    try:
        if not 0 < expires - issued <= LONGEST_LIFETIME.total_seconds():
            _refuse("lifetime")
        return datetime.fromtimestamp(issued, UTC), datetime.fromtimestamp(expires, UTC)
    except OverflowError:  # a whole number that is greater than any float
        _refuse("lifetime")


def _refuse(code: str) -> NoReturn:
    raise IdentityRefused(code)
