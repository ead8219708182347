"""The admin pages: everything of one tenant can be read, nothing of another's, and roles are denied unless allowed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pgvector import HalfVector
from uuid_utils.compat import uuid7

from accounts import export_jobs, ledger, webhooks
from accounts.api_keys import create_api_key
from accounts.auth import create_widget
from accounts.exports import Selection
from accounts.models import AuditEntry, Budget, Customer, Member, Statement, User
from accounts.money import Money
from accounts.staff_pages import TenantAdmin
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from cascade import values
from cascade.embedder import SIZE
from cascade.models import (
    Article,
    CascadeStrategy,
    Chatbot,
    Conversation,
    DriftReading,
    Event,
    ExampleQuestion,
    Feedback,
    LanguageModel,
    Lookup,
    Message,
    ModelCall,
    Price,
    Proposal,
    RememberedAnswer,
    SavedReply,
    ScorerCalibration,
    ScorerVersion,
    ShadowScore,
    ShadowTrial,
    StrategyChange,
    Turn,
    TurnContext,
    Upload,
)
from cascade.scorer.rows import CONTEXT
from cascade.story import spans, verdict
from tests.cast import Shop, open_shop

pytestmark = pytest.mark.usefixtures("database")
OPERATORS = (LanguageModel, Price)  # the same for every tenant
UNCHANGED = {  # what a form says of how a chatbot explores and remembers
    **{"explored_share": "0", "explored_micros_a_day": "0", "explored_models": "", "reference_model": ""},
    **{"wrong_hits": "0.01", "check_share": "0.02", "remembered_for": "30 00:00:00", "most_remembered": "20000"},
}
UNIT = HalfVector([1.0] + [0.0] * (SIZE - 1))
LAMP = values.Record("order", "A-7", datetime(2026, 11, 20, tzinfo=UTC), {"items": "desk lamp, 2"})
SHOWN = values.Context(
    values.Customer("c", True, records=(LAMP,)), "Where is it?", datetime(2026, 11, 21, tzinfo=UTC),
    passages=(values.Passage("returns", "How to return", "By post."),),
)  # fmt: skip
MARK = "Heliotrope"  # stands in everything of Alice's that has a text


@pytest.fixture
def shop() -> Shop:
    """Alice's: something in every table."""
    shop = open_shop("alice", "http://127.0.0.1:9/v1")
    shop.change(name=MARK)
    converse(shop, f"c-{MARK}")
    with in_tenant(shop.tenant_id):
        Article.objects.update(title=MARK)
        add_knowledge(shop)
        Statement.objects.create(
            tenant_id=shop.tenant_id, number=1, period=date(2001, 1, 1), opening_micros=0, closing_micros=0, lines=[],
            printed=f"<!doctype html><html lang=en><title>{MARK}</title><p>{MARK}</p></html>",
        )  # fmt: skip
        Budget.objects.create(tenant_id=shop.tenant_id, scope="segment", subject=MARK, period="day", limit_micros=5)
    set_tariff(shop.tenant_id, margin=Decimal("0.25"))
    create_api_key(shop.tenant_id, MARK, [])
    webhooks.create(shop.tenant_id, f"https://{MARK}.example/", ["drift.detected"])
    with in_tenant(shop.tenant_id):
        webhooks.tell(shop.tenant_id, "drift.detected", {"measure": MARK})
    export_jobs.request(shop.tenant_id, Selection(date(2001, 1, 1), date(2001, 1, 1)), "csv", MARK)
    return shop


def add_knowledge(shop: Shop) -> None:
    """A file, a gap and a saved reply."""
    tenant = {"tenant_id": shop.tenant_id, "chatbot_id": shop.chatbot_id}
    Upload.objects.create(**tenant, name=f"{MARK}.md", content=b"x")
    Lookup.objects.create(**tenant, turn=Turn.objects.get(), question=f"{MARK}?", similarity=0.1, own=False)
    reply = SavedReply.objects.create(**tenant, name=MARK, text=MARK)
    ExampleQuestion.objects.create(tenant_id=shop.tenant_id, reply=reply, text=MARK)


def converse(shop: Shop, customer: str) -> Conversation:
    """One answered question: a rejected attempt, an accepted one, money, feedback, an event."""
    caller = shop.caller(customer)
    tenant = {"tenant_id": shop.tenant_id}
    with in_tenant(shop.tenant_id):
        bot = Chatbot.objects.earliest("created_at")
        talk = Conversation.objects.create(**tenant, chatbot=bot, customer_id=caller.customer_id)
        turn = Turn.objects.create(
            **tenant, conversation=talk, client_id="1", body_hash="", process_key=1, strategy=bot.live_strategy,
            state=Turn.State.ANSWERED, context_report={"dropped_history": 3},
        )  # fmt: skip
        Message.objects.create(**tenant, conversation=talk, turn=turn, role="customer", text=f"{MARK}? <b>", seq=1)
        ledger.hold(shop.tenant_id, turn.id, Money(900))
        charges = [charge(turn, number, outcome) for number, outcome in enumerate(["rejected", "accepted"])]
        ledger.settle(shop.tenant_id, turn.id, charges)
        said = Message.objects.create(**tenant, conversation=talk, turn=turn, role="assistant", text=MARK, seq=2)
        Feedback.objects.create(**tenant, message=said, rating=1, comment=f"{MARK}!")
        Event.objects.create(**tenant, conversation=talk, first_seq=1, last_seq=2, frames=[])
        shadow, _ = ScorerVersion.objects.get_or_create(**tenant, weights_version=MARK, folder="v1", state="shadow")
        ShadowScore.objects.create(**tenant, version=shadow, call=turn.calls.earliest("number"), score=0.5)
        beside = {"strategy": bot.live_strategy, "live": bot.live_strategy, "turns": 100}
        ShadowTrial.objects.create(**tenant, chatbot=bot, **beside, state="stopped", begun_by=MARK)
        measured = dict.fromkeys(("turns", "reference_turns", "reference", "value", "low", "high", "p_value"), 1)
        week = {"chatbot": bot, "measure": "cost", "week": "2026-11-16", "out_of_band": False}
        DriftReading.objects.get_or_create(**tenant, **week, defaults=measured)
        Proposal.objects.create(**tenant, chatbot=bot, state="refused", refusal=MARK, asked_by=MARK)
        TurnContext.objects.create(**tenant, turn=turn, context=CONTEXT.dump_python(SHOWN, mode="json"))
        RememberedAnswer.objects.create(
            **tenant, chatbot=bot, turn=turn, strategy=bot.live_strategy, question=f"{MARK}?", answer=MARK,
            embedding=UNIT, answer_embedding=UNIT, model="small", score=0.9, general=3.0, basis="", knowledge="",
            cost_micros=17, dearest_micros=34, expires_at=timezone.now(),
        )  # fmt: skip
        StrategyChange.objects.create(**tenant, chatbot=bot, kind="promoted", after=bot.live_strategy, by=MARK)
        ScorerCalibration.objects.get_or_create(**tenant, weights_version=MARK, expected_bad=0.2, expected_worth=10)
    return talk


def charge(turn: Turn, number: int, outcome: str) -> ledger.Charge:
    call = ModelCall.objects.create(
        tenant_id=turn.tenant_id, turn=turn, number=number, tier=number, model=["small", "large"][number],
        threshold=0.6, score=0.25 + number / 2, outcome=outcome, text=f"{MARK} draft {number}", cost_micros=17,
        input_tokens=100, output_tokens=7, seconds=1.5,
    )  # fmt: skip
    return ledger.Charge(
        call_id=call.id, conversation_id=turn.conversation_id, chatbot_id=turn.conversation.chatbot_id, number=number,
        tier=number, model=call.model, outcome=outcome, price_version="p", cost=Money(17), estimated=False,
        input_tokens=100, output_tokens=7,
    )  # fmt: skip


def logged_in(*memberships: tuple[Shop, str]) -> Client:
    user = User.objects.create_user(username=f"user{uuid7()}", password="a pass phrase")
    for shop, role in memberships:
        with in_tenant(shop.tenant_id):
            Member.objects.create(tenant_id=shop.tenant_id, user=user, role=role)
    client = Client()
    assert client.login(username=user.username, password="a pass phrase")
    return client


@pytest.fixture
def alice(shop) -> Client:
    return logged_in((shop, "owner"))


@pytest.fixture
def bob(shop) -> Client:
    return logged_in((shop, "support"))


@pytest.fixture
def charlie() -> Client:
    return logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner"))


def list_url(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def row_urls(shop: Shop, model) -> list[str]:
    with in_tenant(shop.tenant_id):
        keys = list(model._default_manager.values_list("pk", flat=True))
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    return [reverse(f"{name}_{page}", args=[key]) for key in keys for page in ("change", "delete", "history")]


def test_every_row_of_the_tenant_can_be_read_by_its_owner(shop, alice):
    assert alice.get(reverse("admin:index")).status_code == 200
    for model in site._registry:
        assert alice.get(list_url(model)).status_code == 200, model
        rows = row_urls(shop, model)
        assert rows, f"{model} has no row to look at"
        assert alice.get(rows[0]).status_code == 200, model


def test_every_page_stands_in_the_sidebar(shop, alice):
    page = alice.get(reverse("admin:index")).content.decode()
    for model in site._registry:
        assert f'href="{list_url(model)}"' in page, model


def test_whoever_logs_in_at_the_login_page_itself_is_led_to_the_overview(shop):
    User.objects.create_user("ann", password="a-good-password")
    answer = Client().post(reverse("admin:login"), {"username": "ann", "password": "a-good-password"})
    assert (answer.status_code, answer["Location"]) == (302, reverse("admin:index"))


def test_nothing_of_another_tenant_is_found_anywhere(shop, charlie):
    part = MARK[1:-1]  # what is searched for stands on the page again, what is found would be whole
    pages = [reverse("admin:index"), reverse("admin:money"), f"{reverse('admin:search')}?s={part}"]
    for model in site._registry:
        if model not in OPERATORS:
            pages += [list_url(model), f"{list_url(model)}?q={part}", *row_urls(shop, model)]
    assert len(pages) > 60
    for page in pages:
        for answer in (charlie.get(page, follow=True), charlie.post(page, {"name": "stolen", "post": "yes"})):
            assert answer.status_code in (200, 302, 403, 404, 405), page
            assert MARK not in answer.content.decode(), page
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get().name == MARK


def test_only_pages_bound_to_a_tenant_are_registered():
    assert len(site._registry) > 15
    assert all(isinstance(page, TenantAdmin) for page in site._registry.values())


def test_support_reads_conversations_and_neither_money_nor_keys(shop, bob):
    for model in site._registry:
        name = model._meta.model_name
        private = name in {"member", "apikey", "widget", "hold", "ledgerentry", "languagemodel", "price"}
        private = private or name in {"scorerversion", "shadowscore", "scorercalibration", "strategychange"}
        private = private or name in {"proposal", "shadowtrial", "driftreading"}
        private = private or name in {"statement", "export", "budget", "tariff"}
        private = private or name in {"auditentry", "webhook", "delivery"}
        assert bob.get(list_url(model)).status_code == (403 if private else 200), name
    assert "Balance" not in bob.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize("role", ["analyst", "support"])
def test_who_may_only_read_changes_nothing(shop, role):
    client = logged_in((shop, role))
    for model in site._registry:
        for url in row_urls(shop, model):
            if url.endswith("/delete/"):
                assert client.post(url, {"post": "yes"}).status_code == 403, url
            elif url.endswith("/change/"):
                assert client.post(url, {"name": "changed", "title": "changed"}).status_code == 403, url
        assert client.get(list_url(model) + "add/").status_code == 403


def test_the_books_are_read_only_even_for_the_owner(shop, alice):
    for name in ("ledgerentry", "hold"):
        model = next(model for model in site._registry if model._meta.model_name == name)
        change, delete, _ = row_urls(shop, model)[:3]
        assert alice.post(change, {"amount_micros": 1}).status_code == 403
        assert alice.post(delete, {"post": "yes"}).status_code == 403
    assert ledger.check(shop.tenant_id) == []


def test_the_owner_edits_a_chatbot_and_an_article_of_their_own_tenant(shop, alice):
    with in_tenant(shop.tenant_id):
        bot = Chatbot.objects.get()
    form = {
        "name": "Renamed", "instructions": "x", "tone": "", "hand_over_text": "y", "floor": "0.4",
        "stale_after": "1 00:00:00", "record_source_url": "", "record_source_ttl": "00:01:00", **UNCHANGED,
    }  # fmt: skip
    answer = alice.post(reverse("admin:cascade_chatbot_change", args=[bot.id]), form)
    assert answer.status_code == 302, answer.content.decode()
    article = {"chatbot": str(bot.id), "slug": "new", "title": "New", "body": "z"}
    assert alice.post(list_url(Article) + "add/", article).status_code == 302
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get().name == "Renamed"
        assert Article.objects.get(slug="new").tenant_id == shop.tenant_id


def test_a_new_record_source_gets_a_secret_that_is_shown_once(shop, alice):
    with in_tenant(shop.tenant_id):
        bot = Chatbot.objects.get()
    form = {
        "name": "x", "instructions": "x", "tone": "", "hand_over_text": "y", "floor": "0.4", **UNCHANGED,
        "stale_after": "1 00:00:00", "record_source_url": "https://a.example/records", "record_source_ttl": "00:01:00",
    }  # fmt: skip
    url = reverse("admin:cascade_chatbot_change", args=[bot.id])
    shown = re.search(r"whsec_[A-Za-z0-9+/=]+", alice.post(url, form, follow=True).content.decode())
    assert shown
    assert "whsec_" not in alice.post(url, form, follow=True).content.decode()
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get().record_source_secret is not None


TIER = {"model": "small", "threshold": 0.6, "deadline_seconds": 20, "max_output_tokens": 300}


def strategy_form(shop, tier) -> dict[str, str]:
    rows = {f"tiers-0-{column}": str(value) for column, value in tier.items()}
    return {"chatbot": str(shop.chatbot_id), "deadline_seconds": "60", **rows}


def test_an_owner_adds_a_strategy_and_makes_it_live(shop, alice):
    assert alice.post(list_url(CascadeStrategy) + "add/", strategy_form(shop, TIER)).status_code == 302
    with in_tenant(shop.tenant_id):
        made = CascadeStrategy.objects.get(version=2)
        assert (made.tenant_id, made.tiers) == (shop.tenant_id, [TIER])
    alice.post(reverse("admin:cascade_strategy_promote", args=[made.id]))
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get().live_strategy == made


@pytest.mark.parametrize(
    "change",
    [{"model": "unheard-of"}, {"threshold": 1.5}, {"threshold": "high"}, {"max_output_tokens": 0}],
    ids=str,
)
def test_a_strategy_that_could_not_be_asked_is_refused(shop, alice, change):
    answer = alice.post(list_url(CascadeStrategy) + "add/", strategy_form(shop, TIER | change))
    assert answer.status_code == 200
    with in_tenant(shop.tenant_id):
        assert CascadeStrategy.objects.count() == 1


def test_a_chatbot_never_lives_by_another_tenants_strategy(shop, charlie):
    with in_tenant(shop.tenant_id):
        foreign = CascadeStrategy.objects.get()
    assert (
        charlie.post(list_url(CascadeStrategy) + "add/", strategy_form(shop, TIER)).status_code == 200
    )  # no such chatbot for Charlie
    with in_tenant(shop.tenant_id):
        assert list(CascadeStrategy.objects.all()) == [foreign]


def test_a_new_tenant_sets_up_its_chatbot(shop, alice):
    widget, _, _ = create_widget(shop.tenant_id, ["https://a.example"])
    form = {
        "name": "Second", "widget": str(widget.id), "instructions": "x", "tone": "", "hand_over_text": "y",
        "floor": "0.4", "stale_after": "1 00:00:00", "record_source_url": "", "record_source_ttl": "00:01:00",
        **UNCHANGED,
    }  # fmt: skip
    assert alice.post(list_url(Chatbot) + "add/", form).status_code == 302
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get(name="Second").widget_id == widget.id


def test_a_conversation_tells_how_each_reply_was_made(shop, alice):
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.get()
    page = alice.get(reverse("admin:cascade_conversation_change", args=[talk.id])).content.decode()
    for told in (f"{MARK}? &lt;b&gt;", "score 0.250", "needs 0.600", "rejected", "accepted", "$0.000034", "liked",
                 f"{MARK} draft 0", "dropped history", "100 tokens in, 7 out", "to be good enough for this customer",
                 "What the models were shown", "order A-7", "desk lamp, 2", "How to return"):  # fmt: skip
        assert told in page, told


def test_the_inbox_adds_up_each_conversation_for_itself(shop, alice):
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.get()
        made = (talk.turns.count(), sum(call.cost_micros for call in ModelCall.objects.filter(turn__conversation=talk)))
        talk.id = uuid7()
        talk.save(force_insert=True)  # nothing was said in it
    rows = alice.get(list_url(Conversation)).context["cl"].result_list
    assert made[0]
    assert {(row.turn_total, row.cost_total) for row in rows} == {made, (0, None)}


def test_the_time_of_a_turn_is_told_step_by_step_and_comes_to_the_whole():
    begun = timezone.now()
    at = lambda seconds: begun + timedelta(seconds=seconds)  # noqa: E731
    turn = Turn(created_at=begun, closed_at=at(5))
    calls = [
        ModelCall(model="small", outcome="rejected", created_at=at(1), seconds=1.5, first_token_seconds=0.5),
        ModelCall(model="large", outcome="accepted", created_at=at(3), seconds=1.0),
        ModelCall(model="largest", outcome="explored", created_at=at(9), seconds=4.0),  # after the reply
    ]
    found = list(spans(turn, calls))
    assert [(span.name, span.starts, span.took) for span in found] == [
        ("records, articles, memory", 0, 1),
        *[("small", 1, 1.5), ("scoring", 2.5, 0.5), ("large", 3, 1), ("scoring and storing", 4, 1)],
    ]
    assert sum(span.width for span in found) == 100
    assert (found[1].left, found[1].wait_width) == (20, 10)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"outcome": "accepted", "threshold": 0, "finish_reason": "stop"}, "no score is asked for here"),
        ({"outcome": "rejected", "threshold": 0.5, "finish_reason": "length"}, "it was cut"),
        ({"outcome": "rejected", "threshold": 0, "finish_reason": "content-filter"}, "its provider filtered it"),
        ({"outcome": "rejected", "threshold": 0, "finish_reason": "stop"}, "it is empty"),
        ({"outcome": "rejected", "threshold": 0.5, "finish_reason": "given-up", "score": 0.1}, "score 0.100 so far"),
        ({"outcome": "rejected", "threshold": 0.5, "finish_reason": "stop"}, "what is not scored is never shown"),
    ],
)
def test_why_an_answer_was_shown_or_not_is_told_as_it_was(call, said):
    assert said in verdict(ModelCall(**call))


def test_the_ledger_shows_running_sum_and_totals(shop, alice):
    page = alice.get(list_url(next(m for m in site._registry if m._meta.model_name == "ledgerentry"))).content.decode()
    for told in ("$1.000000", "$0.999983", "$0.999966", "-$0.000034"):
        assert told in page, told


@pytest.mark.parametrize("name", ["conversation", "turn", "modelcall", "message", "feedback", "ledgerentry", "hold"])
def test_a_list_asks_as_many_queries_for_many_rows_as_for_few(shop, alice, name):
    url = list_url(next(model for model in site._registry if model._meta.model_name == name))
    alice.get(url)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert alice.get(url).status_code == 200
        return len(asked)

    few = queries()
    for number in range(4):
        converse(shop, f"another{number}")
    assert queries() <= few


def test_a_user_without_a_tenant_is_told_so_and_can_log_out():
    client = logged_in()
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 403
    assert "member of no tenant" in answer.content.decode()
    assert client.post(reverse("admin:logout")).status_code in (200, 302)
    assert client.get(reverse("admin:index")).status_code == 302


def test_a_superuser_without_a_tenant_sees_nothing_either(shop):
    User.objects.create_superuser("root", password="a pass phrase")
    client = Client()
    client.login(username="root", password="a pass phrase")
    for model in site._registry:
        assert client.get(list_url(model)).status_code == 403


def test_a_stranger_is_sent_to_the_login_page():
    answer = Client().get(reverse("admin:cascade_conversation_changelist"))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("admin:login"))


def test_a_revoked_membership_ends_at_once(shop, bob):
    assert bob.get(list_url(Conversation)).status_code == 200
    with in_tenant(shop.tenant_id):
        Member.objects.filter(role="support").delete()
    assert bob.get(list_url(Conversation)).status_code == 403


def test_who_has_two_tenants_sees_one_at_a_time_and_may_switch(shop):
    other = open_shop("second", "http://127.0.0.1:9/v1")
    client = logged_in((shop, "owner"), (other, "support"))
    assert MARK in client.get(list_url(Customer)).content.decode()
    assert client.post(reverse("admin:choose_tenant"), {"tenant": str(other.tenant_id)}).status_code == 302
    assert MARK not in client.get(list_url(Customer)).content.decode()
    assert client.get(list_url(next(m for m in site._registry if m._meta.model_name == "hold"))).status_code == 403


def test_nobody_switches_to_a_tenant_that_is_not_theirs(shop, charlie):
    assert charlie.post(reverse("admin:choose_tenant"), {"tenant": str(shop.tenant_id)}).status_code == 404
    assert MARK not in charlie.get(list_url(Customer)).content.decode()


def test_changes_leave_no_log_that_another_tenant_could_read(shop, alice):
    with in_tenant(shop.tenant_id):
        article = Article.objects.get()
    form = {"chatbot": str(article.chatbot_id), "slug": article.slug, "title": "Changed", "body": "z"}
    assert alice.post(reverse("admin:cascade_article_change", args=[article.id]), form).status_code == 302
    assert not LogEntry.objects.exists()


def test_secrets_are_on_no_page(shop, alice):
    from accounts.models import Widget

    with in_tenant(shop.tenant_id):
        widget = Widget.objects.get()
    page = alice.get(reverse("admin:accounts_widget_change", args=[widget.id])).content.decode()
    assert shop.kid in page
    assert shop.secret not in page
    assert "sealed" not in page.lower()


def test_what_is_changed_on_a_page_is_on_the_audit_log_with_who_did_it(shop, alice):
    with in_tenant(shop.tenant_id):
        article = Article.objects.get()
    form = {"chatbot": str(article.chatbot_id), "slug": article.slug, "title": "Changed", "body": "z"}
    assert alice.post(reverse("admin:cascade_article_change", args=[article.id]), form).status_code == 302
    with in_tenant(shop.tenant_id):
        entry = AuditEntry.objects.get(row_id=article.id, action="update", changes__has_key="body")
    assert (entry.actor, entry.address) == (f"user:{alice.session['_auth_user_id']}", "127.0.0.1")
    assert entry.changes["title"] == [MARK, "Changed"]
    page = alice.get(reverse("admin:accounts_auditentry_change", args=[entry.id]))
    assert "Changed" in page.content.decode()
