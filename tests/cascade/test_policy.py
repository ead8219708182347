"""Cheapest first, nothing below its threshold, and always an end."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import RETRYABLE, CircuitOpen, ProviderError, RateLimited, Timeout
from cascade.policy import TRIES, Accept, Ask, HandOver, Known, Reason, next_step
from cascade.values import FinishReason
from tests.cascade.strategies import attempt, attempts_of, strategy, tier

thresholds = st.lists(st.floats(0, 1), min_size=1, max_size=4)
STOP = FinishReason.STOP


@st.composite
def turns(draw):
    """A turn played to its end: its tiers, its attempts, and the last step."""
    tiers = strategy(*(tier(f"m{i}", t) for i, t in enumerate(draw(thresholds))))
    closed = frozenset(draw(st.sets(st.integers(0, 3), max_size=2)))
    known, attempts = Known(closed), []
    while isinstance(step := next_step(tiers, known, attempts), Ask):
        attempts.append(draw(attempts_of(step.tier)))
        assert len(attempts) <= len(tiers.tiers) * TRIES
    return tiers, known, attempts, step


@given(turns())
def test_a_dearer_tier_is_asked_only_after_all_cheaper_ones(turn):
    _, known, attempts, _ = turn
    asked = [attempt.tier for attempt in attempts]
    assert asked == sorted(asked)
    assert set(asked) | known.closed >= set(range(max(asked, default=0)))


@given(turns())
def test_what_is_accepted_is_whole_and_scored_at_least_the_threshold(turn):
    tiers, _, _, step = turn
    if isinstance(step, Accept):
        found = step.attempt
        assert found.error is None
        assert found.finish_reason is STOP
        assert found.text.strip()
        threshold = tiers.tiers[found.tier].threshold
        assert threshold == 0 or threshold <= found.score <= 1


@given(turns())
def test_a_turn_that_ends_without_an_answer_goes_to_a_person(turn):
    tiers, known, attempts, step = turn
    if not isinstance(step, Accept):
        assert step in (HandOver(Reason.BELOW_FLOOR), HandOver(Reason.NO_ANSWER))
        asked = {attempt.tier for attempt in attempts} | known.closed
        assert asked >= set(range(len(tiers.tiers)))


@given(turns())
def test_only_failures_that_nobody_bills_are_tried_again(turn):
    _, _, attempts, _ = turn
    for index in range(4):
        tries = [attempt for attempt in attempts if attempt.tier == index]
        assert len(tries) <= TRIES
        assert all(attempt.error in RETRYABLE for attempt in tries[:-1])


def test_no_retryable_failure_is_billed():
    for kind in ProviderError.__subclasses__():
        assert not (kind.retryable and kind("m").billed)


@given(turns(), st.data())
def test_the_same_past_gives_the_same_step(turn, data):
    tiers, known, attempts, _ = turn
    past = attempts[: data.draw(st.integers(0, len(attempts)))]
    assert next_step(tiers, known, past) == next_step(tiers, known, list(past))


@pytest.mark.parametrize(
    "tried",
    [
        attempt(score=0.4999999),
        attempt(score=None),
        attempt(score=float("nan")),
        attempt(score=float("inf")),
        attempt(score=1.0000001),
        attempt(text="", score=1.0),
        attempt(text=" \n", score=1.0),
        attempt(finish=FinishReason.LENGTH, score=1.0),
        attempt(finish=FinishReason.CONTENT_FILTER, score=1.0),
        attempt(finish=FinishReason.OTHER, score=1.0),
        attempt(error="interrupted", score=1.0),
        replace(attempt(score=1.0), error="interrupted"),  # after its finish reason
    ],
)
def test_an_answer_that_is_not_good_enough_escalates(tried):
    assert next_step(strategy(tier(), tier("large")), Known(), [tried]) == Ask(1)


def test_a_score_at_the_threshold_is_accepted():
    good = attempt(score=0.5)
    assert next_step(strategy(tier(threshold=0.5)), Known(), [good]) == Accept(good)


def test_a_floor_of_zero_asks_no_score_but_a_whole_answer():
    free = strategy(tier(threshold=0))
    assert next_step(free, Known(), [attempt(score=None)]) == Accept(attempt(score=None))
    assert next_step(free, Known(), [attempt(text="")]) == HandOver(Reason.NO_ANSWER)


def test_a_tier_whose_wait_is_too_long_is_passed_over():
    limited = attempt(error=RateLimited.code)
    tiers = strategy(tier(), tier("large"))
    assert next_step(tiers, Known(), [limited]) == Ask(0)
    assert next_step(tiers, Known(closed=frozenset({0})), [limited]) == Ask(1)


def test_a_tier_is_tried_three_times_at_most():
    tiers, failed = strategy(tier(), tier("large")), attempt(error="overloaded")
    assert [next_step(tiers, Known(), [failed] * times) for times in range(1, 4)] == [Ask(0), Ask(0), Ask(1)]


def test_several_closed_tiers_are_passed_over():
    tiers = strategy(tier(), tier("medium"), tier("large"))
    assert next_step(tiers, Known(closed=frozenset({0, 1})), []) == Ask(2)


def test_a_late_turn_asks_nobody_but_takes_what_it_has():
    tiers, late = strategy(tier(), tier("large")), Known(late=True)
    assert next_step(tiers, late, [attempt(score=0.1)]) == HandOver(Reason.OUT_OF_TIME)
    assert next_step(tiers, late, [attempt(score=0.9)]) == Accept(attempt(score=0.9))


@pytest.mark.parametrize("code", [Timeout.code, CircuitOpen.code])
def test_a_timeout_and_an_open_circuit_are_not_tried_again(code):
    assert next_step(strategy(tier(), tier("large")), Known(), [attempt(error=code)]) == Ask(1)


def test_why_a_person_is_needed():
    one = strategy(tier())
    assert next_step(one, Known(), [attempt(score=0.1)]) == HandOver(Reason.BELOW_FLOOR)
    assert next_step(one, Known(), [attempt(error="timeout")]) == HandOver(Reason.NO_ANSWER)
