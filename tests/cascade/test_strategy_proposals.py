"""Optimise, replay and promote on a shop's own recorded turns: from the pages, and from the commands."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError
from django.urls import reverse
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade import strategies, strategy_proposals, strategy_replays
from cascade.models import CascadeStrategy, Chatbot, Proposal, StrategyChange
from cascade.strategy_proposals import Wish
from tests.cascade.recorded_turns import recorded_turns, remember
from tests.cast import open_shop
from tests.chatbackend.test_admin import logged_in
from tests.chatbackend.test_tasks import work

pytestmark = pytest.mark.usefixtures("database")
TOO_STRICT = 0.97  # of the live strategy's first model: dear answers are bought that were not needed


@pytest.fixture
def shop():
    return open_shop("alice", "http://127.0.0.1:9/v1", floor=0.3, thresholds=(TOO_STRICT, 0.3))


def chatbot_of(shop) -> Chatbot:
    with in_tenant(shop.tenant_id):
        return Chatbot.objects.select_related("live_strategy__chatbot").get(id=shop.chatbot_id)


def search(shop, wish=Wish()) -> Proposal:  # noqa: B008  frozen
    begun = strategy_proposals.begin(chatbot_of(shop), wish, "bob")
    return strategy_proposals.propose(shop.tenant_id, begun.id)


def test_a_cheaper_strategy_is_proposed_as_a_version_that_nobody_has_promoted(shop):
    recorded_turns(shop, 400, threshold=TOO_STRICT)
    found = search(shop)
    assert (found.state, found.percent, found.asked_by) == ("proposed", 100, "bob")
    assert found.strategy.version == 2
    assert [tier["model"] for tier in found.strategy.tiers] == ["small", "large"]
    assert found.strategy.tiers[0]["threshold"] < TOO_STRICT
    saved = found.report["saved"]
    assert 0.1 < saved["low"] <= saved["mean"] <= saved["high"]
    assert found.report["quality_difference"]["high"] > -0.01
    assert chatbot_of(shop).live_strategy.version == 1


def test_segments_that_differ_get_thresholds_of_their_own_which_page_and_next_search_go_by(shop):
    shop.change(reference_model="large")
    for name, skill in {"trade": -0.5, "home": 2.5}.items():  # the small model is nearly always right at home
        remember(recorded_turns(shop, 250, threshold=TOO_STRICT, share=1.0, skill=skill, segments=(name,)))
    found = search(shop, Wish(segments=True))
    assert found.state == "proposed", found.refusal
    first, last = found.strategy.tiers
    at_home = first["segments"]["home"]
    assert at_home < first["segments"].get("trade", first["threshold"])
    assert "segments" not in last
    assert f"home: {at_home:.4g}" in page_of(logged_in((shop, "analyst")), found)
    strategies.add_version(chatbot_of(shop), [first | {"segments": {}}, last], 60)
    month = timezone.now() - timedelta(days=30), timezone.now()
    by_segment, alike = (
        strategy_replays.compare(strategies.find(shop.tenant_id, "Alice", version), *month)["cost_micros"]["mean"]
        for version in (2, 3)
    )
    assert by_segment < alike
    strategies.promote(found.strategy, "bob")
    assert search(shop, Wish(segments=True)).state == "refused"


def test_the_same_turns_give_the_same_strategy(shop):
    recorded_turns(shop, 200, threshold=TOO_STRICT)
    one, two = search(shop), search(shop)
    assert one.report == two.report
    assert one.strategy.tiers == two.strategy.tiers


@pytest.mark.parametrize(
    ("count", "share", "said"),
    [(0, 0.5, "at least 50 are needed"), (30, 1.0, "at least 50 are needed"), (80, 0.0, "none of them was explored")],
)
def test_too_little_to_learn_from_is_refused_with_what_is_missing(shop, count, share, said):
    recorded_turns(shop, count, share=share)
    found = search(shop)
    assert (found.state, found.strategy) == ("refused", None)
    assert said in found.refusal
    with in_tenant(shop.tenant_id):
        assert CascadeStrategy.objects.count() == 1


def test_a_goal_out_of_reach_is_refused_with_how_far_one_comes(shop):
    recorded_turns(shop, 200)
    assert "the best reaches" in search(shop, Wish(quality=0.999)).refusal


def test_what_is_best_already_is_left_alone(shop):
    recorded_turns(shop, 400, threshold=TOO_STRICT)
    strategies.promote(search(shop).strategy, "bob")
    again = search(shop)
    assert (again.state, "cheaper at its quality" in again.refusal) == ("refused", True)
    assert again.report["turns"] == 400  # what was found stands there all the same


def test_one_search_of_a_chatbot_at_a_time_and_a_dead_one_blocks_for_half_an_hour_only(shop):
    begun = strategy_proposals.begin(chatbot_of(shop), Wish(), "bob")
    with pytest.raises(strategy_proposals.Searching):
        strategy_proposals.begin(chatbot_of(shop), Wish(), "bob")
    with in_tenant(shop.tenant_id):
        long_ago = timezone.now() - strategy_proposals.INTERRUPTED_AFTER
        Proposal.objects.filter(id=begun.id).update(updated_at=long_ago)
    strategy_proposals.begin(chatbot_of(shop), Wish(), "bob")


def test_the_whole_way_from_the_pages(shop):
    """Begin a search, watch it, read it, replay last week through it, promote it, roll back."""
    recorded_turns(shop, 400, threshold=TOO_STRICT)
    lead = logged_in((shop, "admin"))
    assert "Search the last 90 days" in lead.get(reverse("admin:cascade_proposal_changelist")).content.decode()
    form = {"chatbot": str(shop.chatbot_id), "aim": "cheaper"}
    waiting = lead.post(reverse("admin:cascade_proposal_begin"), form, follow=True)
    assert "it begins when the worker is free" in waiting.content.decode()
    assert work() == {"optimise_cascade": "succeeded"}
    with in_tenant(shop.tenant_id):
        proposal = Proposal.objects.select_related("strategy").get()
    page = lead.get(reverse("admin:cascade_proposal_change", args=[proposal.id])).content.decode()
    for told in ("Expected saving", "<svg", "US dollars", "live v1", "What would change", "0.97", "stand for all"):
        assert told in page, told
    sent = lead.get(reverse("admin:cascade_proposal_report", args=[proposal.id, "html"])).content.decode()
    assert "Expected saving" in sent
    assert "asked again by <code>manage.py optimise_cascade TENANT" in sent
    assert not re.search("<(?:script|link|img|form)|href=|url\\(", sent)  # one page, which fetches nothing
    told = lead.get(reverse("admin:cascade_proposal_report", args=[proposal.id, "json"])).json()
    assert (told["proposed"]["version"], told["report"]) == (2, proposal.report)
    replay = reverse("admin:cascade_strategy_replay") + f"?strategy={proposal.strategy_id}"
    replayed = lead.get(replay).content.decode()
    assert "Replayed from what was explored" in replayed
    promote = reverse("admin:cascade_strategy_promote", args=[proposal.strategy_id])
    assert promote in page
    lead.post(promote)
    assert chatbot_of(shop).live_strategy_id == proposal.strategy_id
    lead.post(reverse("admin:cascade_strategy_rollback", args=[proposal.strategy_id]))
    assert chatbot_of(shop).live_strategy.version == 1
    with in_tenant(shop.tenant_id):
        assert [change.kind for change in StrategyChange.objects.order_by("created_at")] == ["promoted", "rolled_back"]


def test_a_promise_on_bad_answers_makes_every_model_as_strict_as_it_takes(shop):
    recorded_turns(shop, 500, threshold=TOO_STRICT, rated=1.0)
    found = search(shop, Wish("promise", most_bad=0.03, confidence=0.8))
    assert found.state == "proposed", found.refusal
    promise = found.report["promise"]
    assert {tier["threshold"] for tier in found.strategy.tiers} == {promise["threshold"]}
    assert promise["bad"] / promise["accepted"] < 0.03
    assert promise["threshold"] > 0.3
    page = page_of(logged_in((shop, "analyst")), found)
    assert "at most 3.0 % of the answers shown are bad, with 80.0 % confidence" in page
    assert "set the floor" in page  # 0.3 would let bad ones pass


@pytest.mark.parametrize("reference", ["", "large"])
def test_no_promise_is_made_on_what_the_scorer_believes(shop, reference):
    """Nor on what a dearer model said."""
    shop.change(reference_model=reference)
    remember(recorded_turns(shop, 400, threshold=TOO_STRICT))  # nobody judged anything
    found = search(shop, Wish("promise"))
    assert (found.state, found.strategy) == ("refused", None)
    assert "at most 5% bad with 95% confidence needs 118 labelled answers, there are 0" in found.refusal


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_search_that_breaks_off_is_over(shop):
    recorded_turns(shop, 200, threshold=TOO_STRICT)
    free = Wish(quality=0.5, prices={"large": 0})
    begun = strategy_proposals.begin(chatbot_of(shop), free, "bob")
    with pytest.raises(DataError):  # a share of nothing is no number: it cannot be kept
        strategy_proposals.propose(shop.tenant_id, begun.id)
    with in_tenant(shop.tenant_id):
        assert Proposal.objects.get().state == "failed"


def test_what_another_market_would_bring_is_told_and_nothing_is_proposed(shop):
    recorded_turns(shop, 300, threshold=TOO_STRICT)
    lead = logged_in((shop, "admin"))
    form = {"chatbot": str(shop.chatbot_id), "aim": "cheaper", "repriced": "large", "times": "0.5"}
    form |= {"assumed_quality": "97", "assumed_dollars": "0.2", "like": "large"}
    lead.post(reverse("admin:cascade_proposal_begin"), form)
    assert work() == {"optimise_cascade": "succeeded"}
    with in_tenant(shop.tenant_id):
        found = Proposal.objects.get()
        assert CascadeStrategy.objects.count() == 1
    assert (found.state, found.strategy) == ("proposed", None)
    costs = {model["model"]: model["cost_micros"] for model in found.report["models"]}
    assert (round(costs["large"]), round(costs["the assumed model"])) == (1500, 200)
    page = page_of(lead, found)
    for told in ("What if", "Is another model worth it?", "large costs 0.5 times as much", "97.0 %", "$0.2000"):
        assert told in page, told
    assert "Promote" not in page


def test_of_each_model_it_is_told_whether_it_is_worth_its_place(shop):
    recorded_turns(shop, 400, threshold=TOO_STRICT)
    told = {each["model"]: each["verdict"] for each in search(shop).report["worth"]}
    assert told == {"small": "yes: cheaper with it", "large": "a trade: better with it, and dearer"}


def test_a_refusal_is_told_on_the_page(shop):
    lead = logged_in((shop, "owner"))
    refused = search(shop)
    assert "At least 50" in page_of(lead, refused).replace("at least 50", "At least 50")


def page_of(client, proposal) -> str:
    return client.get(reverse("admin:cascade_proposal_change", args=[proposal.id])).content.decode()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"aim": "cheaper", "dollars": "1"}, "or look for: More quality for the same cost"),
        ({"aim": "cheaper", "most_bad": "3"}, "or look for: A promise on bad answers"),
        ({"aim": "better", "quality": "90"}, "or look for: The same quality for less"),
        ({"aim": "better", "confidence": "90"}, "or look for: A promise on bad answers"),
        ({"aim": "promise", "quality": "90"}, "or look for: The same quality for less"),
        ({"aim": "promise", "segments": "on"}, "less or More quality for the same cost"),
        ({"aim": "promise", "dollars": "1"}, "or look for: More quality for the same cost"),
        ({"aim": "promise", "seconds": "5"}, "less or More quality for the same cost"),
        ({"aim": "cheaper", "times": "2"}, "which model and how many times its price"),
        ({"aim": "cheaper", "like": "large"}, "its quality, its cost and which model it is like"),
        ({"aim": "promise", "repriced": "large", "times": "2"}, "not on what might be"),
        ({"aim": "cheaper", "repriced": "large", "times": "0"}, "greater than or equal to 0.001"),
        ({"aim": "better", "dollars": "much"}, "an amount like 2.50"),
        ({"aim": "better", "dollars": "Infinity"}, "an amount like 2.50"),
        ({"aim": "better", "dollars": "-5"}, "an amount above 0"),
        ({"aim": "better", "dollars": "0"}, "an amount above 0"),
        ({"aim": "better", "dollars": "1e30"}, "up to 1,000,000"),
        ({"aim": "cheaper", "assumed_dollars": "0"}, "an amount above 0"),
        ({"aim": "cheaper", "quality": "140"}, "less than or equal to 100"),
        ({"aim": "cheaper", "seconds": "0"}, "greater than or equal to 0.1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_at_once(shop, wrong, said):
    lead = logged_in((shop, "owner"))
    form = {"chatbot": str(shop.chatbot_id)} | wrong
    assert said in lead.post(reverse("admin:cascade_proposal_begin"), form, follow=True).content.decode()
    with in_tenant(shop.tenant_id):
        assert not Proposal.objects.exists()


def test_who_does_not_lead_searches_nothing_and_nobody_searches_another_tenants_turns(shop):
    begin = reverse("admin:cascade_proposal_begin")
    form = {"chatbot": str(shop.chatbot_id), "aim": "cheaper"}
    assert logged_in((shop, "analyst")).post(begin, form).status_code == 403
    charlie = logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner"))
    assert "not one of the available choices" in charlie.post(begin, form, follow=True).content.decode()


def run(command: str, *arguments: str) -> str:
    told = io.StringIO()
    call_command(command, *arguments, stdout=told, stderr=io.StringIO())
    return told.getvalue()


def test_the_commands_propose_and_replay(shop):
    recorded_turns(shop, 200, threshold=TOO_STRICT)
    assert "proposed  v2  small" in run("optimise_cascade", "alice", "Alice")
    told = run("replay_strategy", "alice", "Alice", "2")
    assert told.startswith("200 turns: ")
    assert "cannot be replayed" in told
    report = json.loads(run("replay_strategy", "alice", "Alice", "2", "--json"))
    assert report["as_recorded"] + report["by_exploring"] + report["unknown"] == report["turns"] == 200
    for wrong in (
        ("replay_strategy", "alice", "Alice", "9"),
        ("optimise_cascade", "alice", "Alice", "--quality", "7"),
        ("optimise_cascade", "alice", "Alice", "--better", "--quality", "0.9"),
        ("optimise_cascade", "alice", "Alice", "--dollars", "5"),
    ):
        with pytest.raises(CommandError):
            run(*wrong)
