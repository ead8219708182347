"""Who is calling: a widget's customer or visitor. A tenant's programs: `accounts.api_keys`.

The tenant is not known before the caller is, so a widget's key is looked up through a SQL function
that answers with ids alone; all else is read inside the tenant. Nobody becomes another customer: a
customer is who the tenant's server signed (`accounts.identity`), a visitor who we signed ourselves,
for one widget only.

What callers prove themselves with is made here too. A secret is given out once, by the function
that makes it, and kept sealed (`accounts.sealing`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.core import signing
from django.db import DataError, connection
from django.db.models import QuerySet
from django.utils import timezone

from accounts import origins
from accounts.identity import VISITOR_PREFIX, Claims, IdentityRefused, read_identity, write_identity
from accounts.models import Customer, Widget, WidgetSecret
from accounts.sealing import CannotOpen, seal, unseal
from accounts.tenancy import in_tenant

log = structlog.get_logger(__name__)

PUBLIC_KEY = re.compile(r"wk_[A-Za-z0-9_-]{22}")
LIVE_SECRETS = 2  # the newest signs, the one before still holds while the tenant's servers change over


class UnknownWidget(LookupError):
    """No widget has this public key."""


@dataclass(frozen=True, slots=True)
class WidgetDoor:
    """One widget, as far as a stranger in front of it is concerned."""

    tenant_id: UUID
    widget_id: UUID
    public_key: str
    allowed_origins: tuple[str, ...]
    identity: str  # one of Widget.Identity


@dataclass(frozen=True, slots=True)
class Proven:
    """Who somebody is proven to be, whether there is a row for them or not."""

    external_id: str
    claims: Claims | None  # None: a visitor
    visitor: str | None = None  # the secret by which this visitor returns; None: not a visitor
    is_new: bool = False  # a visitor we have just made up


@dataclass(frozen=True, slots=True)
class Caller:
    """A customer or visitor in front of one widget."""

    tenant_id: UUID
    widget_id: UUID
    customer_id: UUID
    external_id: str
    verified: bool  # False: a visitor nobody vouched for
    expires_at: datetime | None  # aware; whoever keeps the line open asks again then. None: a visitor's does not expire
    visitor: str | None  # the secret by which this visitor returns; None: not a visitor


# --- customers and visitors of a widget ---------------------------------------------------


def find_widget(public_key: str) -> WidgetDoor:
    """Raises UnknownWidget."""
    if not PUBLIC_KEY.fullmatch(public_key):
        raise UnknownWidget("there is no such widget")
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenant_id, id FROM find_widget(%s)", [public_key])
        found = cursor.fetchone()
    if found is None:
        raise UnknownWidget("there is no such widget")
    tenant_id, widget_id = found
    with in_tenant(tenant_id):
        widget = Widget.objects.filter(pk=widget_id).first()
    if widget is None:
        raise UnknownWidget("there is no such widget")
    return WidgetDoor(tenant_id, widget.id, widget.public_key, tuple(widget.allowed_origins), widget.identity)


def origin_allowed(door: WidgetDoor, origin: str | None) -> bool:
    """May the widget stand on this page? Without an Origin (None), which every browser sends: no."""
    return origin is not None and origins.is_allowed(origin, door.allowed_origins)


def verify(door: WidgetDoor, jwt: str | None, visitor: str | None) -> Proven:
    """Who stands at the door: the customer the tenant signed for, else a visitor, returning or new. Writes nothing.

    A JWT that is presented must hold; it is never passed over for a visitor, except where the
    widget knows visitors only. A visitor's secret that does not hold makes a new visitor.
    Raises IdentityRefused; why is logged, not told.
    """
    with _refusals_logged(door):
        if door.identity == Widget.Identity.OFF or (jwt is None and door.identity != Widget.Identity.REQUIRED):
            return _visitor(door, visitor)
        if jwt is None:
            raise IdentityRefused("required")
        with in_tenant(door.tenant_id):
            claims = read_identity(jwt, door.public_key, lambda kid: _secret(door, kid))
        return Proven(claims.external_id, claims)


def admit(door: WidgetDoor, proven: Proven) -> Caller:
    """Let them in, under a row of their own. Raises IdentityRefused where PostgreSQL cannot keep what was signed."""
    with _refusals_logged(door):
        try:
            customer = _row(door, proven)
        except (DataError, UnicodeEncodeError):  # NUL, half a surrogate pair, NaN
            raise IdentityRefused("unstorable") from None
    return Caller(
        door.tenant_id,
        door.widget_id,
        customer.id,
        customer.external_id,
        verified=proven.claims is not None,
        expires_at=proven.claims.expires_at if proven.claims else None,
        visitor=proven.visitor,
    )


def identify(door: WidgetDoor, jwt: str | None, visitor: str | None) -> Caller:
    """`verify` and `admit`. Raises IdentityRefused."""
    return admit(door, verify(door, jwt, visitor))


@contextmanager
def _refusals_logged(door: WidgetDoor) -> Iterator[None]:
    try:
        yield
    except IdentityRefused as refused:
        log.info("identity_refused", reason=refused.code, tenant_id=str(door.tenant_id), widget=door.public_key)
        raise


def _secret(door: WidgetDoor, kid: str) -> bytes | None:
    """The widget's own live secret of that name; None: it has no such, or nobody can open it."""
    for secret in _live_secrets(door.widget_id):
        if secret.kid == kid:
            try:
                return unseal(secret.sealed)
            except CannotOpen:
                log.error("widget_secret_cannot_be_opened", widget=door.public_key, kid=kid)
    return None


def _row(door: WidgetDoor, proven: Proven) -> Customer:
    with in_tenant(door.tenant_id):
        customer, _ = Customer.objects.select_for_update().get_or_create(
            tenant_id=door.tenant_id, external_id=proven.external_id
        )
        if proven.claims:
            _apply(proven.claims, customer)
        return customer


def _apply(claims: Claims, customer: Customer) -> None:
    """Bring the locked row up to what was signed; attributes that were not mentioned stay.

    What was signed before something that was applied already is passed over: tabs keep their JWT for a while.
    """
    if customer.signed_at and claims.issued_at < customer.signed_at:
        return
    customer.attributes = {**customer.attributes, **claims.attributes}
    customer.locale = claims.locale or customer.locale
    customer.verified, customer.signed_at = True, claims.issued_at
    customer.save(update_fields=["attributes", "locale", "verified", "signed_at"])


def _visitor(door: WidgetDoor, secret: str | None) -> Proven:
    signer = signing.Signer(salt=f"accounts.visitor:{door.widget_id}")
    try:
        visitor_id, is_new = signer.unsign(secret or ""), False
    except (signing.BadSignature, UnicodeEncodeError):
        visitor_id, is_new = str(uuid4()), True
    return Proven(VISITOR_PREFIX + visitor_id, None, signer.sign(visitor_id), is_new)


# --- widgets and their signing secrets -------------------------------------------------------


def create_widget(
    tenant_id: UUID, allowed_origins: Iterable[str], identity: str = Widget.Identity.OPTIONAL
) -> tuple[Widget, str, str]:
    """A widget and the `kid` and secret with which the tenant signs. Raises ValueError for a wrong origin."""
    allowed = list(allowed_origins)
    origins.check_allowed(allowed)
    with in_tenant(tenant_id):
        widget = Widget.objects.create(
            tenant_id=tenant_id,
            public_key=f"wk_{secrets.token_urlsafe(16)}",
            allowed_origins=allowed,
            identity=Widget.Identity(identity),
        )
        return widget, *rotate_widget_secret(widget)


def rotate_widget_secret(widget: Widget) -> tuple[str, str]:
    """A new `kid` and secret. Two are live at most, so the last one stays good and the one before it is revoked."""
    kid, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    with in_tenant(widget.tenant_id):
        Widget.objects.select_for_update().get(pk=widget.pk)  # rotations of one widget take turns
        WidgetSecret.objects.create(tenant_id=widget.tenant_id, widget=widget, kid=kid, sealed=seal(secret.encode()))
        kept = [row.pk for row in _live_secrets(widget.id)[:LIVE_SECRETS]]
        _live_secrets(widget.id).exclude(pk__in=kept).update(revoked_at=timezone.now())
    return kid, secret


def mint_identity(
    widget: Widget, external_id: str, attributes: Mapping[str, Any], lifetime: timedelta = timedelta(minutes=15)
) -> str:
    """A customer's JWT, signed with the widget's newest live secret as the tenant's own server would.

    Raises ValueError for a lifetime over an hour.
    """
    with in_tenant(widget.tenant_id):
        newest = _live_secrets(widget.id)[0]
    return write_identity(unseal(newest.sealed), newest.kid, widget.public_key, external_id, attributes, lifetime)


def _live_secrets(widget_id: UUID) -> QuerySet[WidgetSecret]:
    """Newest first."""
    return WidgetSecret.objects.filter(widget_id=widget_id, revoked_at=None).order_by("-created_at", "-id")
