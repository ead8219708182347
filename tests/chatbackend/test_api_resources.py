"""What each resource of knowledge, memory and learning does over the REST API, by the functions that pages call."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from cascade import strategies, uploads
from cascade.models import (
    Article,
    Chatbot,
    ExampleQuestion,
    MemoryUse,
    Message,
    Proposal,
    RememberedAnswer,
    SavedReply,
    ScorerVersion,
    Turn,
    Upload,
)
from tests.api_cast import Program
from tests.cascade.recorded_turns import recorded_turns
from tests.cascade.test_gaps import ask
from tests.cascade.test_knowledge import index
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import converse

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop() -> Shop:
    return open_shop("alice", "http://127.0.0.1:9/v1", floor=0.3, thresholds=(0.5, 0.3))


@pytest.fixture
def program(shop) -> Program:
    return Program(shop)


def tasks() -> list[str]:
    return [job.task_name.rsplit(".")[-1] for job in ProcrastinateJob.objects.order_by("id")]


# --- articles, and files of them --------------------------------------------------------------


def test_an_article_says_whether_it_is_searched_and_in_which_passages(shop, program):
    told = {"chatbot": str(shop.chatbot_id), "slug": "gifts", "title": "Gifts", "body": "Wrapped."}
    made = program.post("/articles", told)
    path = f"/articles/{made.json()['id']}"
    assert (made.json()["is_searched"], program.get(f"{path}/passages").json()["results"]) == (False, [])
    assert program.get(f"/chatbots/{shop.chatbot_id}/index").json() == {
        "articles": 2, "made": 0, "searched": 0, "whole": False,
    }  # fmt: skip
    index(shop)
    assert program.get(path).json()["is_searched"] is True
    assert [row["text"] for row in program.get(f"{path}/passages").json()["results"]] == ["Wrapped."]
    assert program.get(f"/chatbots/{shop.chatbot_id}/index").json()["whole"] is True
    changed = program.patch(path, {"body": "Wrapped in paper."}, If_Match=made["ETag"])
    assert (changed.status_code, changed.json()["is_searched"]) == (200, False)  # being indexed is no change of it


def test_an_article_never_takes_the_place_of_another(shop, program):
    told = {"chatbot": str(shop.chatbot_id), "slug": "returns", "title": "Mine", "body": "Never."}
    assert program.post("/articles", told).json()["code"] == "already_exists"
    other = program.post("/articles", told | {"slug": "other"}).json()["id"]
    assert program.patch(f"/articles/{other}", {"slug": "returns"}).json()["code"] == "already_exists"
    with in_tenant(shop.tenant_id):
        assert Article.objects.get(slug="returns").body == "Returns are free for 30 days."


def send_file(program: Program, shop: Shop, name: str, content: bytes, **headers: str):
    return program.client.post(
        "/api/v1/uploads",
        {"chatbot": str(shop.chatbot_id), "file": SimpleUploadedFile(name, content)},
        headers={"Authorization": f"Bearer {program.secret}"} | headers,
    )


def test_a_file_of_articles_is_taken_once_and_read_in_the_background(shop, program):
    key = {"Idempotency-Key": "k1"}
    taken, again = (send_file(program, shop, "gifts.md", b"# Gifts\n\nWrapped.", **key) for _ in range(2))
    assert (taken.status_code, again.json(), again["Idempotent-Replayed"]) == (202, taken.json(), "true")
    assert send_file(program, shop, "gifts.md", b"# Other", **key).json()["code"] == "idempotency_key_reused"
    uploads.read_waiting(shop.tenant_id, shop.chatbot_id)
    read = program.get(f"/uploads/{taken.json()['id']}").json()
    assert (read["state"], read["files_read"], read["articles_made"], read["problems"]) == ("read", 1, 1, [])
    assert program.get("/articles?slug=gifts").json()["results"][0]["source"] == "gifts.md"


def test_a_file_that_is_of_no_use_is_refused_by_what_is_wrong(shop, program):
    refused = send_file(program, shop, "gifts.exe", b"MZ")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/file")
    assert "neither Markdown" in refused.json()["errors"][0]["detail"]
    large = send_file(program, shop, "gifts.md", b"x" * 3_000_000)
    assert large.status_code == 202  # larger than any other body may be; it is read, and then refused
    uploads.read_waiting(shop.tenant_id, shop.chatbot_id)
    problems = program.get(f"/uploads/{large.json()['id']}").json()["problems"]
    assert [problem["file"] for problem in problems] == ["gifts.md"]
    with in_tenant(shop.tenant_id):
        assert Upload.objects.count() == 1
    assert program.post("/uploads", {"chatbot": str(shop.chatbot_id)}).json()["code"] == "unsupported_media_type"


def test_what_customers_ask_and_no_article_answers_is_told_grouped(shop, program):
    ask(shop, "do you repair old lamps", 0.1)
    ask(shop, "do you repair my old lamps", 0.1)
    (gap,) = program.get("/gaps").json()["results"]
    assert (gap["asked"], gap["handed_over"], gap["chatbot"]) == (2, 0, str(shop.chatbot_id))
    assert program.get("/gaps?x=1").status_code == 400


# --- saved replies ----------------------------------------------------------------------------


def test_a_saved_reply_comes_with_its_questions_which_are_matched_soon(shop, program):
    told = {"chatbot": str(shop.chatbot_id), "name": "Hours", "text": "Hello {{ customer.name }}: nine to five."}
    made = program.post("/saved-replies", told | {"examples": ["When are you open?", "Opening hours?"]})
    assert (made.status_code, made.json()["examples"]) == (201, ["When are you open?", "Opening hours?"])
    assert tasks() == ["index_knowledge"]
    with in_tenant(shop.tenant_id):
        ExampleQuestion.objects.update(embedding=[1.0] + [0.0] * 383)
    path = f"/saved-replies/{made.json()['id']}"
    changed = program.patch(path, {"examples": ["Opening hours?", "Open on Sunday?"]}, If_Match=made["ETag"])
    assert changed.json()["examples"] == ["Opening hours?", "Open on Sunday?"]
    with in_tenant(shop.tenant_id):
        waiting = list(ExampleQuestion.objects.filter(embedding=None).values_list("text", flat=True))
    assert waiting == ["Open on Sunday?"]
    wrong = program.patch(path, {"text": "Hello {{ name|upper }}"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (409, "/text")
    assert program.post("/saved-replies", told).json()["code"] == "already_exists"
    assert program.delete(path).status_code == 204


def test_a_proposed_reply_is_approved_or_retired_by_a_program(shop, program):
    with in_tenant(shop.tenant_id):
        its = {"tenant_id": shop.tenant_id, "chatbot_id": shop.chatbot_id, "proposed_from": 3}
        SavedReply.objects.create(**its, name="Hours", text="Nine to five.", state="proposed")
    (row,) = program.get("/saved-replies?state=proposed").json()["results"]
    assert program.patch(f"/saved-replies/{row['id']}", {"state": "approved"}).json()["proposed_from"] == 3
    assert program.get("/saved-replies?state=proposed").json()["results"] == []


# --- what is remembered -----------------------------------------------------------------------


def remember(shop: Shop, **columns) -> RememberedAnswer:
    """A copy of the answer that `converse` leaves, with other columns."""
    with in_tenant(shop.tenant_id):
        row = RememberedAnswer.objects.first()
        for name, value in ({"pk": None, "pinned": False} | columns).items():
            setattr(row, name, value)
        row._state.adding = True
        row.id = RememberedAnswer._meta.pk.get_default()
        row.save()
        return row


def test_a_remembered_answer_is_found_by_its_words_told_with_what_it_saved_and_pinned(shop, program):
    converse(shop, "c1")
    answer = remember(shop, question="When are you open?", answer="Nine to five.")
    with in_tenant(shop.tenant_id):
        its = {"tenant_id": shop.tenant_id, "remembered": answer, "similarity": 0.99, "confidence": 0.98}
        MemoryUse.objects.create(**its, turn=Turn.objects.get(), outcome="served", saved_micros=17)
    for words in ("ARE YOU", "nine"):
        (row,) = program.get(f"/remembered-answers?search={words}").json()["results"]
        assert (row["id"], row["saved"], row["cost"]) == (str(answer.id), "0.000017", "0.000017")
    path = f"/remembered-answers/{answer.id}"
    assert [use["outcome"] for use in program.get(f"{path}/uses").json()["results"]] == ["served"]
    assert program.patch(path, {"pinned": True}).json()["pinned"] is True
    assert program.patch(path, {"answer": "Ten to six."}).status_code == 400
    assert program.delete(path).status_code == 204
    assert program.get(path).status_code == 404


def test_many_answers_are_forgotten_at_once_and_no_others(shop, program):
    converse(shop, "c1")
    for number in range(3):
        remember(shop, question=f"Lamp {number}?", segment="gold" if number else "")
    told = {"chatbot": str(shop.chatbot_id), "search": "lamp"}
    assert program.post("/remembered-answers/forget", told | {"segment": "gold"}).json() == {"forgotten": 2}
    assert program.post("/remembered-answers/forget", told).json() == {"forgotten": 1}
    assert len(program.get("/remembered-answers").json()["results"]) == 1
    assert program.post("/remembered-answers/forget", {"search": "lamp"}).status_code == 400


# --- better strategies --------------------------------------------------------------------------


def test_a_search_for_a_better_strategy_is_begun_once_and_done_by_the_worker(shop, program):
    wish = {"chatbot": str(shop.chatbot_id), "aim": "better", "per_thousand_turns": "2.50", "latency_seconds": 5}
    begun = program.post("/proposals", wish)
    assert (begun.status_code, begun.json()["state"], tasks()) == (202, "queued", ["optimise_cascade"])
    assert begun.json()["wish"]["budget_micros"] == 2500
    assert program.post("/proposals", wish).json()["code"] == "conflict"
    for wrong in ({"quality": 0.9}, {"per_thousand_turns": "0"}):
        refused = program.post("/proposals", wish | wrong).json()
        assert [error["pointer"] for error in refused["errors"]] == [f"/{name}" for name in wrong]


def test_a_promise_and_another_market_are_searched_for_as_on_the_page(shop, program):
    wish = {"chatbot": str(shop.chatbot_id), "aim": "promise", "most_bad": 0.1, "confidence": 0.9}
    told = program.post("/proposals", wish).json()["wish"]
    assert (told["most_bad"], told["confidence"], told["prices"]) == (0.1, 0.9, {})
    with in_tenant(shop.tenant_id):
        Proposal.objects.all().delete()
    market = {
        "chatbot": str(shop.chatbot_id),
        "aim": "cheaper",
        "price_factors": {"large": 0.5},
        "assumed_model": {"like": "small", "quality": 0.9, "per_thousand_turns": "1.00"},
    }
    told = program.post("/proposals", market).json()["wish"]
    assert told["prices"] == {"large": 0.5}
    assert told["assumed"] == {"name": "the assumed model", "quality": 0.9, "cost_micros": 1000.0, "like": "small"}
    unknown = program.post("/proposals", market | {"price_factors": {"unheard-of": 2}})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (404, "/price_factors")
    mixed = program.post("/proposals", market | {"aim": "promise"})
    assert mixed.json()["code"] == "conflict"


def test_a_training_is_refused_with_too_few_labels_and_its_state_is_told(shop, program):
    assert program.get("/scorer-versions/training").json() == {"job": None, "state": None}
    refused = program.post("/scorer-versions")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "needed are 200" in refused.json()["detail"]


def test_a_training_is_begun_once_and_leaves_a_version_as_its_trace(shop, program):
    talk = converse(shop, "c1")
    with in_tenant(shop.tenant_id):
        row = {"tenant_id": shop.tenant_id, "conversation": talk, "role": Message.Role.STAFF, "text": "Yes."}
        Message.objects.bulk_create(Message(**row, seq=seq) for seq in range(1000, 1200))
    begun = program.post("/scorer-versions")
    assert (begun.status_code, tasks()[-1]) == (202, "train_scorer")
    assert program.get("/scorer-versions/training").json() == {"job": begun.json()["job"], "state": "waiting"}
    assert program.post("/scorer-versions").json()["code"] == "conflict"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %s", [begun.json()["job"]])
    assert program.get("/scorer-versions/training").json()["state"] == "failed"
    with in_tenant(shop.tenant_id):
        ScorerVersion.objects.create(tenant_id=shop.tenant_id, weights_version="w", folder="f")
    assert program.get("/scorer-versions/training").json() == {"job": None, "state": "done"}


def test_a_trial_of_another_tenants_strategy_is_of_none(shop, program):
    other = open_shop("charlie", "http://127.0.0.1:9/v1")
    with in_tenant(other.tenant_id):
        strategy = str(Chatbot.objects.get().live_strategy_id)
    refused = program.post("/shadow-trials", {"strategy": strategy, "turns": 500})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (404, "/strategy")


def test_a_strategy_is_replayed_and_tried_in_the_shadow(shop, program):
    live = program.get("/strategies").json()["results"][0]["id"]
    assert program.get(f"/strategies/{live}/replay").json()["code"] == "conflict"  # there is no turn yet
    recorded_turns(shop, 120)
    report = program.get(f"/strategies/{live}/replay").json()
    assert (report["as_recorded"], report["saved"]["mean"]) == (120, pytest.approx(0))
    for since in ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        refused = program.get(f"/strategies/{live}/replay?since={since}").json()
        assert [error["parameter"] for error in refused["errors"]] == ["since"]
    assert program.post("/shadow-trials", {"strategy": live, "turns": 50}).json()["code"] == "conflict"
    with in_tenant(shop.tenant_id):
        tiers = [{"model": "large", "threshold": 0.3, "deadline_seconds": 10, "max_output_tokens": 100}]
        other = strategies.add_version(Chatbot.objects.get(), tiers, 60)
    trial = program.post("/shadow-trials", {"strategy": str(other.id), "turns": 50})
    assert (trial.status_code, trial.json()["live"]) == (201, live)
    path = f"/shadow-trials/{trial.json()['id']}"
    assert program.get(f"{path}/so-far").json() == {"turns": 0}
    assert program.post(f"{path}/stop").json()["state"] == "stopped"
    assert program.post(f"{path}/stop").json()["code"] == "conflict"


# --- settings -----------------------------------------------------------------------------------


def test_whatever_a_page_sets_of_a_chatbot_a_program_sets(shop, program):
    told = {
        "explored_share": 0.05, "explored_a_day": "2.000000", "explored_models": ["large"], "reference_model": "large",
        "wrong_hits": 0.02, "check_share": 0.1, "remembered_for": 86400.0, "most_remembered": 10,
    }  # fmt: skip
    path = f"/chatbots/{shop.chatbot_id}"
    changed = program.patch(path, told).json()
    assert changed | told == changed
    unknown = program.patch(path, {"explored_models": ["unheard-of"]})
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (404, "/explored_models")


def test_a_widget_is_set_and_its_secret_rotated_through_its_chatbot(shop, program):
    path = f"/chatbots/{shop.chatbot_id}/widget"
    changed = program.patch(path, {"allowed_origins": ["https://a.example"], "identity": "required"})
    assert changed.json()["public_key"] == shop.widget_key
    told = program.get(f"/chatbots/{shop.chatbot_id}").json()["widget"]
    assert (told["allowed_origins"], told["identity"]) == (["https://a.example"], "required")
    rotated = program.post(f"{path}/rotate")
    assert rotated.status_code == 201
    assert rotated.json()["kid"] != shop.kid


def test_a_tariff_and_the_tenants_own_price_are_told(shop, program):
    set_tariff(shop.tenant_id, reply=Money.from_usd("0.02"))
    (tariff,) = program.get("/tariffs").json()["results"]
    assert (tariff["margin"], tariff["reply"], tariff["included"]) == (None, "0.020000", "0.000000")
    assert {price["own"] for price in program.get("/prices").json()["results"]} == {False}
