"""What is chosen promises the most saving that counts, and lines and areas are what they say."""

import numpy as np
import pytest

from cascade.learning.choosing import LEAST, Candidate, believed, chance_to_count
from cascade.learning.improvement import aiq, hull
from cascade.learning.lines import Line
from cascade.learning.peers import Fitted


def differences(count, lost, won):
    values = np.zeros(count)
    values[:lost], values[lost : lost + won] = -1, 1
    return values


def chance(values):
    return chance_to_count(float(values.mean()), float(values.var()), len(values))


def test_what_loses_more_is_less_likely_to_count():
    chances = [chance(differences(1000, lost, 20)) for lost in (10, 20, 30, 50)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.8 > 0.1 > chances[-1]


def test_the_same_difference_is_surer_on_more_questions():
    assert chance(differences(4000, 80, 80)) > chance(differences(400, 8, 8))


def test_what_never_differs_counts_for_sure():
    assert chance(np.zeros(2000)) > 0.99


def test_a_chance_to_count_is_about_the_share_of_samples_that_count():
    draw = np.random.default_rng(5)
    true = differences(1_000_000, 25_000, 25_000)
    told, counted = [], []
    for _ in range(300):
        told.append(chance(draw.choice(true, 1000)))
        further = draw.choice(true, 429)
        low = further.mean() - 1.96 * further.std() / 429**0.5
        counted.append(further.mean() >= -0.005 and low >= -0.02)
    assert np.mean(told) == pytest.approx(np.mean(counted), abs=0.1)


def test_a_way_is_believed_no_more_than_it_and_its_neighbours_together():
    lucky = believed(["a"] * 3 + ["b"], [0.1, 0.2, 0.3, 0.2], [0.0, 0.03, -0.06, 0.05])
    assert lucky == pytest.approx([0.0, -0.01, -0.06, 0.05])


def test_what_will_hardly_count_is_not_risked_however_much_it_saves():
    way = Fitted("any", lambda known: None)
    risky, safe = Candidate(way, 0.9, LEAST - 0.01), Candidate(way, 0.0, 1.0)
    assert risky.promises < safe.promises


@pytest.mark.parametrize("logistic", [False, True])
def test_a_line_tells_its_own_rows_by_folds_that_did_not_see_them(logistic):
    chance = np.random.default_rng(1)
    rows, fold = chance.normal(size=(300, 3)), np.arange(300) % 5
    y = (rows[:, 0] + chance.normal(size=300) > 0).astype(float)
    turned = np.where(fold == 0, 1 - y, y)
    one, other = (Line(rows, labels, fold, logistic=logistic) for labels in (y, turned))
    assert one.own[fold == 0] == pytest.approx(other.own[fold == 0])
    assert np.corrcoef(one.own, y)[0, 1] > 0.4
    assert np.corrcoef(one.of(rows), one.own)[0, 1] > 0.95


def test_a_noise_line_tells_nothing_of_what_it_has_not_seen():
    chance = np.random.default_rng(2)
    rows, y = chance.normal(size=(200, 40)), chance.normal(size=200)
    line = Line(rows, y, np.arange(200) % 5)
    assert abs(np.corrcoef(line.own, y)[0, 1]) < 0.25 < np.corrcoef(line.of(rows), y)[0, 1]


def test_the_area_is_below_the_line_that_no_coin_between_points_can_beat():
    points = [(0.0, 0.5), (10.0, 0.9), (5.0, 0.6), (4.0, 0.4), (12.0, 0.8)]
    assert hull(points) == [(0.0, 0.5), (10.0, 0.9)]
    assert aiq(points, 0, 10) == pytest.approx(0.7)
    assert aiq(points, 0, 20) == pytest.approx(0.8)
    assert aiq([(5.0, 0.6)], 0, 10) == pytest.approx(0.6)
