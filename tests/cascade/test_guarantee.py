"""A promise of accepted answers is kept as often as it says, and refused where the data cannot bear it."""

from dataclasses import replace

import numpy as np
import pytest
from mapie.risk_control import BinaryClassificationController

from cascade.learning.guarantee import LEVELS, CannotPromise, Promise, Promised, promised, promised_by_segment
from cascade.learning.replaying import replay
from tests.cascade.tables import ladder

CHAIN = ("m1", "m3")
PROMISE = Promise(most_bad=0.1, confidence=0.9)


def share_of_bad(table, threshold):
    played = replay(table, CHAIN, [threshold] * len(CHAIN))
    shown = played.tier >= 0
    return float((played.quality[shown] < 0.5).mean()) if shown.any() else 0.0


def test_over_two_hundred_splits_it_is_broken_no_more_often_than_stated():
    everyone = ladder(6000, noise=0.5)
    chance = np.random.default_rng(3)
    broken = 0
    for _ in range(200):
        order = chance.permutation(6000)
        found = promised(everyone.rows(order[:600]), CHAIN, PROMISE)
        broken += share_of_bad(everyone.rows(order[600:]), found.threshold) > PROMISE.most_bad
    assert broken <= 200 * (1 - PROMISE.confidence) + 10  # 2.4 standard deviations above 20
    assert broken > 0  # it accepts as much as it may


@pytest.mark.filterwarnings("ignore:Fixed sequence testing")
def test_an_independent_implementation_finds_the_same_threshold():
    table = ladder(800, noise=0.5)
    score, right = table.score[:, 1], table.quality[:, 1].astype(int)
    oracle = BinaryClassificationController(
        lambda rows: np.column_stack([1 - rows[:, 0], rows[:, 0]]),
        "precision",
        target_level=0.9,
        confidence_level=0.9,
        list_predict_params=np.array([x for x in LEVELS if (score >= x).sum() >= 2 * PROMISE.least]),
        fwer_method="fixed_sequence",
    )
    oracle.calibrate(score[:, None], right)
    theirs = min(oracle.valid_predict_params)  # by the bound of Hoeffding and Bentkus; the binomial's is exact
    assert promised(table, ["m1"], PROMISE).threshold == pytest.approx(theirs, abs=0.05)


def test_the_laxer_the_promise_the_more_is_accepted():
    table = ladder(1000)
    strict, lax = (promised(table, CHAIN, Promise(share)) for share in (0.05, 0.2))
    assert strict.threshold > lax.threshold
    assert strict.accepted < lax.accepted


def test_too_few_answers_are_a_shortage():
    with pytest.raises(CannotPromise, match="needs 118 labelled answers, there are"):
        promised(ladder(60), CHAIN, Promise())


def test_scores_that_say_nothing_promise_nothing():
    table = ladder(500, noise=50)
    with pytest.raises(CannotPromise, match="cannot be promised: of the"):
        promised(table, CHAIN, Promise(0.02, 0.9))


def test_each_segment_is_promised_or_refused_on_its_own():
    table = ladder(600, segment=["trade"] * 560 + ["home"] * 40)
    found = promised_by_segment(table, CHAIN, PROMISE)
    assert isinstance(found["trade"], Promised)
    assert isinstance(found["home"], CannotPromise)


def test_a_question_of_little_weight_is_mostly_left_out():
    table = ladder(1000)
    weighted = replace(table, weight=np.array([1.0, 0.1] * 500))
    assert promised(weighted, CHAIN, PROMISE).questions == pytest.approx(550, abs=60)
