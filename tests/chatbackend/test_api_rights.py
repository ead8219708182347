"""Every route, method and role of the REST API: what the table below does not allow is denied, and what is another
tenant's is found as little, and by the same queries, as what does not exist."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from uuid_utils.compat import uuid7

from accounts import export_jobs, webhooks
from accounts import models as accounts
from accounts.api_keys import create_api_key
from accounts.audit import by
from accounts.exports import Selection
from accounts.permissions import RIGHTS, SCOPES
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from cascade import models as cascade
from cascade import uploads
from tests.api_cast import Program, member, send
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import converse

pytestmark = pytest.mark.usefixtures("database")
ALL, LEAD = {"owner", "admin", "analyst", "support"}, {"owner", "admin"}
BOOKS, DESK, NONE = LEAD | {"analyst"}, LEAD | {"support"}, set()
# Route: (whose id stands in it, {method: (roles, scope)}).
TABLE: dict[str, tuple[type | None, dict[str, tuple[set[str], str]]]] = {
    "tenant": (None, {"GET": (ALL, "tenant:read"), "PATCH": (LEAD, "tenant:write")}),
    "members": (None, {"GET": (BOOKS, "members:read"), "POST": (LEAD, "members:write")}),
    "members/<pk>": (
        accounts.Member,
        {"GET": (BOOKS, "members:read"), "PATCH": (LEAD, "members:write"), "DELETE": (LEAD, "members:write")},
    ),
    "api-keys": (None, {"GET": (LEAD, "keys:read"), "POST": (LEAD, "keys:write")}),
    "api-keys/<pk>": (accounts.ApiKey, {"GET": (LEAD, "keys:read")}),
    "api-keys/<pk>/rotate": (accounts.ApiKey, {"POST": (LEAD, "keys:write")}),
    "api-keys/<pk>/revoke": (accounts.ApiKey, {"POST": (LEAD, "keys:write")}),
    "customers": (None, {"GET": (ALL, "customers:read"), "POST": (LEAD, "customers:write")}),
    "customers/bulk": (None, {"POST": (LEAD, "customers:write")}),
    "customers/<pk>": (
        accounts.Customer,
        {"GET": (ALL, "customers:read"), "PATCH": (LEAD, "customers:write"), "DELETE": (LEAD, "customers:write")},
    ),
    "customers/<pk>/personal-data": (accounts.Customer, {"GET": (ALL, "customers:read")}),
    "customers/<customer_pk>/records": (
        accounts.Customer,
        {"GET": (ALL, "customers:read"), "POST": (LEAD, "customers:write")},
    ),
    "customers/<customer_pk>/records/<pk>": (
        accounts.CustomerRecord,
        {"GET": (ALL, "customers:read"), "DELETE": (LEAD, "customers:write")},
    ),
    "budgets": (None, {"GET": (BOOKS, "books:read"), "POST": (LEAD, "books:write")}),
    "budgets/<pk>": (
        accounts.Budget,
        {"GET": (BOOKS, "books:read"), "PATCH": (LEAD, "books:write"), "DELETE": (LEAD, "books:write")},
    ),
    "budgets/<pk>/spending": (accounts.Budget, {"GET": (BOOKS, "books:read")}),
    "tariffs": (None, {"GET": (BOOKS, "books:read")}),
    "tariffs/<pk>": (accounts.Tariff, {"GET": (BOOKS, "books:read")}),
    "ledger": (None, {"GET": (BOOKS, "books:read")}),
    "ledger/<pk>": (accounts.LedgerEntry, {"GET": (BOOKS, "books:read")}),
    "usage": (None, {"GET": (BOOKS, "books:read")}),
    "statements": (None, {"GET": (BOOKS, "books:read"), "POST": (LEAD, "books:write")}),
    "exports": (None, {"GET": (BOOKS, "books:read"), "POST": (LEAD, "books:write")}),
    "exports/<pk>": (accounts.Export, {"GET": (BOOKS, "books:read")}),
    "exports/<pk>/file": (accounts.Export, {"GET": (BOOKS, "books:read")}),
    "statements/<month>": (None, {"GET": (BOOKS, "books:read")}),
    "webhooks": (None, {"GET": (LEAD, "webhooks:read"), "POST": (LEAD, "webhooks:write")}),
    "webhooks/<pk>": (
        accounts.Webhook,
        {"GET": (LEAD, "webhooks:read"), "PATCH": (LEAD, "webhooks:write"), "DELETE": (LEAD, "webhooks:write")},
    ),
    "webhooks/<pk>/rotate": (accounts.Webhook, {"POST": (LEAD, "webhooks:write")}),
    "deliveries": (None, {"GET": (LEAD, "webhooks:read")}),
    "deliveries/<pk>": (accounts.Delivery, {"GET": (LEAD, "webhooks:read")}),
    "deliveries/<pk>/replay": (accounts.Delivery, {"POST": (LEAD, "webhooks:write")}),
    "audit-log": (None, {"GET": (LEAD, "audit:read")}),
    "audit-log/<pk>": (accounts.AuditEntry, {"GET": (LEAD, "audit:read")}),
    "chatbots": (None, {"GET": (ALL, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "chatbots/<pk>": (cascade.Chatbot, {"GET": (ALL, "chatbots:read"), "PATCH": (LEAD, "chatbots:write")}),
    "chatbots/<pk>/widget": (cascade.Chatbot, {"PATCH": (LEAD, "chatbots:write")}),
    "chatbots/<pk>/widget/rotate": (cascade.Chatbot, {"POST": (LEAD, "chatbots:write")}),
    "chatbots/<pk>/index": (cascade.Chatbot, {"GET": (ALL, "chatbots:read")}),
    "chatbots/<pk>/record-source": (
        cascade.Chatbot,
        {"POST": (LEAD, "chatbots:write"), "DELETE": (LEAD, "chatbots:write")},
    ),
    "chatbots/<pk>/roll-back": (cascade.Chatbot, {"POST": (LEAD, "chatbots:write")}),
    "articles": (None, {"GET": (ALL, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "articles/<pk>": (
        cascade.Article,
        {"GET": (ALL, "chatbots:read"), "PATCH": (LEAD, "chatbots:write"), "DELETE": (LEAD, "chatbots:write")},
    ),
    "articles/<pk>/passages": (cascade.Article, {"GET": (ALL, "chatbots:read")}),
    "uploads": (None, {"GET": (ALL, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "uploads/<pk>": (cascade.Upload, {"GET": (ALL, "chatbots:read")}),
    "gaps": (None, {"GET": (ALL, "conversations:read")}),
    "saved-replies": (None, {"GET": (ALL, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "saved-replies/<pk>": (
        cascade.SavedReply,
        {"GET": (ALL, "chatbots:read"), "PATCH": (LEAD, "chatbots:write"), "DELETE": (LEAD, "chatbots:write")},
    ),
    "remembered-answers": (None, {"GET": (ALL, "conversations:read")}),
    "remembered-answers/forget": (None, {"POST": (LEAD, "conversations:write")}),
    "remembered-answers/<pk>": (
        cascade.RememberedAnswer,
        {
            "GET": (ALL, "conversations:read"),
            "PATCH": (LEAD, "conversations:write"),
            "DELETE": (LEAD, "conversations:write"),
        },
    ),
    "remembered-answers/<pk>/uses": (cascade.RememberedAnswer, {"GET": (ALL, "conversations:read")}),
    "strategies": (None, {"GET": (BOOKS, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "strategies/<pk>": (cascade.CascadeStrategy, {"GET": (BOOKS, "chatbots:read")}),
    "strategies/<pk>/promote": (cascade.CascadeStrategy, {"POST": (LEAD, "chatbots:write")}),
    "strategies/<pk>/replay": (cascade.CascadeStrategy, {"GET": (BOOKS, "chatbots:read")}),
    "proposals": (None, {"GET": (BOOKS, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "proposals/<pk>": (cascade.Proposal, {"GET": (BOOKS, "chatbots:read")}),
    "shadow-trials": (None, {"GET": (BOOKS, "chatbots:read"), "POST": (LEAD, "chatbots:write")}),
    "shadow-trials/<pk>": (cascade.ShadowTrial, {"GET": (BOOKS, "chatbots:read")}),
    "shadow-trials/<pk>/so-far": (cascade.ShadowTrial, {"GET": (BOOKS, "chatbots:read")}),
    "shadow-trials/<pk>/stop": (cascade.ShadowTrial, {"POST": (LEAD, "chatbots:write")}),
    "drift-readings": (None, {"GET": (BOOKS, "chatbots:read")}),
    "drift-readings/<pk>": (cascade.DriftReading, {"GET": (BOOKS, "chatbots:read")}),
    "models": (None, {"GET": (BOOKS, "chatbots:read")}),
    "prices": (None, {"GET": (BOOKS, "chatbots:read")}),
    "conversations": (None, {"GET": (ALL, "conversations:read")}),
    "conversations/<pk>": (cascade.Conversation, {"GET": (ALL, "conversations:read")}),
    "conversations/<pk>/messages": (cascade.Conversation, {"GET": (ALL, "conversations:read")}),
    "conversations/<pk>/reply": (cascade.Conversation, {"POST": (DESK, "conversations:write")}),
    "conversations/<pk>/hand-over": (cascade.Conversation, {"POST": (DESK, "conversations:write")}),
    "conversations/<pk>/give-back": (cascade.Conversation, {"POST": (DESK, "conversations:write")}),
    "conversations/<pk>/close": (cascade.Conversation, {"POST": (DESK, "conversations:write")}),
    "turns": (None, {"GET": (ALL, "conversations:read")}),
    "turns/<pk>": (cascade.Turn, {"GET": (ALL, "conversations:read")}),
    "model-calls": (None, {"GET": (ALL, "conversations:read")}),
    "model-calls/<pk>": (cascade.ModelCall, {"GET": (ALL, "conversations:read")}),
    "feedback": (None, {"GET": (ALL, "conversations:read")}),
    "feedback/<pk>": (cascade.Feedback, {"GET": (ALL, "conversations:read")}),
    "scorer-versions": (None, {"GET": (BOOKS, "scorer:read"), "POST": (LEAD, "scorer:write")}),
    "scorer-versions/training": (None, {"GET": (BOOKS, "scorer:read")}),
    "scorer-versions/<pk>": (cascade.ScorerVersion, {"GET": (BOOKS, "scorer:read")}),
    "scorer-versions/<pk>/shadow": (cascade.ScorerVersion, {"POST": (LEAD, "scorer:write")}),
    "scorer-versions/<pk>/shadow-scores": (cascade.ScorerVersion, {"GET": (BOOKS, "scorer:read")}),
    "scorer-calibrations": (None, {"GET": (BOOKS, "scorer:read")}),
    "scorer-calibrations/<pk>": (cascade.ScorerCalibration, {"GET": (BOOKS, "scorer:read")}),
    "scorer-versions/<pk>/promote": (cascade.ScorerVersion, {"POST": (LEAD, "scorer:write")}),
    "scorer-versions/roll-back": (None, {"POST": (LEAD, "scorer:write")}),
}
BODIES: dict[str, Any] = {
    "conversations/<pk>/reply": {"text": "Hello"},
    "chatbots/<pk>/record-source": {"url": "https://a.example/records"},
    "customers/<customer_pk>/records": {
        "type": "order", "external_id": "1", "as_of": "2026-11-01T00:00:00Z", "data": {},
    },
}  # fmt: skip
METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
# What is deleted, last; and before what it belongs to.
CASES = [(route, method) for method in METHODS for route in sorted(TABLE, key=len, reverse=True)]


def routes() -> dict[str, set[str]]:
    """What the application serves below /api/v1/: route and methods."""
    found: dict[str, set[str]] = {}

    def walk(patterns: list[Any], prefix: str) -> None:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, path)
            elif path.startswith("api/v1/") and (actions := getattr(pattern.callback, "actions", None)):
                route = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", path.removeprefix("api/v1/"))
                found.setdefault(route, set()).update(method.upper() for method in actions if method != "head")

    walk(get_resolver().url_patterns, "")
    return found


def test_every_route_and_method_stands_in_the_table_and_no_other():
    assert routes() == {route: set(methods) for route, (_, methods) in TABLE.items()}


@pytest.fixture
def shop() -> Shop:
    """Alice's: something behind every route."""
    shop = open_shop("alice", "http://127.0.0.1:9/v1")
    converse(shop, "c1")
    create_api_key(shop.tenant_id, "other", ["chat"])
    export_jobs.request(shop.tenant_id, Selection(date(2026, 11, 1), date(2026, 11, 1)), "csv", "user:1")
    webhooks.create(shop.tenant_id, "https://a.example/hook", ["statement.closed"])
    with in_tenant(shop.tenant_id):
        webhooks.tell(shop.tenant_id, "statement.closed", {"number": 1})
    with in_tenant(shop.tenant_id):
        by("user:1")
        accounts.Budget.objects.create(tenant_id=shop.tenant_id, scope="tenant", period="day", limit_micros=1)
        uploads.take(cascade.Chatbot.objects.get(), "returns.md", b"# Returns")
        cascade.SavedReply.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, name="hours", text="9-5"
        )
    set_tariff(shop.tenant_id, margin=Decimal("0.1"))
    return shop


@pytest.fixture
def charlie() -> Shop:
    return open_shop("charlie", "http://127.0.0.1:9/v1")


def address(route: str, own: Shop, of: type | None = None, row: UUID | None = None) -> str:
    """Of `row`; None: of a row of `own`'s."""
    with in_tenant(own.tenant_id):
        if of and row is None:
            row = of.objects.latest("created_at").pk
        customer = row
        if "/records/<pk>" in route:
            customer = accounts.Customer.objects.latest("created_at").pk
    told = route.replace("<customer_pk>", str(customer)).replace("<pk>", str(row)).replace("<month>", "2026-11")
    return f"/{told}"


@pytest.mark.parametrize("role", ["owner", "admin", "analyst", "support"])
def test_a_role_may_do_what_the_table_allows_and_nothing_else(shop, role):
    client = member(shop, role)
    member(shop, "support")  # the newest, whom the route of a member names
    for route, method in CASES:
        of, methods = TABLE[route]
        if method not in methods:
            continue
        answer = send(client, method, address(route, shop, of), BODIES.get(route, {}))
        if role in methods[method][0]:
            assert answer.status_code not in (401, 403, 404, 405, 500), (route, method, answer.content)
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (route, method)


def test_a_method_that_is_not_in_the_table_is_not_offered(shop):
    owner = member(shop, "owner")
    for route, method in CASES:
        if method not in TABLE[route][1]:
            answer = send(owner, method, address(route, shop, None, uuid7()), {})
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), (route, method)


def test_a_key_needs_the_very_scope_of_the_route(shop):
    every, one = Program(shop), {scope: Program(shop, [scope]) for scope in SCOPES}
    all_but = {scope: Program(shop, set(SCOPES) - {scope}) for scope in SCOPES}
    for route, (of, methods) in TABLE.items():
        for method, (_, scope) in methods.items():
            path, body = address(route, shop, of), BODIES.get(route, {})
            assert all_but[scope].send(method, path, body).status_code == 403, (route, method)
            if method == "GET" and route != "customers/<pk>/personal-data":
                answers = {each.send(method, path, body).status_code for each in (one[scope], every)}
                assert answers == {409 if route == "exports/<pk>/file" else 200}, (route, method)  # it is not written


def test_what_a_customer_said_needs_the_scope_for_conversations_too(shop):
    path = address("customers/<pk>/personal-data", shop, accounts.Customer)
    told = {scopes: Program(shop, scopes).get(path).status_code for scopes in (
        ("customers:read",), ("conversations:read",), ("customers:read", "conversations:read")
    )}  # fmt: skip
    assert list(told.values()) == [403, 403, 200]


@pytest.mark.parametrize("role", ["owner", "admin", "analyst", "support"])
def test_what_is_another_tenants_is_not_there_by_the_very_same_queries(shop, charlie, role):
    converse(charlie, "c2")
    client = member(charlie, role)
    walked = 0
    for route, method in CASES:
        of, methods = TABLE[route]
        if of is None or method not in methods:
            continue
        told: list[tuple[int, bytes, list[str]]] = []
        with in_tenant(shop.tenant_id):
            foreign = of.objects.latest("created_at").pk
        for row in (foreign, uuid7()):
            path, body = address(route, charlie, of, row), BODIES.get(route, {})
            with CaptureQueriesContext(connection) as asked:
                answer = send(client, method, path, body)
            shapes = [re.sub(r"'[^']*'|\d+", "?", query["sql"]) for query in asked]
            told.append((answer.status_code, answer.content, shapes))
        assert told[0] == told[1], (route, method)
        assert told[0][0] == (404 if role in methods[method][0] else 403), (route, method, told[0][1])
        walked += 1
    assert walked > 30


def test_no_list_shows_a_row_of_another_tenant(shop, charlie):
    program = Program(charlie)
    for route, (of, methods) in TABLE.items():
        if of is None and "GET" in methods:
            answer = program.get(address(route, charlie))
            assert str(shop.tenant_id) not in answer.content.decode(), route
            with in_tenant(shop.tenant_id):
                ids = {str(row.pk) for model in {of for of, _ in TABLE.values() if of} for row in model.objects.all()}
            assert not any(row in answer.content.decode() for row in ids), route


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/articles", {"slug": "a", "title": "A", "body": "b"}),
        ("/saved-replies", {"name": "a", "text": "A"}),
        ("/proposals", {}),
        ("/remembered-answers/forget", {}),
        (
            "/strategies",
            {
                "deadline_seconds": 9,
                "tiers": [{"model": "small", "threshold": 0.5, "deadline_seconds": 9, "max_output_tokens": 9}],
            },
        ),
    ],
)
def test_a_body_that_names_another_tenants_row_names_nothing(shop, charlie, path, body):
    program = Program(charlie)
    told = [program.post(path, body | {"chatbot": str(row)}) for row in (shop.chatbot_id, uuid7())]
    assert [answer.status_code for answer in told] == [404, 404]
    assert told[0].json() == told[1].json()
    assert told[0].json()["errors"] == [{"pointer": "/chatbot", "detail": "there is no such chatbot"}]


def test_a_stranger_is_told_nothing_but_that_a_key_is_needed(shop):
    client = Client()
    for route, (of, methods) in TABLE.items():
        for method in methods:
            for headers in (
                {},
                {"Authorization": "Bearer ck_000000000000_" + "x" * 43},
                {"Authorization": "Basic eDp5"},
            ):
                answer = send(client, method, address(route, shop, of), {}, headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), (route, method)
                assert answer["WWW-Authenticate"].startswith("Bearer")


def test_the_table_of_rights_names_only_resources_that_there_are():
    views = {getattr(p.callback, "cls", None) for p in _leaves(get_resolver().url_patterns)}
    assert {view.resource for view in views if hasattr(view, "resource")} >= set(RIGHTS)


def _leaves(patterns: list[Any]) -> list[URLPattern]:
    return [leaf for p in patterns for leaf in (_leaves(p.url_patterns) if isinstance(p, URLResolver) else [p])]
