"""A tenant's own map: the global one exactly without data, its own with much, and never back on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.scorer.calibration import LEAST_SCALE, Calibration, Spread, fit, fit_shrunk, logit, spread_of

SPREAD = Spread(0.3, 0.7)
labels = st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=1, max_size=40)


def drawn(count: int, scale: float, shift: float, seed: int) -> tuple[list[float], list[bool]]:
    """Labels of a tenant whose true map is this."""
    chance = np.random.default_rng(seed)
    x = chance.normal(0.5, 2, count)
    return x.tolist(), (chance.random(count) < 1 / (1 + np.exp(-(scale * x + shift)))).tolist()


def distance(found: Calibration) -> float:
    """From the global map, in standard deviations between tenants."""
    return math.hypot((found.scale - 1) / SPREAD.scale, found.shift / SPREAD.shift)


def test_without_data_a_tenant_has_the_global_map_exactly():
    assert fit_shrunk([], []) == Calibration()
    assert Calibration().again(0.123456789) == 0.123456789
    assert math.isnan(Calibration(2, 1).again(math.nan))


@pytest.mark.parametrize(("scale", "shift"), [(0.5, -1.0), (1.6, 0.8), (1.0, 2.0)])
def test_with_much_data_a_tenant_has_its_own(scale, shift):
    x, good = drawn(40_000, scale, shift, 3)
    own, found = fit(x, good), fit_shrunk(x, good, SPREAD)
    assert (found.scale, found.shift) == pytest.approx((own.scale, own.shift), abs=0.02)
    assert (found.scale, found.shift) == pytest.approx((scale, shift), abs=0.1)


@given(labels, st.integers(1, 6))
def test_more_of_the_same_never_leads_back_to_the_global_map(found, times):
    x, good = [x for x, _ in found], [y for _, y in found]
    once, more = fit_shrunk(x, good, SPREAD), fit_shrunk(x * (times + 1), good * (times + 1), SPREAD)
    if min(once.scale, more.scale) > LEAST_SCALE:
        assert distance(more) >= distance(once) - 1e-6


@given(labels)
def test_tenants_that_hardly_differ_share_the_global_map(found):
    x, good = [x for x, _ in found], [y for _, y in found]
    assert distance(fit_shrunk(x, good, Spread(1e-6, 1e-6))) < 0.01


@given(labels, st.floats(0, 1), st.floats(0, 1))
def test_a_tenants_labels_never_turn_the_order_of_answers_round(found, one, other):
    own = fit_shrunk([x for x, _ in found], [y for _, y in found], SPREAD)
    worse, better = sorted([one, other])
    assert 0 <= own.again(worse) <= own.again(better) <= 1


@given(labels, st.floats(0, 1), st.floats(0, 1))
def test_what_the_weights_reject_passes_under_no_tenants_map(found, raw, threshold):
    own = fit_shrunk([x for x, _ in found], [y for _, y in found], SPREAD)
    assert own.lowered(raw) == min(raw, own.again(raw))
    assert raw >= threshold or own.lowered(raw) < threshold


@given(st.integers(1, 30))
def test_praise_alone_raises_and_blame_alone_lowers_what_scores_promise(count):
    x = [logit(0.8)] * count
    praised, blamed = fit_shrunk(x, [True] * count, SPREAD), fit_shrunk(x, [False] * count, SPREAD)
    assert blamed.again(0.8) < 0.8 < praised.again(0.8)


def test_how_far_tenants_differ_is_found_again():
    chance = np.random.default_rng(11)
    truth = [(chance.normal(1, 0.3), chance.normal(0, 0.8)) for _ in range(60)]
    tenants = [drawn(1_500, scale, shift, n) for n, (scale, shift) in enumerate(truth)]
    found = spread_of(tenants)
    assert found.scale == pytest.approx(0.3, abs=0.08)
    assert found.shift == pytest.approx(0.8, abs=0.2)
    alike = spread_of([drawn(1_500, 1, 0, n) for n in range(60)])
    assert alike.scale < 0.06
    assert alike.shift < 0.06
