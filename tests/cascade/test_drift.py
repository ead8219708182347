"""Drift: a week like the ones before raises no alarm more often than is allowed, a changed one is noticed."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pytest
from django.urls import reverse
from django.utils import timezone

from accounts import webhooks
from accounts.models import Delivery
from accounts.tenancy import in_tenant
from bench.drift import CHANGES, alarmed
from cascade import drift_watch
from cascade.learning import drift
from cascade.models import CascadeStrategy, DriftReading, ModelCall, Turn
from tests.cascade.recorded_turns import recorded_turns
from tests.cast import open_shop
from tests.chatbackend.test_admin import logged_in


def of(values, week, tests=1, distance=False):
    return drift.read(np.asarray(values, float), np.arange(len(values)), week, tests=tests, distance=distance)


WEEK = np.arange(400) >= 300


@pytest.mark.parametrize("distance", [False, True])
def test_a_week_of_another_kind_is_out_of_its_band_and_a_like_one_is_not(distance):
    like = 5 + np.random.default_rng(1).normal(size=400)
    found = of(like, WEEK, distance=distance)
    assert not found.out_of_band
    assert found.low <= found.value <= found.high
    found = of(like + WEEK, WEEK, distance=distance)
    assert found.out_of_band
    assert found.value > found.high
    assert found.p_value == pytest.approx(1 / (drift.SHUFFLES + 1))


def test_the_more_is_tested_the_more_a_measure_must_change():
    values = 5 + np.random.default_rng(2).normal(size=400) + 0.2 * WEEK
    one, many = of(values, WEEK), of(values, WEEK, tests=36)
    assert one.p_value == many.p_value
    assert many.high > one.high


def test_one_customers_many_turns_are_no_evidence():
    """Fifty turns of a single customer who asks alike differ from the rest, and yet say nothing."""
    bundle = np.concatenate([np.arange(349), np.repeat(349, 51)])
    values = np.where(bundle == 349, 3.0, 0.0)
    assert drift.read(values, bundle, bundle >= 330, tests=1, distance=False).p_value > 0.04
    assert drift.read(values, np.arange(400), bundle >= 330, tests=1, distance=False).out_of_band


@pytest.mark.parametrize("week", [np.arange(400) >= 370, np.arange(400) >= 300], ids=["few turns", "few before"])
def test_too_few_turns_are_not_judged(week):
    kept = 400 if week.sum() < 50 else 220
    found = drift.read(np.zeros(kept), np.arange(kept), week[-kept:] if kept == 220 else week, tests=1, distance=False)
    assert found is None


def test_a_constant_measure_never_alarms():
    assert of(np.ones(400), WEEK).p_value == 1
    assert not of(np.ones(400), WEEK, distance=True).out_of_band


def test_in_a_simulation_a_change_is_noticed():
    chance = np.random.default_rng(3)
    assert alarmed(chance, 200, CHANGES[2])
    assert not alarmed(chance, 200, CHANGES[0])


# --- on a shop's own turns ------------------------------------------------------------------


@pytest.fixture
def shop(database):
    return open_shop("alice", "http://127.0.0.1:9/v1", floor=0.3)


def last_week() -> date:
    return drift_watch.monday((timezone.now() - drift_watch.LABEL_TIME).date()) - timedelta(days=7)


def moment(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), timezone.get_default_timezone())


def lived(shop, *, skill: float, cost: float = 1.0) -> None:
    """Four weeks as ever, then one of `skill` and `cost`."""
    week = moment(last_week())
    recorded_turns(shop, 400, until=week, over=timedelta(days=28), share=0.1)
    recorded_turns(shop, 150, until=week + timedelta(days=7), over=timedelta(days=7), skill=skill, cost=cost, seed=9)


def events(shop) -> set[tuple[str, str]]:
    with in_tenant(shop.tenant_id):
        return set(DriftReading.objects.filter(out_of_band=True).values_list("segment", "measure"))


def test_a_week_as_ever_is_read_once_and_alarms_nobody(shop):
    lived(shop, skill=0.4)
    assert drift_watch.watch(shop.tenant_id) == 0
    with in_tenant(shop.tenant_id):
        readings = DriftReading.objects.count()
    assert readings == 12  # four measures of all, of those at home and of those in trade
    assert drift_watch.watch(shop.tenant_id) == 0
    with in_tenant(shop.tenant_id):
        assert DriftReading.objects.count() == readings


def test_harder_questions_are_noticed_in_scores_acceptance_and_cost_and_the_tenants_webhook_is_told(shop):
    lived(shop, skill=-1.2)
    webhooks.create(shop.tenant_id, "https://hooks.example/", ["drift.detected"])
    assert drift_watch.watch(shop.tenant_id) >= 3
    assert {("", "scores"), ("", "accepted"), ("", "cost")} <= events(shop)
    assert ("", "labelled") not in events(shop)
    with in_tenant(shop.tenant_id):
        assert Delivery.objects.filter(event="drift.detected").count() == len(events(shop))


def test_a_new_strategy_is_no_drift(shop):
    lived(shop, skill=-1.2)
    with in_tenant(shop.tenant_id):
        live = CascadeStrategy.objects.get()
        other = CascadeStrategy.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, version=2, tiers=live.tiers, deadline_seconds=9
        )
        Turn.objects.filter(created_at__gte=moment(last_week())).update(strategy=other)
    assert drift_watch.watch(shop.tenant_id) == 0
    with in_tenant(shop.tenant_id):
        assert not DriftReading.objects.exists()


def test_what_was_explored_is_no_part_of_a_turn(shop):
    lived(shop, skill=0.4)
    with in_tenant(shop.tenant_id):
        of_week = ModelCall.objects.filter(outcome="explored", turn__created_at__gte=moment(last_week()))
        of_week.update(cost_micros=10**9, score=0)
    assert drift_watch.watch(shop.tenant_id) == 0


def test_the_pages_show_readings_with_their_band_and_what_to_do_where_there_are_none(shop):
    analyst = logged_in((shop, "analyst"))
    page = analyst.get(reverse("admin:cascade_driftreading_changelist")).content.decode()
    assert "fifty turns" in page
    lived(shop, skill=-1.2)
    drift_watch.watch(shop.tenant_id)
    with in_tenant(shop.tenant_id):
        reading = DriftReading.objects.get(segment="", measure="accepted")
    page = analyst.get(reverse("admin:cascade_driftreading_change", args=[reading.id])).content.decode()
    assert "<svg" in page
    assert "out of its band" in page
    assert logged_in((shop, "support")).get(reverse("admin:cascade_driftreading_changelist")).status_code == 403
