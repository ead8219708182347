"""Whether another model is worth it, before and after it is there."""

import numpy as np
import pytest

from cascade.learning.worth import by_length, with_model, with_prices, worths
from cascade.optimiser import BadTable, Goal
from tests.cascade.tables import ladder

TABLE = ladder(500)
GOAL = Goal(quality=float(TABLE.mean_quality.max()) - 0.01)


def test_the_model_that_everything_ends_with_is_worth_its_place():
    found = {worth.model: worth for worth in worths(TABLE, GOAL, 2)}
    assert found["m3"].used
    assert found["m3"].worse.low > 0
    assert all(worth.dearer.low <= worth.dearer.mean <= worth.dearer.high for worth in found.values())


def test_a_model_that_nobody_asks_is_worth_nothing():
    dear = with_model(TABLE, "dear", quality=0.2, cost_micros=10_000, like="m0")
    assert not next(worth for worth in worths(dear, GOAL, 2) if worth.model == "dear").used


def test_a_second_tier_saves_more_than_a_fourth():
    one, two, three = by_length(TABLE, GOAL, 3)
    assert one.cost_micros.mean - two.cost_micros.mean > two.cost_micros.mean - three.cost_micros.mean


def test_prices_that_change_change_the_cost():
    cheaper = with_prices(TABLE, {"m3": 0.5})
    assert cheaper.mean_cost_micros[3] == pytest.approx(TABLE.mean_cost_micros[3] / 2)
    with pytest.raises(BadTable, match="'m9'"):
        with_prices(TABLE, {"m9": 2.0})


@pytest.mark.parametrize("quality", [0.3, 0.7, 0.95])
def test_an_assumed_model_has_the_quality_and_cost_that_were_assumed(quality):
    grown = with_model(TABLE, "new", quality=quality, cost_micros=77, like="m2")
    assert grown.mean_quality[-1] == pytest.approx(quality, abs=0.002)
    assert grown.mean_cost_micros[-1] == pytest.approx(77)
    better = grown.score[grown.quality[:, -1] == 1, -1].mean() - grown.score[grown.quality[:, -1] == 0, -1].mean()
    assert better == pytest.approx(np.ptp([TABLE.score[TABLE.quality[:, 2] == k, 2].mean() for k in (0, 1)]), abs=0.1)


def test_no_model_can_be_imagined_from_answers_that_are_all_alike():
    with pytest.raises(BadTable, match=r"1\.5"):
        with_model(TABLE, "new", quality=1.5, cost_micros=1, like="m0")
