"""Which strategy a chatbot lives by: versions never change, every change is on record, and going back is one step."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError
from django.urls import reverse
from django.utils import timezone

from accounts.models import Customer
from accounts.tenancy import in_tenant
from cascade import material, strategies
from cascade.models import CascadeStrategy, Chatbot, Conversation, StrategyChange
from tests.cast import open_shop
from tests.chatbackend.test_admin import UNCHANGED, logged_in

pytestmark = pytest.mark.usefixtures("database")
TIER = {"model": "large", "threshold": 0.7, "deadline_seconds": 10, "max_output_tokens": 100}


@pytest.fixture
def shop():
    return open_shop("alice", "http://127.0.0.1:9/v1")


def chatbot_of(shop) -> Chatbot:
    with in_tenant(shop.tenant_id):
        return Chatbot.objects.select_related("live_strategy").get(id=shop.chatbot_id)


def add(shop, tiers=(TIER,)) -> CascadeStrategy:
    return strategies.add_version(chatbot_of(shop), tiers, 60)


def live_version(shop) -> int:
    return chatbot_of(shop).live_strategy.version


def log_of(shop) -> list[tuple[str, str, str]]:
    with in_tenant(shop.tenant_id):
        changes = StrategyChange.objects.select_related("before__chatbot", "after__chatbot").order_by("created_at")
        return [(change.kind, str(change), change.by) for change in changes]


def test_promotions_and_roll_backs_are_on_record_with_who_and_from_what_to_what(shop):
    strategies.promote(add(shop), "bob")
    strategies.rollback(chatbot_of(shop), "alice")
    assert live_version(shop) == 1
    assert log_of(shop) == [
        ("promoted", "Alice v1 → Alice v2", "bob"),
        ("rolled_back", "Alice v2 → Alice v1", "alice"),
    ]


def test_rolling_back_twice_goes_back_twice_and_not_forth(shop):
    for _ in range(2):
        strategies.promote(add(shop), "bob")
    assert live_version(shop) == 3
    strategies.rollback(chatbot_of(shop), "bob")
    assert live_version(shop) == 2
    strategies.rollback(chatbot_of(shop), "bob")
    assert live_version(shop) == 1
    with pytest.raises(strategies.NotChanged, match="no earlier strategy"):
        strategies.rollback(chatbot_of(shop), "bob")


def test_what_is_live_is_not_promoted_again(shop):
    with pytest.raises(strategies.NotChanged, match="live already"):
        strategies.promote(chatbot_of(shop).live_strategy, "bob")
    assert log_of(shop) == []


def test_the_record_of_changes_is_never_changed(shop):
    strategies.promote(add(shop), "bob")
    for deed in (lambda: StrategyChange.objects.update(by="eve"), lambda: StrategyChange.objects.all().delete()):
        with pytest.raises(ProgrammingError, match="permission denied"), in_tenant(shop.tenant_id):
            deed()


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ([], "1 to 10 tiers"),
        ([TIER | {"model": "unheard-of"}], "not offered, or without a price: unheard-of"),
        ([TIER, TIER | {"threshold": 2}], "tier 2 needs a threshold from 0 to 1"),
        ([TIER | {"segments": {"trade": 1.1}}, TIER], "tier 1 needs one threshold from 0 to 1 for segment trade"),
        ([TIER | {"segments": ["trade"]}, TIER], "tier 1 needs segments by name"),
        ([TIER | {"segments": {"\0": 0.5}}, TIER], "tier 1 needs a segment's name"),
        ([TIER | {"segments": {" trade": 0.5}}, TIER], "without blanks around it"),
        ([TIER, TIER | {"segments": {"trade": 0.5}}], "tier 2 is the last: the chatbot's floor is its threshold"),
    ],
)
def test_tiers_that_could_not_be_asked_become_no_version(shop, tiers, said):
    with pytest.raises(strategies.UnfitTiers, match=said):
        add(shop, tiers)


def test_a_member_with_the_role_promotes_and_rolls_back_with_one_click_and_no_other_does(shop):
    wanted = add(shop)
    lead, support = logged_in((shop, "admin")), logged_in((shop, "support"))
    promote = reverse("admin:cascade_strategy_promote", args=[wanted.id])
    rollback = reverse("admin:cascade_strategy_rollback", args=[wanted.id])
    assert support.post(promote).status_code == support.post(rollback).status_code == 403
    assert live_version(shop) == 1
    page = lead.get(reverse("admin:cascade_cascadestrategy_change", args=[wanted.id])).content.decode()
    assert promote in page
    assert "Nobody has changed the live version" in page
    assert lead.get(promote).status_code == 405
    assert "answers from the next turn on" in lead.post(promote, follow=True).content.decode()
    assert live_version(shop) == 2
    assert "Alice v1 answers" in lead.post(rollback, follow=True).content.decode()
    assert live_version(shop) == 1
    assert "no earlier strategy" in lead.post(rollback, follow=True).content.decode()


def test_nobody_changes_another_tenants_strategy(shop):
    wanted = add(shop)
    charlie = logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner"))
    assert charlie.post(reverse("admin:cascade_strategy_promote", args=[wanted.id])).status_code == 404
    assert live_version(shop) == 1


def test_customers_of_a_segment_are_held_to_the_thresholds_of_their_own(shop):
    small = TIER | {"model": "small", "threshold": 0.5, "segments": {"trade": 0.9}}
    strategies.promote(add(shop, [small, TIER]), "bob")
    asked = {}
    for segment in ("trade", "home"):
        with in_tenant(shop.tenant_id):
            who = Customer.objects.create(
                tenant_id=shop.tenant_id, external_id=segment, attributes={"segment": segment}
            )
            talk = Conversation.objects.create(tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer=who)
            gathered = material.gather(chatbot_of(shop), who, talk, "What does it cost?", timezone.now())
        asked[segment] = [tier.threshold for tier in gathered.strategy.tiers]
    floor = chatbot_of(shop).floor
    assert asked == {"trade": [0.9, floor], "home": [0.5, floor]}


def test_a_person_writes_other_thresholds_a_line_for_each_segment(shop):
    lead, bot = logged_in((shop, "owner")), chatbot_of(shop)
    tiers = [TIER | {"model": "small"}, TIER]
    form = {f"tiers-{row}-{column}": value for row, tier in enumerate(tiers) for column, value in tier.items()}
    form |= {"chatbot": str(bot.id), "deadline_seconds": "60"}
    url = reverse("admin:cascade_cascadestrategy_add")
    wrong = lead.post(url, form | {"tiers-0-segments": "trade"}).content.decode()
    assert "needs one threshold from 0 to 1 for segment trade" in wrong
    assert "for segment 0.7" in lead.post(url, form | {"tiers-0-segments": "0.7"}).content.decode()
    twice = lead.post(url, form | {"tiers-0-segments": "trade 0.9\ntrade 0.8"}).content.decode()
    assert "needs one threshold from 0 to 1 for segment trade" in twice
    lead.post(url, form | {"tiers-0-segments": "trade 0.9\nsmall shops 0.2\n"})
    with in_tenant(shop.tenant_id):
        made = CascadeStrategy.objects.get(version=2)
    assert made.tiers[0]["segments"] == {"trade": 0.9, "small shops": 0.2}
    assert "segments" not in made.tiers[1]
    assert "trade 0.9\nsmall shops 0.2" in lead.get(f"{url}?from={made.id}").content.decode()
    shown = lead.get(reverse("admin:cascade_cascadestrategy_change", args=[made.id])).content.decode()
    assert "small shops: 0.2" in shown


def test_a_new_version_begins_with_what_another_one_says(shop):
    lead = logged_in((shop, "owner"))
    live = chatbot_of(shop).live_strategy
    page = lead.get(reverse("admin:cascade_cascadestrategy_add") + f"?from={live.id}").content.decode()
    assert "<option selected>small</option>" in page
    assert 'name="tiers-1-threshold" value="0.5"' in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"explored_share": "0.1"}, "say what exploring may cost a day"),
        ({"explored_models": "large,unheard-of"}, "unheard-of is not offered"),
        ({"reference_model": "unheard-of"}, "there are large, small"),
        ({"explored_share": "1.5"}, "less than or equal to 1"),
    ],
)
def test_what_is_explored_must_be_there_and_bounded(shop, change, said):
    lead, bot = logged_in((shop, "owner")), chatbot_of(shop)
    form = {
        "name": "Alice", "instructions": "x", "tone": "", "hand_over_text": "y", "floor": "0.4",
        "stale_after": "1 00:00:00", "record_source_url": "", "record_source_ttl": "00:01:00", **UNCHANGED, **change,
    }  # fmt: skip
    answer = lead.post(reverse("admin:cascade_chatbot_change", args=[bot.id]), form)
    assert said in answer.content.decode()


def run(*arguments: str) -> str:
    told = io.StringIO()
    call_command("strategy", *arguments, stdout=told)
    return told.getvalue()


def test_the_command_does_what_the_page_does(shop):
    add(shop)
    assert "v1    live  small (≥ 0.5) → large (≥ 0.5)" in run("list", "alice", "Alice")
    assert "v2 answers" in run("promote", "alice", "Alice", "2")
    assert "v1 answers" in run("rollback", "alice", str(shop.chatbot_id))
    assert run("log", "alice", "Alice").count("by ") == 2
    for wrong, said in {"Bob": "no chatbots are called Bob", "Alice": "has no strategy v9"}.items():
        with pytest.raises(CommandError, match=said):
            run("promote", "alice", wrong, "9")
