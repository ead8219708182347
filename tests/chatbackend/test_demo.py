"""The demo: a shop whose dates never grow old, customers who are who they are, and a panel for the demo alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import ledger
from accounts.auth import find_widget, identify
from accounts.ledger import available
from accounts.models import Customer, CustomerRecord, LedgerEntry, Widget
from accounts.money import Money
from accounts.pinned import signature
from accounts.sealing import unseal
from accounts.tenancy import in_tenant
from cascade.context import Instructions, build
from cascade.models import Article, CascadeStrategy, Chatbot, Conversation, ModelCall, Price, Turn
from cascade.price_list import offers
from cascade.values import Context, Passage, Record
from cascade.values import Customer as CustomerValue
from chatbackend.demo import seeding, shop, tiers
from tests.accounts.books import charge, held_turn
from tests.cast import open_shop

TODAY = date(2026, 11, 22)


@pytest.fixture
def seeded(database) -> Client:
    call_command("seed_demo", stdout=StringIO())
    return Client()


# --- the shop as values ---------------------------------------------------------------------


def test_dates_are_counted_from_today():
    told, later = shop.load(TODAY), shop.load(TODAY + timedelta(days=30))
    assert told.customer("amira").orders[0].data["expected_on"] == "2026-11-23"
    assert later.customer("amira").orders[0].data["expected_on"] == "2026-12-23"


def test_the_same_lamp_may_be_returned_under_one_plan_and_not_under_another():
    plus, basic = (shop.load(TODAY).customer(name).orders[0].data for name in ("jonas", "diego"))
    assert plus["delivered_on"] == basic["delivered_on"]
    assert basic["return_possible_until"] < TODAY.isoformat() < plus["return_possible_until"]


def test_all_articles_and_orders_fit_the_prompt():
    told, now = shop.load(TODAY), datetime(2026, 11, 22, 12, tzinfo=UTC)
    passages = tuple(Passage(article.slug, article.title, article.body) for article in told.articles)
    for shopper in told.customers:
        records = tuple(Record("order", order.external_id, now, order.data) for order in shopper.orders)
        customer = CustomerValue(shopper.external_id, True, "en", shopper.attributes, records)
        built = build(Context(customer, "Where is my order?", now, passages=passages), Instructions("x"),
                      input_token_budget=2500)  # fmt: skip
        assert built.report.complete, shopper.external_id


def test_every_model_on_the_list_has_a_price():
    assert all(offer.price.input > 0 and offer.price.output > 0 for offer in offers(datetime.now(UTC)))


def test_a_provider_whose_key_is_set_joins_as_a_dearer_tier(settings):
    settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY = "", ""
    local = {tier["model"] for tier in tiers.tiers(datetime.now(UTC))}
    settings.ANTHROPIC_API_KEY = "a key"
    joined = [tier["model"] for tier in tiers.tiers(datetime.now(UTC)) if tier["model"] not in local]
    assert joined == ["anthropic/claude-haiku-5-5", "anthropic/claude-sonnet-5-5"]


# --- seeding ----------------------------------------------------------------------------------


def test_seeding_twice_changes_nothing_but_the_time(seeded):
    def count() -> dict[str, int]:
        with in_tenant(shop.TENANT_ID):
            found = (Customer, CustomerRecord, Article, Chatbot, CascadeStrategy, Widget, LedgerEntry)
            return {model.__name__: model.objects.count() for model in found} | {"Price": Price.objects.count()}

    before = count()
    call_command("seed_demo", stdout=StringIO())
    assert count() == before
    assert before["Customer"] == 6
    assert before["Article"] == 15
    assert available(shop.TENANT_ID) == seeding.CREDIT
    assert ledger.check(shop.TENANT_ID) == []


def test_other_tiers_are_another_version_of_the_strategy(seeded, settings):
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        setattr(settings, key, "a key")
        call_command("seed_demo", stdout=StringIO())
        with in_tenant(shop.TENANT_ID):
            newest = CascadeStrategy.objects.latest("version")
            assert newest.version == CascadeStrategy.objects.count()
            assert Chatbot.objects.get().live_strategy == newest
            assert newest.tiers == tiers.tiers(datetime.now(UTC))


def test_a_public_server_is_never_seeded_with_a_known_password(database, settings):
    settings.DEMO = False
    with pytest.raises(CommandError, match="well-known password"):
        call_command("seed_demo")


def test_without_the_demo_none_of_its_pages_exist():
    told = subprocess.run(
        [sys.executable, "-c", "import django; django.setup(); from chatbackend.urls import urlpatterns\n"
         "print([str(it.pattern) for it in urlpatterns])"],
        env={**os.environ, "DEMO": "0", "DJANGO_SETTINGS_MODULE": "chatbackend.settings"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "demo" not in told.stdout
    assert "healthz" in told.stdout


# --- the pages ----------------------------------------------------------------------------------


def test_health_answers_while_the_database_does(database):
    assert Client().get("/healthz").json() == {"status": "ok"}


def test_the_page_offers_every_customer_and_the_widget(seeded):
    page = seeded.get("/").content.decode()
    for shopper in shop.load(datetime.now(UTC).date()).customers:
        assert shopper.attributes["name"] in page
    with in_tenant(shop.TENANT_ID):
        assert f'data-key="{Widget.objects.get().public_key}"' in page


def test_without_its_shop_the_page_says_what_to_do(database):
    answer = Client().get("/")
    assert answer.status_code == 503
    assert "seed_demo" in answer.content.decode()


def test_the_picked_customer_is_who_the_widget_signs_in(seeded):
    jwt = seeded.post("/demo/identity", {"customer": "jonas"}).json()["jwt"]
    with in_tenant(shop.TENANT_ID):
        door = find_widget(Widget.objects.get().public_key)
    caller = identify(door, jwt, None)
    assert (caller.external_id, caller.verified) == ("jonas", True)
    assert seeded.post("/demo/identity", {"customer": "nobody"}).status_code == 404


def test_identities_are_not_given_to_other_sites(seeded):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post("/demo/identity", {"customer": "jonas"}).status_code == 403


def ask_records(client: Client, customer: str, secret: bytes | None = None, age: int = 0):
    with in_tenant(shop.TENANT_ID):
        secret = secret or unseal(Chatbot.objects.get().record_source_secret)
    body = json.dumps({"customer_id": customer, "question": "?"})
    sent = int(time.time()) - age
    headers = {"webhook-id": "m1", "webhook-timestamp": str(sent),
               "webhook-signature": signature(secret, "m1", sent, body.encode())}  # fmt: skip
    return client.post("/demo/records", body, content_type="application/json", headers=headers)


def test_the_record_source_tells_one_customers_current_orders(seeded):
    told = ask_records(seeded, "tunde").json()["records"]
    assert [record["external_id"] for record in told] == ["LF-20190", "LF-18755"]
    assert ask_records(seeded, "a stranger").json() == {"records": []}


def test_the_record_source_answers_only_to_a_fresh_and_right_signature(seeded):
    assert ask_records(seeded, "tunde", secret=b"another").status_code == 401
    assert ask_records(seeded, "tunde", age=3600).status_code == 401
    assert seeded.post("/demo/records", "{}", content_type="application/json").status_code == 401


def test_the_panel_tells_tiers_scores_cost_and_balance(seeded):
    with in_tenant(shop.TENANT_ID):
        bot, jonas = Chatbot.objects.get(), Customer.objects.get(external_id="jonas")
        talk = Conversation.objects.create(tenant_id=shop.TENANT_ID, chatbot=bot, customer=jonas)
        turn = Turn.objects.create(tenant_id=shop.TENANT_ID, conversation=talk, client_id="1", process_key=1,
                                   strategy=bot.live_strategy, state="answered")  # fmt: skip
        for number, score in enumerate([0.2, 0.9]):
            ModelCall.objects.create(
                tenant_id=shop.TENANT_ID, turn=turn, number=number, tier=number, model=f"m{number}", threshold=0.6,
                score=score, outcome="rejected" if number == 0 else "accepted", cost_micros=21,
            )  # fmt: skip
    judged = charge(2, source="scorer", number=2)
    ledger.settle(shop.TENANT_ID, held_turn(shop.TENANT_ID, 100, turn.id), [judged])
    told = seeded.get(f"/demo/turns/{turn.id}").json()
    assert [(it["model"], it["outcome"], it["cost"]) for it in told["attempts"]] == [
        ("m0", "rejected", "0.000021"),
        ("m1", "accepted", "0.000021"),
    ]
    assert (told["cost"], told["computed"]) == ("0.000044", "0.000002")
    assert told["balance"] == str(Money.from_usd(25) - Money(2))


def test_the_panel_knows_no_turn_of_another_tenant(seeded):
    other = open_shop("charlie", "http://127.0.0.1:9/v1")
    caller = other.caller()
    with in_tenant(other.tenant_id):
        talk = Conversation.objects.create(
            tenant_id=other.tenant_id, chatbot_id=other.chatbot_id, customer_id=caller.customer_id
        )
        turn = Turn.objects.create(tenant_id=other.tenant_id, conversation=talk, client_id="1", process_key=1)
    assert seeded.get(f"/demo/turns/{turn.id}").status_code == 404
