"""How much quality a plan must show follows from what such plans did to questions that did not pick them."""

import numpy as np
import pytest

from cascade.learning.aiming import Enough, looked_at
from cascade.learning.intervals import Estimate

ENOUGH = Enough(mean=-0.005, low=-0.02)
COUNT = 1000
FOLD = np.arange(COUNT) % 5


def plans(*each):
    """Of (true difference in quality, cost): plan 0 is the best single model, at cost 1."""
    chance = np.random.default_rng(7)
    difference = [np.zeros(COUNT), *(mean + chance.choice([-0.3, 0.3], COUNT) for mean, _ in each)]
    return np.array(difference), np.array([np.full(COUNT, cost) for cost in (1.0, *(cost for _, cost in each))])


def best(*each):
    return max(looked_at(*plans(*each), FOLD, ENOUGH), key=lambda aim: aim.expected)


def test_a_plan_that_is_better_and_cheaper_is_taken():
    assert best((0.03, 0.5), (0.03, 0.8)).plan == 1


def test_a_saving_that_would_hardly_count_gives_way_to_a_smaller_one_that_does():
    assert best((-0.02, 0.4), (0.03, 0.6)).plan == 2


def test_where_nothing_saves_the_best_single_model_stays():
    found = best((0.03, 1.2), (-0.2, 0.1))
    assert (found.plan, found.expected) == (0, 0)


def test_the_luckiest_of_many_plans_is_not_expected_to_stay_lucky():
    difference, cost = plans(*[(-0.02, 0.5)] * 300)
    strict = next(aim for aim in looked_at(difference, cost, FOLD, ENOUGH) if aim.plan)
    flattered = 0.5 * ENOUGH.chance(difference[strict.plan])  # by the questions that picked it
    assert strict.expected < 0.5 * flattered


def test_a_mean_at_the_limit_is_as_likely_to_count_as_not():
    spread = np.tile([-0.1, 0.1], 5000)
    assert ENOUGH.chance(spread + ENOUGH.mean) == pytest.approx(0.5)
    assert ENOUGH.chance(spread) > 0.9 > 0.1 > ENOUGH.chance(spread - 0.02)


def test_both_the_mean_and_the_lower_end_have_to_be_reached():
    assert ENOUGH.reached(Estimate(-0.004, -0.019, 0.01))
    assert not ENOUGH.reached(Estimate(-0.006, -0.01, 0.0))
    assert not ENOUGH.reached(Estimate(0.0, -0.021, 0.02))
