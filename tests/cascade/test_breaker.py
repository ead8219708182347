"""A model that keeps failing is left alone for a while, and let back in by one good answer."""

from asyncio import CancelledError
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.breaker import Breaker
from cascade.errors import BadRequest, CircuitOpen, ContentFiltered, RateLimited, ServerError, Timeout


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("small", failures=3, cooldown_seconds=30, patience_seconds=5, clock=clock)


def fail(breaker, error=ServerError, *, clock=None, seconds=0.0, begun=False):
    with suppress(error), breaker.call(begun=lambda: begun):
        if clock:
            clock.now += seconds
        raise error("small")


def is_open(breaker):
    try:
        with breaker.call():
            raise KeyboardInterrupt  # tells nothing of the model
    except CircuitOpen:
        return True
    except KeyboardInterrupt:
        return False


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not(breaker):
    fail(breaker), fail(breaker)
    with breaker.call():
        pass
    fail(breaker), fail(breaker)
    assert not is_open(breaker)
    fail(breaker, RateLimited)
    assert is_open(breaker)


def test_after_the_cooldown_one_probe_is_let_through(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now = 29.9
    assert is_open(breaker)
    clock.now = 30.0
    with breaker.call():
        assert is_open(breaker)  # to everybody else
    with breaker.call():
        assert not is_open(breaker)  # to anybody


def test_a_probe_that_fails_opens_it_again_for_as_long(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now = 30.0
    fail(breaker)
    clock.now = 59.9
    assert is_open(breaker)
    clock.now = 60.0
    assert not is_open(breaker)


def test_a_probe_that_is_cancelled_leaves_the_next_call_to_be_one(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now = 30.0
    with suppress(GeneratorExit), breaker.call():
        raise GeneratorExit
    fail(breaker)
    assert is_open(breaker)


@pytest.mark.parametrize("given_up", [GeneratorExit, CancelledError])
def test_a_probe_that_is_given_up_once_something_has_come_closes_it(breaker, clock, given_up):
    for _ in range(3):
        fail(breaker)
    clock.now = 30.0
    with suppress(given_up), breaker.call(begun=lambda: True):
        raise given_up
    with breaker.call():
        assert not is_open(breaker)  # to anybody


@pytest.mark.parametrize("error", [BadRequest, ContentFiltered])
def test_a_prompt_that_is_refused_is_not_the_models_fault(breaker, error):
    for _ in range(9):
        fail(breaker, error)
    assert not is_open(breaker)


def test_a_caller_in_a_hurry_does_not_close_the_model_to_others(breaker, clock):
    for _ in range(9):
        fail(breaker, Timeout, clock=clock, seconds=0.1)
    assert not is_open(breaker)
    for _ in range(3):
        fail(breaker, Timeout, clock=clock, seconds=5.0)
    assert is_open(breaker)


def test_an_answer_that_is_too_long_for_a_callers_deadline_does_not_close_the_model_to_others(breaker, clock):
    for _ in range(9):
        fail(breaker, Timeout, clock=clock, seconds=60.0, begun=True)
    assert not is_open(breaker)


def test_a_model_that_breaks_off_its_answers_is_closed(breaker):
    for _ in range(3):
        fail(breaker, ServerError, begun=True)
    assert is_open(breaker)


@given(st.lists(st.sampled_from(["answer", "failure", "cancel", "wait"])))
def test_it_is_never_open_longer_than_the_cooldown_nor_after_an_answer(steps):
    clock = Clock()
    breaker = Breaker("small", failures=2, cooldown_seconds=30, clock=clock)
    for step in steps:
        if step == "wait":
            clock.now += 30
            assert not is_open(breaker)
            continue
        ended = {"answer": None, "failure": ServerError("small"), "cancel": GeneratorExit()}[step]
        with suppress(ServerError, CircuitOpen, GeneratorExit), breaker.call():
            if ended:
                raise ended
            ended = "answered"
        assert ended != "answered" or not is_open(breaker)
