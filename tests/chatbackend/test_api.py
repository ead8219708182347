"""What all resources of the REST API promise: pages, filters, versions, retries, problems."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import timedelta

import psycopg
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts import ledger
from accounts.api_keys import create_api_key
from accounts.models import ApiKey, Budget, Customer, CustomerRecord, KeptAnswer, Member, Webhook, Widget
from accounts.money import Money
from accounts.rest import idempotency
from accounts.tenancy import in_tenant
from cascade.models import Article, Chatbot, Conversation, DriftReading, Message, SavedReply, Upload
from chatbackend.asgi import http
from chatbackend.body_limit import limited
from tests.api_cast import Program, member, send
from tests.cast import Shop, open_shop
from tests.chatbackend.sockets import running
from tests.chatbackend.test_admin import converse

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop() -> Shop:
    return open_shop("alice", "http://127.0.0.1:9/v1")


@pytest.fixture
def program(shop) -> Program:
    return Program(shop)


def customers(shop: Shop, count: int) -> None:
    with in_tenant(shop.tenant_id):
        Customer.objects.bulk_create(
            Customer(tenant_id=shop.tenant_id, external_id=f"c{number:04}") for number in range(count)
        )


# --- lists ------------------------------------------------------------------------------------


def test_pages_show_every_row_once(shop, program):
    customers(shop, 125)
    found, path = [], "/customers?limit=50&ordering=created_at"
    while path:
        page = program.get(path).json()
        found += [row["external_id"] for row in page["results"]]
        path = page["next"] and page["next"].partition("/api/v1")[2]
    assert sorted(found) == [f"c{number:04}" for number in range(125)]


@pytest.mark.parametrize("ordering", ["created_at", "-created_at"])
def test_rows_of_one_moment_are_walked_forward_and_back(shop, program, ordering):
    customers(shop, 125)
    pages, path = [], f"/customers?limit=50&ordering={ordering}"
    while path:
        pages.append(program.get(path).json())
        path = pages[-1]["next"] and pages[-1]["next"].partition("/api/v1")[2]
    assert [len(page["results"]) for page in pages] == [50, 50, 25]
    assert len({row["id"] for page in pages for row in page["results"]}) == 125
    back = program.get(pages[2]["previous"].partition("/api/v1")[2]).json()
    assert back["results"] == pages[1]["results"]
    first = program.get(back["previous"].partition("/api/v1")[2]).json()
    assert (first["results"], first["previous"]) == (pages[0]["results"], None)
    assert program.get(first["next"].partition("/api/v1")[2]).json()["results"] == pages[1]["results"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=101", "limit"), ("limit=0", "limit"), ("limit=x", "limit"), ("ordering=secret_hash", "ordering"),
        ("ordering=attributes", "ordering"), ("attributes__name=x", "attributes__name"),
        ("external_id=%00", "external_id"), ("verified=", "verified"),
        ("created_after=yesterday", "created_after"), ("verified=maybe", "verified"),
    ],
)  # fmt: skip
def test_a_query_that_is_not_offered_is_refused_by_its_name(program, query, name):
    answer = program.get(f"/customers?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert [error["parameter"] for error in answer.json()["errors"]] == [name]


@pytest.mark.parametrize(
    "query",
    [
        "api-keys?ordering=secret_hash",
        "api-keys?secret_hash=x",
        "webhooks?ordering=secret",
        "chatbots?ordering=record_source_secret",
    ],
)
def test_nothing_is_sorted_or_found_by_a_secret(program, query):
    assert program.get(f"/{query}").json()["code"] == "invalid"


@pytest.mark.parametrize("cursor", ["x", "W10=", "W3RydWUsIngiLCJ5Il0=", "WzAsW10se31d", "é"])
def test_a_cursor_that_we_did_not_make_leads_nowhere(program, cursor):
    assert program.get(f"/customers?cursor={cursor}").status_code in (200, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/customers",
        "/conversations",
        "/turns",
        "/model-calls",
        "/feedback",
        "/ledger",
        "/audit-log",
        "/chatbots",
        "/articles",
        "/saved-replies",
        "/remembered-answers",
        "/proposals",
        "/drift-readings",
        "/strategies",
        "/shadow-trials",
        "/deliveries",
    ],
)
def test_a_list_asks_as_many_queries_for_many_rows_as_for_few(shop, program, path):
    def page() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as asked:
            told = program.get(path)
        assert told.status_code == 200
        return len(told.json()["results"]), len(asked)

    fill(shop, 1)
    page()
    few, queries = page()
    for number in range(2, 5):
        fill(shop, number)
    many, same = page()
    assert (many > few, same) == (True, queries)


def fill(shop: Shop, number: int) -> None:
    """One more row for every list."""
    converse(shop, f"c{number}")
    tenant, week = {"tenant_id": shop.tenant_id}, f"2026-10-{number:02}"
    with in_tenant(shop.tenant_id):
        bot = Chatbot.objects.earliest("created_at")
        widget = Widget.objects.create(**tenant, public_key=f"wk_{number}")
        Chatbot.objects.create(**tenant, name=f"b{number}", widget=widget, instructions="Help.")
        bot.articles.create(**tenant, slug=f"a{number}", title="A", body="b")
        bot.saved_replies.create(**tenant, name=f"r{number}", text="A")
        bot.strategies.create(**tenant, version=100 + number, tiers=bot.live_strategy.tiers, deadline_seconds=9)
        measured = dict.fromkeys(("turns", "reference_turns", "reference", "value", "low", "high", "p_value"), 1)
        DriftReading.objects.create(**tenant, chatbot=bot, measure="cost", week=week, out_of_band=False, **measured)
        hook, _ = Webhook.objects.get_or_create(
            **tenant, url="https://example.com/", defaults={"events": [], "secret": b""}
        )
        now = timezone.now()
        hook.deliveries.create(**tenant, event="export.ready", happened_at=now, content={}, due_at=now)


def test_a_conversation_is_found_by_what_was_said_and_by_whom(shop, program):
    talk = converse(shop, "c1")
    converse(shop, "c2")
    found = program.get("/conversations?search=heliotrope%3F&external_id=c1").json()["results"]
    assert [row["id"] for row in found] == [str(talk.id)]
    assert program.get("/conversations?search=he").status_code == 400
    said = program.get(f"/conversations/{talk.id}/messages").json()["results"]
    assert [(row["role"], row["seq"], row["rating"]) for row in said] == [("customer", 1, None), ("assistant", 2, 1)]


# --- rows -------------------------------------------------------------------------------------


def test_a_customer_is_put_in_by_the_tenants_own_id(shop, program):
    first = program.post("/customers", {"external_id": "c1", "attributes": {"name": "Ann"}})
    assert first.status_code == 201
    again = program.post("/customers", {"external_id": "c1", "locale": "de"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.json() | {"attributes": {"name": "Ann"}, "locale": "de", "verified": True} == again.json()
    assert first["Location"].endswith(first.json()["id"])


def test_a_thousand_customers_come_in_few_statements(shop, program):
    told = {"external_id": "{}", "attributes": {"n": 1}}
    record = {"type": "order", "external_id": "A-1", "as_of": "2026-11-01T10:00:00+02:00", "data": {"status": "sent"}}
    rows = [told | {"external_id": f"c{n}", "records": [record]} for n in range(1000)]
    with CaptureQueriesContext(connection) as asked:
        answer = program.post("/customers/bulk", {"customers": rows})
    assert answer.json() == {"created": 1000, "updated": 0}
    assert len(asked) < 20
    assert program.post("/customers/bulk", {"customers": rows[:10]}).json() == {"created": 0, "updated": 10}
    with in_tenant(shop.tenant_id):
        assert (Customer.objects.count(), CustomerRecord.objects.count()) == (1000, 1000)
    wrong = program.post("/customers/bulk", {"customers": [rows[0], rows[0]]})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "conflict")


def test_what_is_wrong_is_pointed_at(program):
    rows = [{"external_id": "ok"}, {"external_id": 7, "atributes": {}}]
    answer = program.post("/customers/bulk", {"customers": rows}).json()
    assert answer["code"] == "invalid"
    assert {error["pointer"] for error in answer["errors"]} == {"/customers/1/atributes"}
    answer = program.post("/customers/bulk", {"customers": [{"external_id": 7}]}).json()
    assert [error["pointer"] for error in answer["errors"]] == ["/customers/0/external_id"]


def test_money_is_told_in_dollars_as_text(shop, program):
    assert program.get("/tenant").json()["balance"] == "1.000000"
    budget = program.post("/budgets", {"scope": "tenant", "period": "month", "limit": "12.5"})
    assert budget.json()["limit"] == "12.500000"
    for wrong in (12.5, "12.0000001", "-1", "1e3", "NaN"):
        assert program.post("/budgets", {"scope": "tenant", "period": "day", "limit": wrong}).status_code == 400, wrong


def test_a_budget_names_whom_turns_name_and_nobody_else(shop, program):
    customer = program.post("/customers", {"external_id": "c1"}).json()["id"]
    wanted = {"scope": "customer", "period": "day", "limit": "1"}
    for subject in ("c1", str(shop.chatbot_id)):
        answer = program.post("/budgets", wanted | {"subject": subject})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (404, "/subject"), subject
    budget = program.post("/budgets", wanted | {"subject": customer.upper()}).json()
    assert budget["subject"] == customer
    path = f"/budgets/{budget['id']}"
    assert program.patch(path, {"limit": "2"}).json()["limit"] == "2.000000"
    for name, value in (("scope", "tenant"), ("subject", ""), ("period", "month"), ("hard", False)):
        assert program.patch(path, {name: value}).status_code == 400, name


def test_a_program_makes_no_visitor(program):
    answer = program.post("/customers", {"external_id": "visitor:1"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/external_id")


def test_an_article_is_indexed_at_once_and_gone_at_once(shop, program):
    told = {"chatbot": str(shop.chatbot_id), "slug": "gifts", "title": "Gifts", "body": "Wrapped."}
    assert program.post("/articles", told | {"slug": "gifts\n"}).status_code == 400
    made = program.post("/articles", told)
    assert made.status_code == 201
    assert [job.task_name for job in ProcrastinateJob.objects.all()] == ["chatbackend.tasks.index_knowledge"]
    with in_tenant(shop.tenant_id):
        before = Chatbot.objects.get(id=shop.chatbot_id).knowledge_version
    assert program.delete(f"/articles/{made.json()['id']}").status_code == 204
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get(id=shop.chatbot_id).knowledge_version == before + 1


def test_a_row_that_was_changed_meanwhile_is_not_overwritten(shop, program):
    row = program.get(f"/chatbots/{shop.chatbot_id}")
    changed = program.patch(f"/chatbots/{shop.chatbot_id}", {"tone": "warm"}, If_Match=row["ETag"])
    assert changed.status_code == 200
    late = program.patch(f"/chatbots/{shop.chatbot_id}", {"tone": "cold"}, If_Match=row["ETag"])
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert program.patch(f"/chatbots/{shop.chatbot_id}", {"tone": "x"}, If_Match=changed["ETag"]).status_code == 200
    assert program.get(f"/chatbots/{shop.chatbot_id}")["ETag"] == program.get(f"/chatbots/{shop.chatbot_id}")["ETag"]


# --- retries ----------------------------------------------------------------------------------


def test_a_request_that_is_sent_again_is_answered_again_and_done_once(shop, program):
    body = {"name": "x", "scopes": ["chat"]}
    first, again = (program.post("/api-keys", body, Idempotency_Key="k1") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.json()["secret"].startswith("ck_")
    assert (again["Location"], again["Idempotent-Replayed"]) == (first["Location"], "true")
    with in_tenant(shop.tenant_id):
        kept = KeptAnswer.objects.get()
        assert first.json()["secret"].encode() not in bytes(kept.sealed)
    other = program.post("/api-keys", body | {"name": "y"}, Idempotency_Key="k1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(program.get("/api-keys").json()["results"]) == 2


def test_another_caller_has_keys_of_its_own(shop, program):
    body = {"scope": "tenant", "period": "day", "limit": "1"}
    ids = {each.post("/budgets", body, Idempotency_Key="k1").json()["id"] for each in (program, Program(shop))}
    assert len(ids) == 2


def test_what_was_refused_may_be_tried_again_with_the_same_key(shop, program):
    assert program.post("/members", {"email": "b@example.com", "role": "owner"}, Idempotency_Key="k").status_code == 403
    assert program.post("/members", {"email": "b@example.com", "role": "admin"}, Idempotency_Key="k").status_code == 201


def test_an_answer_is_kept_for_a_day(shop, program):
    body = {"scope": "tenant", "period": "day", "limit": "1"}
    first = program.post("/budgets", body, Idempotency_Key="k").json()
    with in_tenant(shop.tenant_id):
        KeptAnswer.objects.update(created_at=timezone.now() - idempotency.KEPT - timedelta(seconds=1))
    assert program.post("/budgets", body, Idempotency_Key="k").json()["id"] != first["id"]
    with in_tenant(shop.tenant_id):
        KeptAnswer.objects.update(created_at=timezone.now() - idempotency.KEPT - timedelta(seconds=1))
    assert idempotency.forget_old(shop.tenant_id) == 1


def test_a_request_whose_like_is_being_answered_is_told_to_wait(shop, program):
    held, done = threading.Event(), threading.Event()

    def answering() -> None:
        with in_tenant(shop.tenant_id), connection.cursor() as cursor:
            cursor.execute(idempotency.IN_FLIGHT, [f"{shop.tenant_id} key:{program.key_id} k1"])
            held.set()
            done.wait(30)
        connection.close()

    thread = threading.Thread(target=answering)
    thread.start()
    try:
        assert held.wait(30)
        answer = program.post("/budgets", {"scope": "tenant", "period": "day", "limit": "1"}, Idempotency_Key="k1")
    finally:
        done.set()
        thread.join()
    assert (answer.status_code, answer.json()["code"]) == (409, "request_in_progress")
    assert answer["Retry-After"] == "1"


# --- what may be sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"external_id": "a\\u0000b"}', "/external_id"),
        (b'{"external_id": "a", "attributes": {"a/b": ["x", "\\ud800"]}}', "/attributes/a~1b/1"),
        (b'{"external_id": "a", "attributes": {"\\ud800": 1}}', "/attributes"),
        (b'{"external_id": "a", "attributes": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "/attributes" + "/a" * 32),
    ],
)
def test_what_cannot_be_kept_is_pointed_at(program, raw, pointer):
    answer = program.post("/customers", raw)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    "raw",
    [b"[" * 10_000, b"[" * 200_000, b'{"external_id": NaN}', b'{"a": 1e999}', b"\xff", b"", b"9" * 5000, b"nonsense"],
)
def test_what_is_not_json_is_refused(program, raw):
    answer = program.post("/customers", raw)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_of_what_is_set_up_by_hand_there_is_so_much_and_no_more(shop, program, monkeypatch):
    with in_tenant(shop.tenant_id):
        chatbot = str(Chatbot.objects.get().id)
    bodies = {
        "/api-keys": (ApiKey, {"name": "one more", "scopes": ["chat"]}),
        "/webhooks": (Webhook, {"url": "https://a.example/hook", "events": ["export.ready"]}),
        "/members": (Member, {"email": "bob@a.example", "role": "support"}),
        "/chatbots": (Chatbot, {"name": "one more", "instructions": "Help."}),
        "/budgets": (Budget, {"scope": "tenant", "period": "day", "limit": "1"}),
        "/articles": (Article, {"chatbot": chatbot, "slug": "a", "title": "A", "body": "B"}),
        "/saved-replies": (SavedReply, {"chatbot": chatbot, "name": "a", "text": "b"}),
    }
    for path, (model, body) in bodies.items():
        with in_tenant(shop.tenant_id):
            monkeypatch.setattr(model, "MOST", model.objects.count())
        refused = program.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), path
        assert f"there may be {model.MOST} " in refused.json()["detail"]
        monkeypatch.setattr(model, "MOST", model.MOST + 1)
        assert program.post(path, body).status_code == 201, path


def test_a_key_that_is_revoked_makes_room_for_another(shop, program, monkeypatch):
    key, _ = create_api_key(shop.tenant_id, "old", ["chat"])
    monkeypatch.setattr(ApiKey, "MOST", 2)
    assert program.post("/api-keys", {"name": "one more", "scopes": ["chat"]}).status_code == 409
    assert program.post(f"/api-keys/{key.id}/revoke").status_code == 200
    assert program.post("/api-keys", {"name": "one more", "scopes": ["chat"]}).status_code == 201


def test_so_many_files_wait_to_be_read_and_no_more(shop, program, monkeypatch):
    monkeypatch.setattr(Upload, "MOST", 1)
    form = {"chatbot": str(shop.chatbot_id)}
    sent = [
        program.client.post(
            "/api/v1/uploads",
            form | {"file": SimpleUploadedFile("a.md", b"# A\n\nText.")},
            headers={"Authorization": f"Bearer {program.secret}"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in sent] == [202, 409]
    assert "files that wait to be read" in sent[1].json()["detail"]


@pytest.mark.parametrize("page", ["cascade_chatbot", "accounts_budget", "cascade_savedreply"])
def test_pages_offer_no_form_for_one_too_many_and_say_so(shop, page, monkeypatch):
    for model in (Chatbot, Budget, SavedReply):
        monkeypatch.setattr(model, "MOST", 0)
    answer = member(shop, "owner").get(reverse(f"admin:{page}_add"), follow=True)
    assert "Nothing can be added: there may be 0 " in answer.content.decode()


def test_a_list_that_would_take_the_database_too_long_is_ended_and_says_so(shop, program):
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"]) as owner, connection.cursor() as cursor:
        owner.execute("LOCK TABLE accounts_customer IN ACCESS EXCLUSIVE MODE")  # no row is read in any time
        cursor.execute("SET statement_timeout = '100ms'")
        try:
            answer = program.get("/customers?external_id=x")
        finally:
            cursor.execute("RESET statement_timeout")
    assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")
    assert program.get("/customers").status_code == 200


def test_only_json_is_read(program):
    answer = program.client.post(
        "/api/v1/customers", {"external_id": "x"}, headers={"Authorization": f"Bearer {program.secret}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("announced", [b"Content-Length: 50000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", [b"/api/v1/customers", b"/v1/chat/completions"])
async def test_a_body_of_50_megabytes_is_refused_before_it_is_read(announced, path):
    async with running(limited(http, most=100_000)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + announced + b"\r\n\r\n")
        chunk = b"x" * 50_000
        for _ in range(3):
            writer.write(b"c350\r\n" + chunk + b"\r\n" if announced.endswith(b"chunked") else chunk)
        answer = await reader.readuntil(b"}")
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code": "too_large"' in answer
    assert (b'"error": {' in answer) == path.startswith(b"/v1/")


# --- every answer -----------------------------------------------------------------------------


def test_every_answer_names_its_request_and_what_is_left_of_the_limit(program):
    answer = program.get("/tenant", X_Request_ID="abc-1")
    assert answer["X-Request-ID"] == "abc-1"
    assert int(answer["RateLimit-Remaining"]) == int(answer["RateLimit-Limit"]) - 1
    other = program.get("/tenant", X_Request_ID="a b\r\nX: y")
    assert len(other["X-Request-ID"]) == 36
    assert program.get("/nowhere-at-all").status_code == 404


def test_who_asks_too_often_is_told_when_to_ask_again(program, settings):
    from limits import parse

    settings.RATE_API = parse("2/minute")
    answers = [program.get("/tenant") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2]["Retry-After"]) <= 60


def test_a_member_changes_things_only_with_a_csrf_token(shop):
    client = member(shop, "owner")
    client.handler.enforce_csrf_checks = True
    assert send(client, "GET", "/tenant").status_code == 200
    assert send(client, "PATCH", "/tenant", {"name": "Mine"}).status_code == 403


# --- what resources do --------------------------------------------------------------------------


def test_a_key_makes_no_key_that_may_do_more(shop):
    small = Program(shop, ["keys:write", "chat"])
    assert small.post("/api-keys", {"name": "x", "scopes": ["chat"]}).status_code == 201
    assert small.post("/api-keys", {"name": "x", "scopes": ["chat", "books:read"]}).status_code == 403


def test_a_rotated_key_lives_until_it_is_revoked(shop, program):
    made = program.post("/api-keys", {"name": "x", "scopes": ["tenant:read"]}).json()
    fresh = program.post(f"/api-keys/{made['id']}/rotate").json()
    assert (fresh["name"], fresh["scopes"]) == (made["name"], made["scopes"])
    program.secret, both = made["secret"], program.secret
    assert program.get("/tenant").status_code == 200
    program.secret = both
    assert program.post(f"/api-keys/{made['id']}/revoke").json()["revoked_at"]
    assert program.post(f"/api-keys/{program.key_id}/revoke").json()["code"] == "conflict"  # it would lock itself out
    for secret, status in ((made["secret"], 401), (fresh["secret"], 200)):
        program.secret = secret
        assert program.get("/tenant").status_code == status


def test_only_owners_make_owners_and_one_always_stays(shop, program):
    admin, owner = member(shop, "admin"), member(shop, "owner")
    new = {"email": "new@example.com", "role": "owner"}
    assert send(admin, "POST", "/members", new).status_code == 403
    assert send(owner, "POST", "/members", new).status_code == 201
    assert send(owner, "POST", "/members", new).status_code == 409
    with in_tenant(shop.tenant_id):
        Member.objects.filter(role="owner").exclude(user_id=owner.session["_auth_user_id"]).delete()
        own = Member.objects.get(role="owner")
    assert send(admin, "DELETE", f"/members/{own.id}").status_code == 403
    assert send(owner, "DELETE", f"/members/{own.id}").json()["code"] == "conflict"
    assert send(owner, "PATCH", f"/members/{own.id}", {"role": "support"}).json()["code"] == "conflict"


def test_a_customer_is_told_what_is_known_of_them_and_forgotten(shop, program):
    talk = converse(shop, "c1")
    path = f"/customers/{talk.customer_id}"
    told = program.get(f"{path}/personal-data").json()
    assert told["customer"]["external_id"] == "c1"
    assert "Heliotrope?" in json.dumps(told)
    assert program.delete(path).status_code == 204
    assert program.get(path).status_code == 404
    with in_tenant(shop.tenant_id):
        assert not Message.objects.exists()
    assert ledger.check(shop.tenant_id) == []


def test_staff_answer_a_customer_and_hand_on(shop, program):
    talk = converse(shop, "c1")
    with in_tenant(shop.tenant_id):
        Conversation.objects.update(last_seq=2)
    said = program.post(f"/conversations/{talk.id}/reply", {"text": "I am Bob."})
    assert (said.status_code, said.json()["role"]) == (201, "staff")
    for deed, state in (("hand-over", "handed_over"), ("give-back", "open"), ("close", "closed")):
        assert program.post(f"/conversations/{talk.id}/{deed}").json()["state"] == state
    assert program.post(f"/conversations/{talk.id}/reply", {"text": "Too late"}).json()["code"] == "conflict"
    with in_tenant(shop.tenant_id):
        assert Conversation.objects.get(id=talk.id).state == "closed"
        assert Message.objects.filter(conversation=talk, role="staff").count() == 1


def test_a_chatbot_comes_with_a_widget_whose_secret_is_shown_once(shop, program):
    made = program.post(
        "/chatbots", {"name": "Second", "instructions": "Be kind.", "allowed_origins": ["https://a.example"]}
    )
    assert made.status_code == 201, made.content
    assert made.json()["widget"]["allowed_origins"] == ["https://a.example"]
    assert made.json()["signing_secret"]["kid"]
    assert "signing_secret" not in program.get(f"/chatbots/{made.json()['id']}").json()


def test_a_strategy_is_made_and_promoted(shop, program):
    tier = {"model": "small", "threshold": 0.6, "deadline_seconds": 20, "max_output_tokens": 300}
    body = {"chatbot": str(shop.chatbot_id), "tiers": [tier], "deadline_seconds": 60}
    made = program.post("/strategies", body)
    assert (made.status_code, made.json()["version"]) == (201, 2)
    assert program.post(f"/strategies/{made.json()['id']}/promote").status_code == 200
    with in_tenant(shop.tenant_id):
        assert str(Chatbot.objects.get().live_strategy_id) == made.json()["id"]
    unknown = program.post("/strategies", body | {"tiers": [tier | {"model": "unheard-of"}]})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (404, "/tiers")


def test_usage_adds_up_to_what_the_ledger_says(shop, program):
    converse(shop, "c1")
    converse(shop, "c2")
    for by, keys in (
        ("day", 1), ("model", 2), ("outcome", 2), ("customer", 2), ("chatbot", 1), ("segment", 1), ("kind", 1)
    ):  # fmt: skip
        rows = program.get(f"/usage?by={by}").json()["results"]
        assert len(rows) == keys, by
        assert sum(Money.from_usd(row["charged"]).micros for row in rows) == 4 * 17, by
        assert sum(row["entries"] for row in rows) == 4, by
    assert ledger.check(shop.tenant_id) == []
    assert program.get("/usage?since=2020-01-01T00:00:00Z").status_code == 409


def test_a_month_is_a_draft_until_it_is_closed(shop, program):
    converse(shop, "c1")
    month = f"{timezone.now():%Y-%m}"
    draft = program.get(f"/statements/{month}").json()
    assert (draft["number"], draft["charged"], draft["closing"]) == (None, "0.000034", "0.999966")
    assert {line["kind"] for line in draft["lines"]} == {"top_up", "charge"}
    assert program.post("/statements", {"month": month}).json()["code"] == "conflict"
    closed = program.post("/statements", {"month": "2024-01"})
    assert (closed.status_code, closed.json()["number"]) == (201, 1)
    assert [row["period"] for row in program.get("/statements").json()["results"]] == ["2024-01-01"]
    for wrong in ("2026-13", "x", "2026-1-1"):
        assert program.get(f"/statements/{wrong}").status_code == 404


def test_every_change_is_on_the_audit_log_and_nothing_secret_or_personal(shop, program):
    made = program.post("/api-keys", {"name": "x", "scopes": ["chat"]}, X_Request_ID="r-1").json()
    program.post("/customers", {"external_id": "ann@example.com", "attributes": {"name": "Ann"}})
    program.patch(f"/chatbots/{shop.chatbot_id}", {"tone": "warm"})
    log = program.get("/audit-log").json()["results"]
    text = json.dumps(log)
    assert made["secret"] not in text
    assert "ann@example.com" not in text
    key = next(entry for entry in log if entry["row_id"] == made["id"])
    assert (key["actor"], key["action"], key["thing"]) == (f"key:{program.key_id}", "insert", "apikey")
    assert (key["request_id"], key["address"], key["changes"]["secret_hash"]) == ("r-1", "127.0.0.1", None)
    tone = next(entry for entry in log if entry["thing"] == "chatbot" and entry["action"] == "update")
    assert {k: v for k, v in tone["changes"].items() if k == "tone"} == {"tone": ["", "warm"]}
    assert program.get("/audit-log?thing=customer").json()["results"][0]["changes"]["external_id"] is None


def test_what_the_product_notes_for_itself_is_not_on_the_audit_log(shop, program):
    before = program.get("/audit-log").json()["results"]
    with in_tenant(shop.tenant_id):
        Chatbot.objects.update(knowledge_version=7)
        Article.objects.update(indexed_as="made")
    assert program.get("/audit-log").json()["results"] == before
