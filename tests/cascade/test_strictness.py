"""A customer whom accepted answers keep disappointing is given better ones only; nobody is given worse ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.strictness import STRICTEST, Expectation, Ratings, expectation, stricter, strictness

thresholds = st.floats(0, 1)
ratings = st.builds(Ratings, st.integers(0, 60), st.integers(0, 60))
expectations = st.builds(Expectation, st.floats(0.01, 0.95), st.floats(2, 100))


@given(thresholds, expectations)
def test_a_new_customer_has_the_chatbots_threshold_exactly(threshold, expected):
    assert stricter(threshold, strictness(Ratings(), expected)) == threshold


@given(thresholds, ratings, expectations)
def test_nobodys_threshold_is_laxer_and_none_is_raised_out_of_reach(threshold, said, expected):
    raised = stricter(threshold, strictness(said, expected))
    assert threshold <= raised <= max(threshold, STRICTEST) <= 1


@given(thresholds, ratings, expectations)
def test_each_disappointment_makes_it_stricter_and_each_praise_does_not(threshold, said, expected):
    now = stricter(threshold, strictness(said, expected))
    assert stricter(threshold, strictness(Ratings(said.good, said.bad + 1), expected)) >= now
    assert stricter(threshold, strictness(Ratings(said.good + 1, said.bad), expected)) <= now


@given(ratings, expectations)
def test_a_chatbot_that_asks_for_no_score_still_asks_for_none(said, expected):
    assert stricter(0.0, strictness(said, expected)) == 0.0


def test_few_ratings_say_little_and_many_say_what_they_say():
    expected = Expectation(bad=0.2, worth=10)
    once, often = (stricter(0.7, strictness(Ratings(0, bad), expected)) for bad in (1, 8))
    assert 0.7 < once < 0.8 < often < 0.97
    always = strictness(Ratings(500, 500), expected)  # half of very many disappointed, where a fifth is expected
    assert always == pytest.approx(np.log(1 / 0.25), abs=0.05)


def test_what_to_expect_is_learnt_from_the_tenants_customers():
    chance = np.random.default_rng(4)
    alike = [Ratings(20 - bad, bad) for bad in chance.binomial(20, 0.3, 300)]
    unlike = [Ratings(20 - bad, bad) for bad in chance.binomial(20, chance.beta(0.9, 2.1, 300))]
    assert expectation(alike).bad == pytest.approx(0.3, abs=0.03)
    assert expectation(alike).worth > 30
    assert expectation(unlike).worth == pytest.approx(3, abs=1)
    assert expectation([]) == Expectation()
    assert expectation([Ratings(1, 0)]).worth == Expectation().worth
