"""Another strategy beside what was done: in the past, and in the shadow, compared once at the end."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade import exploration, strategies, strategy_replays
from cascade.learning.table import BadTable
from cascade.models import CascadeStrategy, Chatbot, ModelCall, ShadowTrial, Turn
from tests.cascade.recorded_turns import COSTS, recorded_turns
from tests.cast import open_shop
from tests.chatbackend.test_admin import logged_in

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop():
    return open_shop("alice", "http://127.0.0.1:9/v1", floor=0.3, thresholds=(0.5, 0.3))


def version(shop, *tiers: tuple[str, float]) -> CascadeStrategy:
    with in_tenant(shop.tenant_id):
        chatbot = Chatbot.objects.select_related("live_strategy").get()
        written = [
            {"model": model, "threshold": threshold, "deadline_seconds": 10, "max_output_tokens": 100}
            for model, threshold in tiers
        ]
        return strategies.add_version(chatbot, written, 60)


def live(shop) -> CascadeStrategy:
    with in_tenant(shop.tenant_id):
        return CascadeStrategy.objects.select_related("chatbot__live_strategy").get(version=1)


def replayed(strategy, **of_the_period) -> dict:
    now = timezone.now()
    return strategy_replays.compare(strategy, now - timedelta(days=30), now, **of_the_period)


def test_the_live_strategy_replays_to_what_was_done(shop):
    recorded_turns(shop, 300)
    report = replayed(live(shop))
    assert (report["as_recorded"], report["unknown"]) == (300, 0)
    assert report["quality_difference"] == {"mean": 0, "low": 0, "high": 0}
    assert report["saved"]["mean"] == pytest.approx(0)


def test_every_turn_is_counted_as_replayed_or_as_what_cannot_be(shop):
    recorded_turns(shop, 300, share=0.2)
    report = replayed(version(shop, ("small", 0.9), ("large", 0.3)))
    assert report["as_recorded"] + report["by_exploring"] + report["unknown"] == report["turns"] == 300
    assert min(report["as_recorded"], report["by_exploring"], report["unknown"]) > 0
    assert report["unrepresented"] == 0


def test_what_was_explored_speaks_for_what_was_not(shop):
    """A tenth explored estimates the cost of asking the dear model always, which is known."""
    recorded_turns(shop, 500, share=0.1)
    report = replayed(version(shop, ("large", 0.3)))
    assert report["unknown"] > 150
    assert report["cost_micros"]["mean"] == pytest.approx(COSTS["large"], rel=0.01)
    everything = open_shop("charlie", "http://127.0.0.1:9/v1", floor=0.3)
    recorded_turns(everything, 500, share=1.0)
    truth = replayed(version(everything, ("large", 0.3)))
    assert report["quality"]["low"] - 0.02 <= truth["quality"]["mean"] <= report["quality"]["high"] + 0.02


def test_where_nothing_was_explored_the_figures_say_whom_they_leave_out(shop):
    recorded_turns(shop, 200, share=0.0)
    report = replayed(version(shop, ("small", 0.9), ("large", 0.3)))
    assert report["unrepresented"] == report["unknown"] > 0


def test_a_model_that_nobody_asked_and_an_empty_period_are_refused_in_words(shop):
    with pytest.raises(BadTable, match="no turn of this period"):
        replayed(live(shop))
    recorded_turns(shop, 20)
    with in_tenant(shop.tenant_id):
        ModelCall.objects.filter(model="large").delete()
    with pytest.raises(BadTable, match="nobody has asked large"):
        replayed(version(shop, ("large", 0.3)))


def test_the_replay_page_is_for_who_may_read_the_books(shop):
    recorded_turns(shop, 60)
    url = reverse("admin:cascade_strategy_replay")
    assert logged_in((shop, "support")).get(url).status_code == 403
    analyst = logged_in((shop, "analyst"))
    assert "Choose a version and a period" in analyst.get(url).content.decode()
    asked = {"strategy": str(live(shop).id), "since": "2026-01-01", "until": "2025-01-01"}
    assert "before the first" in analyst.get(url, asked).content.decode()
    asked |= {"since": "2024-01-01"}
    assert "No turn of this period" in analyst.get(url, asked).content.decode()
    charlie = logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner"))
    assert "not one of the available choices" in charlie.get(url, asked).content.decode()


# --- in the shadow --------------------------------------------------------------------------


def trial_of(shop) -> ShadowTrial:
    with in_tenant(shop.tenant_id):
        return ShadowTrial.objects.get()


def begin(shop, turns=100) -> ShadowTrial:
    begun = strategy_replays.begin(version(shop, ("small", 0.9), ("large", 0.3)), turns, "bob")
    with in_tenant(shop.tenant_id):
        ShadowTrial.objects.update(created_at=timezone.now() - timedelta(days=10))
    return begun


def happen(shop, count) -> None:
    recorded_turns(shop, count, until=timezone.now() - timedelta(hours=2), over=timedelta(days=5))


def test_a_shadow_is_compared_once_when_its_turns_are_over_and_tells_nothing_before(shop):
    begin(shop, turns=100)
    happen(shop, 60)
    assert strategy_replays.compare_due(shop.tenant_id) == 0
    lead = logged_in((shop, "owner"))
    page = lead.get(reverse("admin:cascade_shadowtrial_change", args=[trial_of(shop).id])).content.decode()
    assert "60 of 100 turns" in page
    assert "Saving" not in page
    happen(shop, 80)
    assert strategy_replays.compare_due(shop.tenant_id) == 1
    done = trial_of(shop)
    assert (done.state, done.report["turns"]) == ("compared", 100)  # and not the 140 that there were
    assert strategy_replays.compare_due(shop.tenant_id) == 0
    page = lead.get(reverse("admin:cascade_shadowtrial_change", args=[done.id])).content.decode()
    assert "Saving" in page
    assert "Promote" in page


def test_a_shadow_ends_when_the_live_strategy_changes(shop):
    begin(shop)
    strategies.promote(version(shop, ("large", 0.3)), "bob")
    assert strategy_replays.compare_due(shop.tenant_id) == 1
    assert trial_of(shop).report["refusal"] == "the live strategy was changed before the trial was over"


def test_explored_turns_ask_the_shadows_models_too(shop):
    begin(shop)
    with in_tenant(shop.tenant_id):
        assert exploration.extra_models(Chatbot.objects.get()) == ["small", "large"]


def test_one_shadow_at_a_time_beside_another_version_for_enough_turns(shop):
    for strategy, turns, said in ((live(shop), 100, "is live"), (version(shop, ("large", 0.3)), 49, "50 to 5000")):
        with pytest.raises(strategy_replays.NoTrial, match=said):
            strategy_replays.begin(strategy, turns, "bob")
    begin(shop)
    with pytest.raises(strategy_replays.NoTrial, match="stop it first"):
        begin(shop)


def test_a_lead_begins_and_stops_a_shadow_from_the_page_and_nobody_else_does(shop):
    candidate = version(shop, ("large", 0.3))
    begin_url, form = reverse("admin:cascade_trial_begin"), {"strategy": str(candidate.id), "turns": "100"}
    assert logged_in((shop, "analyst")).post(begin_url, form).status_code == 403
    lead = logged_in((shop, "owner"))
    page = lead.post(begin_url, form, follow=True).content.decode()
    assert "0 of 100 turns" in page
    assert "Nothing is explored on this chatbot" in page
    lead.post(reverse("admin:cascade_trial_stop", args=[trial_of(shop).id]))
    assert trial_of(shop).state == "stopped"
    assert "50" in lead.post(begin_url, form | {"turns": "3"}, follow=True).content.decode()


def test_turns_that_are_not_over_are_no_part_of_a_period(shop):
    recorded_turns(shop, 60)
    with in_tenant(shop.tenant_id):
        Turn.objects.filter(id__in=Turn.objects.order_by("created_at").values("id")[:10]).update(state="cancelled")
    assert replayed(live(shop))["turns"] == 50
    assert np.isfinite(replayed(live(shop))["cost_micros"]["mean"])
