"""Whoever calls is who they are proven to be: nobody becomes another customer, in any way we could think of."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import jwt as pyjwt
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import api_keys, auth
from accounts.api_keys import InvalidApiKey
from accounts.auth import UnknownWidget, WidgetDoor
from accounts.identity import IdentityRefused, read_identity, write_identity
from accounts.models import ApiKey, Customer, Widget, WidgetSecret
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant

SECRET = b"0123456789abcdef0123456789abcdef"
KID = "k1"
AUDIENCE = "wk_" + "a" * 22


def now() -> int:
    return int(datetime.now(UTC).timestamp())


def signed(secret=SECRET, kid=KID, alg="HS256", headers=None, **claims) -> str:
    """A JWT as a tenant's server would sign it, but for what is said; a claim of None is left out."""
    payload = {"aud": AUDIENCE, "sub": "alice-1", "iat": now(), "exp": now() + 600} | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    return pyjwt.encode(payload, secret, alg, headers={"kid": kid} if headers is None else headers)


def by_hand(header: dict, payload: dict, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def read(jwt: str):
    return read_identity(jwt, AUDIENCE, {KID: SECRET}.get)


# --- what a signed identity must be ---------------------------------------------------------


def test_a_signed_identity_is_read():
    claims = read(signed(attributes={"plan": "pro"}, locale="pt-BR"))
    assert (claims.external_id, claims.attributes, claims.locale) == ("alice-1", {"plan": "pro"}, "pt-BR")
    assert timedelta(seconds=590) < claims.expires_at - datetime.now(UTC) <= timedelta(seconds=600)


@pytest.mark.parametrize("alias", ["user_id", "external_id"])
def test_the_subject_may_go_by_other_names(alias):
    assert read(signed(sub=None, **{alias: "u-7"})).external_id == "u-7"
    assert read(signed(sub="u-7", **{alias: "u-7"})).external_id == "u-7"


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PAYLOAD = {"aud": AUDIENCE, "sub": "alice-1", "iat": now(), "exp": now() + 600}


def refused_cases():
    """Made when they are needed: most hang on the time of day."""
    return {
        "nothing": ("", "malformed"),
        "no jwt": ("hello", "malformed"),
        "half a surrogate": ("\ud800.a.b", "malformed"),
        "bottomless header": ("W" + base64.urlsafe_b64encode(b"[[" * 9000).decode() + ".e30.", "malformed"),
        "endless": ("a" * 40_000, "too_long"),
        "alg none": (by_hand({"alg": "none", "kid": KID}, PAYLOAD), "alg"),
        "alg None, spelt otherwise": (by_hand({"alg": "nOnE", "kid": KID}, PAYLOAD), "alg"),
        "alg a list": (by_hand({"alg": ["HS256"], "kid": KID}, PAYLOAD), "alg"),
        "no alg": (by_hand({"kid": KID}, PAYLOAD), "alg"),
        "no signature": (by_hand({"alg": "HS256", "kid": KID}, PAYLOAD), "signature"),
        "RS256": (signed(RSA, alg="RS256"), "alg"),
        "HS512 with the right secret": (signed(SECRET * 2, alg="HS512"), "alg"),
        "another secret": (signed(b"f" * 32), "signature"),
        "a key of its own in the header": (signed(b"f" * 32, headers={"kid": KID, "jwk": {"kty": "oct"}}), "signature"),
        "no kid": (signed(headers={}), "kid"),
        "an unknown kid": (signed(kid="k2"), "kid"),
        "a kid that is no text": (by_hand({"alg": "HS256", "kid": 1}, PAYLOAD), "malformed"),
        "unknown critical header": (signed(headers={"kid": KID, "crit": ["x"], "x": 1}), "malformed"),
        "another audience": (signed(aud="wk_" + "b" * 22), "audience"),
        "two audiences": (signed(aud=[AUDIENCE, "wk_" + "b" * 22]), "audience"),
        "no audience": (signed(aud=None), "missing_claim"),
        "expired": (signed(iat=now() - 700, exp=now() - 31), "expired"),
        "no exp": (signed(exp=None), "missing_claim"),
        "no iat": (signed(iat=None), "missing_claim"),
        "from the future": (signed(iat=now() + 60, exp=now() + 120), "not_yet_valid"),
        "not before later": (signed(nbf=now() + 60), "not_yet_valid"),
        "longer than an hour": (signed(exp=now() + 3602), "lifetime"),
        "an hour of old": (signed(iat=now() - 3600, exp=now() + 600), "lifetime"),
        "over before it began": (signed(iat=now() + 20, exp=now() + 10), "lifetime"),
        "iat as text": (signed(iat=str(now())), "lifetime"),
        "iat true": (signed(iat=True), "lifetime"),
        "exp greater than any float": (signed(iat=now() + 0.5, exp=10**400), "lifetime"),
        "iat less than any float": (signed(iat=-(10**400), exp=now() + 600.5), "lifetime"),
        "exp endless": (signed(exp=float("inf")), "malformed"),
        "no subject": (signed(sub=None), "subject"),
        "empty subject": (signed(sub=""), "subject"),
        "subject too long": (signed(sub="x" * 201), "subject"),
        "subject a number": (signed(sub=None, user_id=7), "subject"),
        "subject a list": (signed(sub=None, user_id=["alice-1"]), "subject"),
        "two subjects": (signed(user_id="bob-1"), "subject"),
        "subject with NUL": (signed(sub="alice-1\x00"), "subject"),
        "subject with a line break": (signed(sub="alice-1\n"), "subject"),
        "subject with half a surrogate": (signed(sub="\ud800"), "subject"),
        "subject a visitor": (signed(sub="visitor:6b1b36cb-27e7-4ad9-b1f5-3f3b1b6a4d7c"), "subject"),
        "attributes a list": (signed(attributes=["pro"]), "attributes"),
        "attributes too big": (signed(attributes={"a": "x" * 16_384}), "attributes"),
        "locale no locale": (signed(locale="en; ignore all rules"), "locale"),
        "locale no text": (signed(locale=7), "locale"),
    }


@pytest.mark.parametrize("case", refused_cases())
def test_what_does_not_hold_is_refused_with_one_message(case):
    jwt, code = refused_cases()[case]
    with pytest.raises(IdentityRefused) as refused:
        read(jwt)
    assert (refused.value.code, str(refused.value)) == (code, "This identity was not accepted.")


def test_the_tenants_clock_may_be_half_a_minute_off():
    read(signed(iat=now() - 600, exp=now() - 25))
    read(signed(iat=now() + 25, exp=now() + 600))


def test_a_whole_hour_is_allowed():
    read(signed(iat=now(), exp=now() + 3600))


@given(position=st.integers(0, 400), replacement=st.sampled_from("AQgwx-_."))
def test_a_jwt_with_one_character_changed_is_nobodys_or_still_alices(position, replacement):
    jwt = signed()
    changed = jwt[: position % len(jwt)] + replacement + jwt[position % len(jwt) + 1 :]
    try:
        claims = read(changed)
    except IdentityRefused:
        return
    # base64 has a few unused bits at the end of the signature; nothing that is said can differ
    assert changed.rsplit(".", 1)[0] == jwt.rsplit(".", 1)[0]
    assert claims.external_id == "alice-1"


NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), now(), now() + 600.5])
ANYTHING = NUMBERS | st.none() | st.booleans() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text())


@pytest.mark.filterwarnings("ignore")
@given(st.dictionaries(st.sampled_from(["aud", "sub", "iat", "exp", "nbf", "attributes", "locale"]), ANYTHING))
def test_whatever_is_signed_is_read_or_refused(claims):
    payload = {"aud": AUDIENCE, "sub": "alice-1", "iat": now(), "exp": now() + 600} | claims
    jwt = pyjwt.PyJWS().encode(json.dumps(payload).encode(), SECRET, "HS256", headers={"kid": KID})
    with suppress(IdentityRefused):
        assert read(jwt).issued_at < read(jwt).expires_at


@given(st.text(max_size=200))
def test_any_text_is_refused_quietly(text):
    with pytest.raises(IdentityRefused):
        read(text)


def test_an_identity_we_would_refuse_is_not_written():
    for lifetime in (timedelta(0), timedelta(hours=1, seconds=1)):
        with pytest.raises(ValueError, match="at most 1:00:00"):
            write_identity(SECRET, KID, AUDIENCE, "alice-1", {}, lifetime)


# --- where a widget may stand -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        ("https://shop.example", "https://shop.example", True),
        ("https://shop.example", "https://SHOP.example", True),
        ("https://shop.example", "https://shop.example:443", True),
        ("http://localhost:8000", "http://localhost:8000", True),
        ("http://[::1]:8000", "http://[::1]:8000", True),
        ("https://*.shop.example", "https://eu.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", "https://shop.example", False),
        ("https://*.shop.example", "https://evilshop.example", False),
        ("https://*.shop.example", "https://*.shop.example", False),
        ("https://shop.example", "http://shop.example", False),
        ("https://shop.example", "https://shop.example:8443", False),
        ("https://shop.example", "https://eu.shop.example", False),
        ("https://shop.example", "https://shop.example.evil.example", False),
        ("https://shop.example", "https://shop.example@evil.example", False),
        ("https://shop.example", "https://evil.example/https://shop.example", False),
        ("https://shop.example", "https://shop.example/", False),
        ("https://shop.example", "https://shop.example\n", False),
        ("https://shop.example", "https://shopXexample", False),
        ("https://shop.example", "null", False),
        ("https://shop.example", "", False),
        ("https://shop.example", None, False),
    ],
)
def test_a_widget_stands_on_its_tenants_pages_only(allowed, origin, may):
    door = WidgetDoor(None, None, AUDIENCE, ("https://other.example", allowed), "optional")
    assert auth.origin_allowed(door, origin) is may


def test_a_widget_without_origins_stands_nowhere():
    assert not auth.origin_allowed(WidgetDoor(None, None, AUDIENCE, (), "optional"), "https://shop.example")


# --- customers, from the door to the row --------------------------------------------------------


class Site:
    """A tenant's site: its widget, and the secret its server signs with."""

    def __init__(self, tenant_id, identity="optional"):
        self.tenant_id = tenant_id
        self.widget, self.kid, self.secret = auth.create_widget(tenant_id, ["https://shop.example"], identity)
        self.key = self.widget.public_key

    @property
    def door(self) -> WidgetDoor:
        return auth.find_widget(self.key)

    def sign(self, external_id: str, **claims) -> str:
        claims = {"aud": self.key, "secret": self.secret, "kid": self.kid} | claims
        return signed(sub=external_id, **claims)


@pytest.fixture
def alice(database) -> Site:
    return Site(create_tenant("Alice's shop", "alice", "alice@x.example").id)


@pytest.fixture
def charlie(database) -> Site:
    return Site(create_tenant("Charlie's", "charlie", "charlie@x.example").id)


def customer(site: Site, external_id: str) -> Customer:
    with in_tenant(site.tenant_id):
        return Customer.objects.get(external_id=external_id)


def refused(door: WidgetDoor, jwt: str | None) -> str:
    with pytest.raises(IdentityRefused) as error:
        auth.identify(door, jwt, None)
    return error.value.code


def test_a_widget_is_found_by_its_public_key(alice):
    assert alice.door == WidgetDoor(alice.tenant_id, alice.widget.id, alice.key, ("https://shop.example",), "optional")


@pytest.mark.parametrize("key", ["", "wk_" + "x" * 22, "wk_\x00", "x" * 10_000, "' OR true --", "wk_%"])
@pytest.mark.usefixtures("alice")
def test_an_unknown_widget_is_unknown(key):
    with pytest.raises(UnknownWidget):
        auth.find_widget(key)


def test_a_signed_customer_is_let_in_under_the_signed_name(alice):
    caller = auth.identify(alice.door, alice.sign("c-1", attributes={"plan": "pro"}, locale="de"), None)
    row = customer(alice, "c-1")
    assert (caller.tenant_id, caller.widget_id) == (alice.tenant_id, alice.widget.id)
    assert (caller.customer_id, caller.external_id, caller.verified, caller.visitor) == (row.id, "c-1", True, None)
    assert (row.attributes, row.locale, row.verified) == ({"plan": "pro"}, "de", True)
    assert timezone.now() < caller.expires_at <= timezone.now() + timedelta(minutes=10)


def test_signed_attributes_are_merged_and_the_rest_stays(alice):
    first = auth.identify(alice.door, alice.sign("c-1", attributes={"plan": "free", "city": "Graz"}, locale="de"), None)
    again = auth.identify(alice.door, alice.sign("c-1", attributes={"plan": "pro"}), None)
    assert again.customer_id == first.customer_id
    row = customer(alice, "c-1")
    assert (row.attributes, row.locale) == ({"plan": "pro", "city": "Graz"}, "de")


def test_what_was_signed_before_is_not_applied_again(alice):
    old = alice.sign("c-1", iat=now() - 60, attributes={"plan": "free"}, locale="de")
    new = alice.sign("c-1", iat=now() - 30, attributes={"plan": "pro"}, locale="fr")
    callers = [auth.identify(alice.door, jwt, None) for jwt in (old, new, old)]
    assert len({caller.customer_id for caller in callers}) == 1
    row = customer(alice, "c-1")
    assert (row.attributes, row.locale, row.verified) == ({"plan": "pro"}, "fr", True)


def test_verifying_writes_nothing(alice):
    auth.identify(alice.door, alice.sign("c-1", attributes={"plan": "free"}), None)
    with in_tenant(alice.tenant_id):
        Customer.objects.update(attributes={"plan": "changed by a member"})
        before = list(Customer.objects.values())
    for jwt in (alice.sign("c-1", attributes={"plan": "free"}), alice.sign("c-2"), None):
        auth.verify(alice.door, jwt, None)
    with in_tenant(alice.tenant_id):
        assert list(Customer.objects.values()) == before


def test_what_the_database_cannot_keep_is_refused_and_not_half_kept(alice):
    for attributes in ({"name": "a\x00b"}, {"name": "\ud800"}, {"n": float("nan")}):
        assert refused(alice.door, alice.sign("c-1", attributes=attributes)) == "unstorable"
    with in_tenant(alice.tenant_id):
        assert not Customer.objects.exists()


def test_customers_who_sign_in_at_once_share_one_row_and_lose_no_attribute(alice):
    jwts = [alice.sign("c-1", iat=now() - 1, attributes={f"a{n}": n}) for n in range(12)]

    def sign_in(jwt):
        try:
            return auth.identify(alice.door, jwt, None).customer_id
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(sign_in, jwts))) == 1
    assert customer(alice, "c-1").attributes == {f"a{n}": n for n in range(12)}


def test_names_that_look_alike_are_different_customers(alice):
    names = ["c-1", "C-1", " c-1", "c-1 ", "с-1", "c-1'", "c-1%", "c-_"]
    callers = [auth.identify(alice.door, alice.sign(name), None) for name in names]
    assert [caller.external_id for caller in callers] == names
    assert len({caller.customer_id for caller in callers}) == len(names)


def test_the_same_name_in_another_tenant_is_another_customer(alice, charlie):
    auth.identify(alice.door, alice.sign("c-1", attributes={"card": "4242"}), None)
    auth.identify(charlie.door, charlie.sign("c-1"), None)
    assert customer(alice, "c-1").id != customer(charlie, "c-1").id
    assert customer(charlie, "c-1").attributes == {}


def test_another_tenants_secret_opens_nothing_here(alice, charlie):
    mine = {"aud": alice.key}
    assert refused(alice.door, charlie.sign("c-1")) == "kid"
    assert refused(alice.door, charlie.sign("c-1", **mine)) == "kid"
    assert refused(alice.door, charlie.sign("c-1", **mine, kid=alice.kid)) == "signature"
    assert refused(alice.door, alice.sign("c-1", aud=charlie.key)) == "audience"


def test_another_widgets_secret_of_the_same_tenant_opens_nothing_here(alice):
    other = Site(alice.tenant_id)
    assert refused(alice.door, other.sign("c-1", aud=alice.key)) == "kid"
    assert refused(alice.door, other.sign("c-1", aud=alice.key, kid=alice.kid)) == "signature"
    assert refused(alice.door, alice.sign("c-1", aud=other.key)) == "audience"
    assert refused(other.door, alice.sign("c-1")) == "kid"


def test_two_widgets_whose_secrets_share_a_kid_are_not_confused(alice, charlie):
    with in_tenant(charlie.tenant_id):
        WidgetSecret.objects.update(kid=alice.kid)
    assert refused(alice.door, charlie.sign("c-1", aud=alice.key, kid=alice.kid)) == "signature"
    assert auth.identify(charlie.door, charlie.sign("c-1", kid=alice.kid), None).tenant_id == charlie.tenant_id


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_what_everybody_can_see_signs_nothing(alice):
    for not_secret in (alice.key, alice.kid, str(alice.widget.id), str(alice.tenant_id)):
        assert refused(alice.door, alice.sign("c-1", secret=not_secret)) == "signature"


def test_a_sealed_secret_nobody_can_open_lets_nobody_in(alice, settings):
    settings.SECRET_SEALING_KEYS = [Fernet.generate_key().decode()]
    assert refused(alice.door, alice.sign("c-1")) == "kid"


def test_secrets_are_sealed_at_rest(alice):
    with in_tenant(alice.tenant_id):
        assert alice.secret.encode() not in bytes(WidgetSecret.objects.get().sealed)


def test_two_secrets_are_live_and_the_third_ends_the_first(alice):
    jwt = alice.sign("c-1")
    second = auth.rotate_widget_secret(alice.widget)
    assert auth.identify(alice.door, jwt, None).external_id == "c-1"
    third = auth.rotate_widget_secret(alice.widget)
    assert refused(alice.door, jwt) == "kid"
    for kid, secret in (second, third):
        assert auth.identify(alice.door, alice.sign("c-1", kid=kid, secret=secret), None).external_id == "c-1"


def test_a_rotation_waits_for_the_one_before_it(alice):
    def rotate():
        try:
            auth.rotate_widget_secret(alice.widget)
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(1) as meanwhile:
        with in_tenant(alice.tenant_id):
            auth.rotate_widget_secret(alice.widget)
            second = meanwhile.submit(rotate)
            with suppress(TimeoutError):
                second.result(timeout=0.5)
        second.result()
    with in_tenant(alice.tenant_id):
        assert WidgetSecret.objects.filter(revoked_at=None).count() == 2


def test_an_identity_we_mint_is_accepted_and_signed_with_the_newest_secret(alice):
    kid, _ = auth.rotate_widget_secret(alice.widget)
    jwt = auth.mint_identity(alice.widget, "c-1", {"plan": "pro"}, timedelta(minutes=5))
    assert pyjwt.get_unverified_header(jwt)["kid"] == kid
    caller = auth.identify(alice.door, jwt, None)
    assert caller.external_id == "c-1"
    assert caller.expires_at <= timezone.now() + timedelta(minutes=5)


# --- visitors ---------------------------------------------------------------------------------


def test_a_visitor_comes_back_as_themselves(alice):
    first = auth.identify(alice.door, None, None)
    assert (first.verified, first.expires_at) == (False, None)
    assert first.external_id.startswith("visitor:")
    assert auth.identify(alice.door, None, first.visitor) == first
    assert not customer(alice, first.external_id).verified


def test_strangers_are_different_visitors(alice):
    assert auth.identify(alice.door, None, None).customer_id != auth.identify(alice.door, None, None).customer_id


def test_nobody_becomes_a_visitor_or_customer_without_their_secret(alice, charlie):
    auth.identify(alice.door, alice.sign("c-1"), None)
    victim = auth.identify(alice.door, None, None)
    visitor_id = victim.external_id.removeprefix("visitor:")
    other_widget = Site(alice.tenant_id)
    attempts = [
        visitor_id,
        victim.external_id,
        visitor_id + ":",
        victim.visitor[:-1],
        victim.visitor + "x",
        victim.visitor.upper(),
        "c-1:" + victim.visitor.split(":")[1],
        signing.Signer().sign(visitor_id),
        signing.Signer(salt=f"accounts.visitor:{charlie.widget.id}").sign(visitor_id),
        "\x00",
        "\ud800",
        "",
    ]
    callers = [auth.identify(alice.door, None, attempt) for attempt in attempts]
    callers += [auth.identify(site.door, None, victim.visitor) for site in (charlie, other_widget)]
    assert victim.customer_id not in {caller.customer_id for caller in callers}
    assert not any(caller.verified or caller.external_id == "c-1" for caller in callers)


def test_a_presented_identity_that_fails_is_not_passed_over_for_a_visitor(alice):
    visitor = auth.identify(alice.door, None, None).visitor
    for jwt in ("", "nonsense", alice.sign("c-1", secret="f" * 32)):
        with pytest.raises(IdentityRefused):
            auth.identify(alice.door, jwt, visitor)


def test_a_signed_customer_is_not_the_visitor_they_were(alice):
    visitor = auth.identify(alice.door, None, None)
    caller = auth.identify(alice.door, alice.sign("c-1"), visitor.visitor)
    assert (caller.external_id, caller.visitor) == ("c-1", None)
    assert caller.customer_id != visitor.customer_id


def test_where_identity_is_required_there_are_no_visitors(alice):
    visitor = auth.identify(alice.door, None, None).visitor
    door = replace(alice.door, identity="required")
    with pytest.raises(IdentityRefused, match=r"^This identity was not accepted\.$"):
        auth.identify(door, None, visitor)
    assert auth.identify(door, alice.sign("c-1"), None).verified


def test_where_identity_is_off_everybody_is_a_visitor(alice):
    door = replace(alice.door, identity="off")
    caller = auth.identify(door, alice.sign("c-1"), None)
    assert not caller.verified
    assert caller.external_id.startswith("visitor:")


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "*", "https://*.example", "ftp://shop.example"]
)
def test_a_widget_is_not_made_for_what_is_no_origin(alice, origin):
    with pytest.raises(ValueError, match=r"origin|domain"):
        auth.create_widget(alice.tenant_id, [origin])
    with pytest.raises(ValidationError, match=r"origin|domain"):  # what the admin page says
        Widget(tenant_id=alice.tenant_id, public_key=AUDIENCE, allowed_origins=[origin]).clean_fields(
            exclude=["tenant"]
        )


# --- programs -----------------------------------------------------------------------------------


def test_a_key_opens_its_own_tenant_with_its_scopes(alice):
    key, secret = api_keys.create_api_key(alice.tenant_id, "nightly", ["chat", "usage:read"])
    caller = api_keys.authenticate_api_key(secret)
    assert (caller.tenant_id, caller.key_id, caller.scopes) == (alice.tenant_id, key.id, {"chat", "usage:read"})


def test_only_a_hash_of_the_key_is_kept(alice):
    key, secret = api_keys.create_api_key(alice.tenant_id, "nightly", [])
    with in_tenant(alice.tenant_id):
        kept = ApiKey.objects.values().get()
    assert kept["secret_hash"] == sha256(secret.encode()).hexdigest()
    assert secret.removeprefix(key.prefix + "_") not in str(kept)
    assert len(secret) == len(key.prefix) + 1 + 43  # 256 random bits


def test_a_wrong_key_is_nobodys(alice, charlie):
    key, secret = api_keys.create_api_key(alice.tenant_id, "mine", [])
    other, other_secret = api_keys.create_api_key(charlie.tenant_id, "theirs", [])
    grafted = other_secret.replace(other.prefix, key.prefix)
    wrong_end = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in (
        "",
        key.prefix,
        secret + "A",
        wrong_end,
        grafted,
        secret.upper(),
        "\x00",
        "\ud800",
        f" {secret}",
        "ключ",
    ):
        with pytest.raises(InvalidApiKey, match=r"^this API key is not valid$"):
            api_keys.authenticate_api_key(wrong)


def test_an_expired_or_revoked_key_is_nobodys(alice):
    _, expired = api_keys.create_api_key(alice.tenant_id, "old", [], timezone.now() - timedelta(seconds=1))
    key, secret = api_keys.create_api_key(alice.tenant_id, "new", [], timezone.now() + timedelta(hours=1))
    assert api_keys.authenticate_api_key(secret).key_id == key.id
    api_keys.revoke_api_key(key)
    for dead in (expired, secret):
        with pytest.raises(InvalidApiKey):
            api_keys.authenticate_api_key(dead)


def test_a_keys_last_use_is_kept_to_the_minute(alice):
    key, secret = api_keys.create_api_key(alice.tenant_id, "busy", [])

    def last_used():
        with in_tenant(alice.tenant_id):
            return ApiKey.objects.get().last_used_at

    assert last_used() is None
    api_keys.authenticate_api_key(secret)
    first = last_used()
    api_keys.authenticate_api_key(secret)
    assert last_used() == first
    with in_tenant(alice.tenant_id):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=first - timedelta(seconds=61))
    api_keys.authenticate_api_key(secret)
    assert last_used() >= first


# --- what the documentation tells a tenant to do --------------------------------------------------

IDENTITY_PAGE = Path(__file__).parents[2] / "docs" / "identity.md"


def example(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", IDENTITY_PAGE.read_text(), re.DOTALL)[1]


@pytest.fixture
def tenants_server(alice, monkeypatch) -> Site:
    for name, value in (("PUBLIC_KEY", alice.key), ("KID", alice.kid), ("SECRET", alice.secret)):
        monkeypatch.setenv(f"WIDGET_{name}", value)
    return alice


def test_the_documented_python_is_let_in(tenants_server):
    names: dict = {}
    exec(example("python"), names)
    caller = auth.identify(tenants_server.door, names["widget_identity"]("c-1", {"plan": "pro"}), None)
    assert (caller.external_id, customer(tenants_server, "c-1").attributes) == ("c-1", {"plan": "pro"})


def test_the_documented_node_is_let_in(tenants_server):
    playwright = pytest.importorskip("playwright")
    node = Path(playwright.__file__).parent / "driver" / "node"
    script = example("js") + 'process.stdout.write(widgetIdentity("c-1", { name: "Zoë" }));'
    jwt = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout
    caller = auth.identify(tenants_server.door, jwt, None)
    assert (caller.external_id, customer(tenants_server, "c-1").attributes) == ("c-1", {"name": "Zoë"})


def test_the_documentation_names_every_reason_for_a_refusal():
    reasons = {code for _, code in refused_cases().values()} | {"required", "unstorable"}
    assert {f"`{reason}`" for reason in reasons} <= set(re.findall(r"`\w+`", IDENTITY_PAGE.read_text()))
