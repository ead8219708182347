"""A turn end to end on real adapters: nothing below its threshold is shown, everything asked is paid for."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.money import ZERO, Money
from cascade import runner
from cascade.breaker import Breaker
from cascade.errors import RETRYABLE, ServerError, UnknownPrice
from cascade.policy import Reason
from cascade.pricing import ceiling, cost, estimate
from cascade.providers import AnthropicProvider, Delta, OpenAIProvider
from cascade.runner import Accepted, BrokenOff, Engine, HandedOver, Released, in_pieces
from cascade.values import FinishReason, Outcome, Price, Usage
from tests.cascade.strategies import CENT, CONTEXT, PROMPT, strategy, tier
from tests.model_server import Fault, ModelServer, Reply, Tokens

GOOD, BAD = "Your parcel comes on Tuesday.", "I am a banana."


@dataclass
class Judge:
    """A scorer that knows the good answer, unless told to do something else."""

    does: object = None
    asked: list = field(default_factory=list)

    async def score(self, context, answer, *, deadline_seconds):
        self.asked.append(answer)
        if callable(self.does):
            return await self.does()
        return 0.9 if GOOD in answer else 0.1


@dataclass
class Book:
    """A recorder that remembers, and knows how many calls had been made at each of its steps."""

    server: ModelServer
    judge: Judge
    steps: list = field(default_factory=list)
    refuses: bool = False

    async def asked(self, attempt_id, number, tier, tier_value):
        if self.refuses:
            raise OSError("the books are closed")
        self.steps.append(("asked", attempt_id, number, tier, len(self.server.calls)))

    async def wrote(self, attempt_id, characters):
        self.steps.append(("wrote", attempt_id, characters))

    async def billed(self, attempt):
        self.steps.append(("billed", attempt.id, len(self.judge.asked)))

    def of(self, kind):
        return [step for step in self.steps if step[0] == kind]


@dataclass
class Turn:
    """A run on its way, and what it has told."""

    run: runner.Run
    book: Book
    events: list = field(default_factory=list)

    async def play(self):
        async for event in self.run:
            self.events.append(event)
        return self

    @property
    def shown(self):
        return "".join(event.text for event in self.events if isinstance(event, Released))

    @property
    def end(self):
        assert not any(isinstance(event, Released) for event in self.events[-1:])
        assert all(isinstance(event, Released) for event in self.events[:-1])
        return self.events[-1]

    @property
    def errors(self):
        return [attempt.error for attempt in self.run.attempts]

    @property
    def cost(self):
        return sum((attempt.cost for attempt in self.run.attempts), ZERO)


@pytest.fixture(scope="module")
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture
def judge():
    return Judge()


@pytest.fixture
async def engine(server, judge, monkeypatch):
    monkeypatch.setattr(runner, "BACKOFF_SECONDS", 0.02)
    server.calls.clear()
    engine = engine_on(server, judge)
    yield engine
    await engine.aclose()


def engine_on(server, judge, **more):
    address = server.base_url
    return Engine({"openai": OpenAIProvider("k", address), "anthropic": AnthropicProvider("k", address)}, judge, **more)


TWO = strategy(tier("small"), tier("large", provider="anthropic"))


@pytest.fixture
def start(engine, server, judge):
    def start(tiers=TWO, on=engine):
        book = Book(server, judge)
        return Turn(on.run(CONTEXT, PROMPT, tiers, book), book)

    return start


# --- cheapest first -------------------------------------------------------------------------


async def test_a_good_answer_of_the_cheapest_tier_is_shown_whole_and_nobody_else_is_asked(start, server):
    server.script("small", Reply(GOOD))
    turn = await start().play()
    assert turn.shown == GOOD
    assert turn.end == Accepted(turn.run.attempts[0])
    assert turn.run.outcomes == (Outcome.ACCEPTED,)
    assert turn.run.attempts[0].score == 0.9
    assert 0 < turn.run.attempts[0].first_token_seconds <= turn.run.attempts[0].seconds
    assert [call.model for call in server.calls] == ["small"]


async def test_a_rejected_draft_is_never_shown_and_is_charged_too(start, server):
    server.script("small", Reply(BAD, usage=Tokens(30, 5)))
    server.script("large", Reply(GOOD, usage=Tokens(31, 7)))
    turn = await start().play()
    assert turn.shown == GOOD
    assert turn.run.outcomes == (Outcome.REJECTED, Outcome.ACCEPTED)
    assert turn.cost == cost(Usage(30, 5), CENT) + cost(Usage(31, 7), CENT)


async def test_below_the_floor_a_person_answers_and_all_is_charged(start, server):
    server.script("small", Reply(BAD))
    server.script("large", Reply(BAD))
    turn = await start().play()
    assert turn.events == [HandedOver(Reason.BELOW_FLOOR)]
    assert turn.run.outcomes == (Outcome.REJECTED, Outcome.REJECTED)
    assert turn.cost > ZERO


@pytest.mark.parametrize(
    "line", [Reply(""), Reply("  \n"), Reply(GOOD, finish="length"), Reply(GOOD, finish="content_filter")]
)
async def test_an_empty_cut_or_filtered_answer_escalates_and_is_charged(start, server, judge, line):
    server.script("small", line)
    server.script("large", Reply(GOOD))
    turn = await start().play()
    assert isinstance(turn.end, Accepted)
    assert turn.run.outcomes == (Outcome.REJECTED, Outcome.ACCEPTED)
    assert turn.run.attempts[0].cost > ZERO
    assert judge.asked == [GOOD]  # what cannot be accepted is not scored


# --- on record ------------------------------------------------------------------------------


async def test_each_try_is_on_record_before_its_call_and_billed_before_it_is_scored(start, server):
    server.script("small", Fault.status(500), Reply(BAD))
    server.script("large", Reply(GOOD))
    turn = await start().play()
    ids = [attempt.id for attempt in turn.run.attempts]
    assert turn.book.of("asked") == [("asked", ids[n], n + 1, (0, 0, 1)[n], n) for n in range(3)]
    assert turn.book.of("billed") == [("billed", id_, scored) for id_, scored in zip(ids, (0, 0, 1), strict=True)]
    assert ids == sorted(ids)


async def test_a_call_that_cannot_be_recorded_is_not_made(start, server):
    server.script("small", Reply(GOOD))
    turn = start()
    turn.book.refuses = True
    with pytest.raises(OSError, match="books"):
        await turn.play()
    assert server.calls == []
    assert turn.cost == ZERO


async def test_what_is_written_is_journalled_at_most_twice_a_second(start, server):
    server.script("small", Reply("word " * 26, pace=0.05))
    server.script("large", Reply(GOOD))
    turn = await start().play()
    written = [step[2] for step in turn.book.of("wrote")]
    assert 1 <= len(written) <= turn.run.attempts[0].seconds / runner.JOURNAL_SECONDS
    assert written == sorted(written)
    assert written[-1] <= len(turn.run.attempts[0].text)


# --- faults ---------------------------------------------------------------------------------


async def test_a_server_error_is_tried_again_for_nothing(start, server):
    server.script("small", Fault.status(500), Fault.reset(), Reply(GOOD, usage=Tokens(30, 5)))
    turn = await start().play()
    assert turn.shown == GOOD
    assert turn.errors == ["server_error", "connection_failed", None]
    assert turn.cost == cost(Usage(30, 5), CENT)


async def test_after_three_tries_the_next_tier_is_asked(start, server):
    server.script("small", Fault.status(503))
    server.script("large", Reply(GOOD))
    turn = await start().play()
    assert turn.errors == ["overloaded"] * 3 + [None]
    assert turn.run.outcomes == (*[Outcome.FAILED] * 3, Outcome.ACCEPTED)


async def test_retry_after_is_waited_for_where_it_fits(start, server):
    server.script("small", Fault.status(429, retry_after=0.3), Reply(GOOD))
    turn = await start().play()
    assert turn.errors == ["rate_limited", None]
    assert server.calls[1].at - server.calls[0].at >= 0.3


async def test_retry_after_that_does_not_fit_means_the_next_tier_at_once(start, server):
    server.script("small", Fault.status(429, retry_after=60))
    server.script("large", Reply(GOOD))
    began = time.monotonic()
    turn = await start().play()
    assert turn.errors == ["rate_limited", None]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("line", [Fault.hang(), Reply("word " * 99, pace=0.1), Reply(GOOD, breaks_after=2, how="hang")])
async def test_a_tier_that_takes_too_long_is_passed_over_and_charged_at_an_estimate(start, server, line):
    server.script("small", line)
    server.script("large", Reply(GOOD))
    turn = await start(strategy(tier("small", deadline=1.0), tier("large", provider="anthropic"))).play()
    assert turn.errors == ["timeout", None]
    late = turn.run.attempts[0]
    assert late.estimated
    assert (late.usage, late.cost) == estimate(40, len(late.text), CENT, 200)
    assert 0.9 < late.seconds < 4


async def test_a_turn_out_of_time_asks_nobody_else(start, server):
    server.script("small", Fault.hang())
    turn = await start(strategy(tier("small"), tier("large", provider="anthropic"), deadline=1.0)).play()
    assert turn.end == HandedOver(Reason.OUT_OF_TIME)
    assert [call.model for call in server.calls] == ["small"]


@pytest.mark.parametrize("how", ["reset", "truncate", "error", "not json"])
async def test_a_draft_that_breaks_is_charged_marked_and_not_asked_for_again(start, server, how):
    server.script("small", Reply(GOOD, breaks_after=2, how=how))
    server.script("large", Reply(GOOD))
    turn = await start().play()
    assert turn.shown == GOOD
    assert turn.errors == ["malformed" if how == "not json" else "interrupted", None]
    broken = turn.run.attempts[0]
    assert (broken.text, broken.estimated, broken.cost > ZERO) == ("Your parcel ", True, True)


async def test_when_all_are_down_a_person_answers_and_nothing_is_charged(start, server):
    server.script("small", Fault.status(401))
    server.script("large", Fault.reset())
    turn = await start().play()
    assert turn.end == HandedOver(Reason.NO_ANSWER)
    assert turn.cost == ZERO


@pytest.mark.parametrize("usage", [None, Tokens(-3, -3), Tokens(10**9, 10**9), Tokens(1, 0)])
async def test_usage_that_is_missing_or_absurd_is_estimated(start, server, usage):
    server.script("small", Reply(GOOD, usage=usage))
    turn = await start().play()
    (attempt,) = turn.run.attempts
    assert attempt.estimated
    assert (attempt.usage, attempt.cost) == estimate(40, len(GOOD), CENT, 200)


async def test_a_model_whose_provider_is_not_set_up_is_passed_over(start, server):
    server.script("large", Reply(GOOD))
    turn = await start(strategy(tier("small", provider="nobody"), tier("large"))).play()
    assert turn.errors == ["authentication_failed", None]
    assert turn.run.attempts[0].cost == ZERO


async def test_a_model_whose_circuit_is_open_is_skipped_on_record_and_for_nothing(start, server, judge):
    server.script("small", Fault.status(500))
    server.script("large", Reply(GOOD))
    engine = engine_on(server, judge, breaker=lambda model: Breaker(model, failures=3))
    await start(on=engine).play()
    calls = len(server.calls)
    turn = await start(on=engine).play()
    assert turn.errors == ["circuit_open", None]
    assert len(turn.book.of("asked")) == 2
    assert (turn.run.attempts[0].cost, len(server.calls) - calls) == (ZERO, 1)
    await engine.aclose()


@pytest.mark.parametrize(
    ("script", "then"), [(Reply(GOOD, breaks_after=2, how="hang"), "timeout"), (Fault.hang(), "circuit_open")]
)
async def test_a_deadline_that_cuts_an_answer_short_does_not_close_the_model_to_others(
    start, server, judge, script, then
):
    server.script("small", script)
    server.script("large", Reply(GOOD))
    engine = engine_on(server, judge, breaker=lambda model: Breaker(model, failures=1, patience_seconds=0))
    hurried = strategy(tier("small", deadline=0.5), tier("large"))
    await start(hurried, on=engine).play()
    turn = await start(hurried, on=engine).play()
    assert turn.errors == [then, None]
    await engine.aclose()


async def test_an_unknown_price_is_refused_before_anything_is_called(engine):
    unknown = strategy(tier(), tier("large", price=Price("p", Decimal("NaN"), Decimal(1))))
    with pytest.raises(UnknownPrice):
        engine.ceiling(PROMPT, unknown)


@pytest.mark.parametrize("floor", [0, 0.5])
async def test_what_no_database_takes_is_taken_out(start, server, floor):
    server.script("small", Reply("Your\0 parcel \ud83d: \U0001f4e6. " + GOOD))
    turn = await start(strategy(tier("small", threshold=floor))).play()
    assert turn.shown == turn.run.attempts[0].text == "Your parcel \ufffd: \U0001f4e6. " + GOOD


class Careless:
    """An adapter that calls a failure free in the middle of an answer."""

    async def stream(self, model, prompt, *, max_output_tokens, timeout_seconds):
        yield Delta("Your parcel ")
        raise ServerError(model.name)


async def test_what_has_begun_is_billed_and_not_tried_again_whatever_an_adapter_calls_it(server, judge):
    engine = Engine({"openai": Careless()}, judge)
    turn = await Turn(engine.run(CONTEXT, PROMPT, strategy(tier()), book := Book(server, judge)), book).play()
    assert turn.errors == ["interrupted"]
    assert turn.cost > ZERO


async def test_an_endless_answer_is_stopped(start, server):
    server.script("small", Reply(("x" * 999 + " ") * 200))
    server.script("large", Reply(GOOD))
    turn = await start(strategy(tier("small", output=50), tier("large"))).play()
    assert turn.errors == ["malformed", None]
    assert turn.cost <= ceiling(PROMPT, tier(output=50)) + ceiling(PROMPT, tier())


# --- the scorer -----------------------------------------------------------------------------


async def sleeps():
    await asyncio.sleep(60)


async def crashes():
    raise RuntimeError("out of memory")


def says(score):
    async def say():
        return score

    return say


@pytest.mark.parametrize("does", [says(None), says(math.nan), says(math.inf), says(-0.1), says(1.1), crashes, sleeps])
async def test_a_scorer_that_fails_rejects(start, server, judge, engine, does):
    engine.score_seconds = 0.1
    judge.does = does
    server.script("small", Reply(GOOD))
    turn = await start(strategy(tier("small"))).play()
    assert turn.end == HandedOver(Reason.BELOW_FLOOR)
    assert turn.run.attempts[0].score is None
    assert turn.run.outcomes == (Outcome.REJECTED,)


async def test_a_turn_in_a_hurry_does_not_wait_for_the_scorer(start, server, judge):
    judge.does = sleeps
    server.script("small", Reply(GOOD))
    began = time.monotonic()
    turn = await start(strategy(tier("small"), tier("large"), deadline=1.0)).play()
    assert turn.end == HandedOver(Reason.OUT_OF_TIME)
    assert time.monotonic() - began < 4


# --- early verdicts -------------------------------------------------------------------------


@dataclass
class Foreseeing(Judge):
    """A judge who also looks at drafts; one that speaks of bananas is lost."""

    looked: list = field(default_factory=list)

    async def early(self, context, draft, threshold):
        self.looked.append(draft)
        return 0.001 if "banana" in draft else None


@pytest.fixture
def judge_of_drafts():
    return Foreseeing()


LONG_AND_BAD = BAD + " I like it here." * 40


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_draft_that_is_lost_is_given_up_and_only_what_was_produced_is_charged(
    start, server, judge_of_drafts, provider
):
    server.script("small", Reply(LONG_AND_BAD, pace=0.01))
    server.script("large", Reply(GOOD))
    engine = engine_on(server, judge_of_drafts)
    turn = await start(strategy(tier("small", provider=provider), tier("large")), on=engine).play()
    await asyncio.to_thread(server.wait_until, lambda: server.calls[0].dropped)
    lost = turn.run.attempts[0]
    assert turn.shown == GOOD
    assert turn.run.outcomes == (Outcome.REJECTED, Outcome.ACCEPTED)
    assert (lost.finish_reason, lost.error, lost.score) == (FinishReason.GIVEN_UP, None, 0.001)
    assert BAD in lost.text
    assert len(lost.text) < len(LONG_AND_BAD) / 2
    assert lost.estimated
    assert (lost.usage, lost.cost) == estimate(40, len(lost.text), CENT, 200)
    assert judge_of_drafts.asked == [GOOD]  # what was given up is not judged again
    assert turn.book.of("billed")[0][1] == lost.id
    await engine.aclose()


async def test_a_person_answers_when_every_draft_is_given_up(start, server, judge_of_drafts):
    server.script("small", Reply(LONG_AND_BAD, pace=0.01))
    engine = engine_on(server, judge_of_drafts)
    turn = await start(strategy(tier("small")), on=engine).play()
    assert turn.end == HandedOver(Reason.BELOW_FLOOR)
    await engine.aclose()


async def test_a_draft_that_may_become_good_is_written_to_its_end_and_judged_whole(start, server, judge_of_drafts):
    answer = "Let me see. " * 20 + GOOD
    server.script("small", Reply(answer, pace=0.002))
    engine = engine_on(server, judge_of_drafts)
    turn = await start(on=engine).play()
    assert turn.shown == answer
    assert judge_of_drafts.looked
    assert judge_of_drafts.asked == [answer]
    await engine.aclose()


async def test_a_tier_without_a_threshold_is_not_looked_at(start, server, judge_of_drafts):
    server.script("small", Reply(LONG_AND_BAD))
    engine = engine_on(server, judge_of_drafts)
    turn = await start(strategy(tier("small", threshold=0)), on=engine).play()
    assert turn.shown == LONG_AND_BAD
    assert judge_of_drafts.looked == []
    await engine.aclose()


# --- straight through -----------------------------------------------------------------------


async def test_a_last_tier_without_a_floor_is_shown_as_it_comes_and_not_scored(start, server, judge):
    server.script("small", Reply("So it is. " * 10, pace=0.02))
    turn = start(strategy(tier("small", threshold=0)))
    first = await anext(turn.run)
    assert first == Released("So ")
    assert not server.calls[-1].finished
    await turn.play()
    assert "So " + turn.shown == "So it is. " * 10
    assert isinstance(turn.end, Accepted)
    assert judge.asked == []


async def test_a_middle_tier_without_a_floor_is_held_back_all_the_same(start, server):
    server.script("small", Reply(BAD, breaks_after=2))
    server.script("large", Reply(GOOD))
    turn = await start(strategy(tier("small", threshold=0), tier("large"))).play()
    assert turn.shown == GOOD


@pytest.mark.parametrize("line", [Reply(GOOD, breaks_after=2), Reply(GOOD, finish="length"), Reply(GOOD, finish="x")])
async def test_what_was_shown_of_an_answer_that_breaks_stands_and_is_not_begun_again(start, server, line):
    server.script("small", line)
    turn = await start(strategy(tier("small", threshold=0))).play()
    assert GOOD.startswith(turn.shown)
    assert turn.end == BrokenOff(turn.run.attempts[0])
    assert turn.shown == turn.run.attempts[0].text
    assert turn.cost > ZERO
    assert len(server.calls) == 1


async def test_a_failure_before_the_first_word_is_tried_again(start, server):
    server.script("small", Fault.status(500), Reply(GOOD))
    turn = await start(strategy(tier("small", threshold=0))).play()
    assert turn.shown == GOOD
    assert isinstance(turn.end, Accepted)


# --- cancelling -----------------------------------------------------------------------------


async def cancelled(turn, server, when):
    """Play until `when`, then cancel the task."""
    task = asyncio.create_task(turn.play())
    await asyncio.to_thread(server.wait_until, when)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_stops_the_call_and_charges_what_had_come(start, server):
    server.script("small", Reply(BAD))
    server.script("large", Reply("word " * 500, pace=0.01))
    turn = start()
    await cancelled(turn, server, lambda: server.calls and server.calls[-1].billed.output > 5)
    await asyncio.to_thread(server.wait_until, lambda: server.calls[-1].dropped)
    assert turn.events == []
    assert turn.run.outcomes == (Outcome.REJECTED, Outcome.CANCELLED)
    last = turn.run.attempts[-1]
    assert last.text.startswith("word word")
    assert (last.estimated, last.finish_reason, last.error) == (True, None, None)
    assert (last.usage, last.cost) == estimate(40, len(last.text), CENT, 200)
    assert last == turn.run.attempts[-1]  # the clock has stopped


async def test_cancelling_before_the_first_word_charges_the_prompt(start, server):
    server.script("small", Fault.hang())
    turn = start()
    await cancelled(turn, server, lambda: server.calls)
    assert turn.run.outcomes == (Outcome.CANCELLED,)
    assert turn.cost == cost(Usage(40, 0), CENT)


async def test_cancelling_while_an_answer_is_scored_keeps_its_reported_usage(start, server, judge):
    judge.does = sleeps
    server.script("small", Reply(GOOD, usage=Tokens(30, 5)))
    turn = start()
    await cancelled(turn, server, lambda: judge.asked)
    assert turn.run.outcomes == (Outcome.CANCELLED,)
    assert (turn.run.attempts[0].estimated, turn.cost) == (False, cost(Usage(30, 5), CENT))


async def test_closing_a_run_that_is_shown_as_it_comes_stops_the_call(start, server):
    server.script("small", Reply("word " * 500, pace=0.01))
    turn = start(strategy(tier("small", threshold=0)))
    assert await anext(turn.run) == Released("word ")
    await turn.run.aclose()
    await asyncio.to_thread(server.wait_until, lambda: server.calls[-1].dropped)
    assert turn.run.outcomes == (Outcome.CANCELLED,)
    assert turn.run.attempts[0].text.startswith("word ")


async def test_a_run_that_is_never_begun_asks_nobody(start, server):
    turn = start()
    await turn.run.aclose()
    assert (turn.run.attempts, server.calls) == ((), [])


# --- whatever happens -----------------------------------------------------------------------

lines = st.one_of(
    st.sampled_from([Fault.status(code) for code in (400, 401, 429, 500, 529)] + [Fault.reset()]),
    st.builds(
        Reply,
        text=st.sampled_from([GOOD, BAD, "", GOOD * 9]),
        finish=st.sampled_from(["stop", "stop", "length", "content_filter"]),
        usage=st.sampled_from(["counted", "counted", None, Tokens(-1, -1), Tokens(10**9, 10**9)]),
        breaks_after=st.none() | st.integers(0, 6),
        how=st.sampled_from(["close", "truncate", "error", "not json", "wrong shape"]),
    ),
)
scripts = st.lists(
    st.tuples(st.lists(lines, min_size=1, max_size=4), st.sampled_from(["openai", "anthropic"])),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scripts=scripts, floor=st.sampled_from([0.0, 0.5]))
def test_whatever_the_providers_do_each_call_is_charged_once_and_all_within_the_ceiling(
    server, monkeypatch, scripts, floor
):
    monkeypatch.setattr(runner, "BACKOFF_SECONDS", 0.0)
    tiers = [tier(f"m{n}", 0.5, provider=provider) for n, (_, provider) in enumerate(scripts)]
    tiers[-1] = tier(tiers[-1].model.name, floor, provider=tiers[-1].model.provider)
    for n, (script, _) in enumerate(scripts):
        server.script(f"m{n}", *script)
    server.calls.clear()
    turn, most = asyncio.run(play(server, strategy(*tiers)))
    asked = [step[1] for step in turn.book.of("asked")]
    assert asked == [attempt.id for attempt in turn.run.attempts] == [step[1] for step in turn.book.of("billed")]
    assert len(server.calls) == len(asked)
    assert ZERO <= turn.cost <= most
    assert isinstance(turn.end, Accepted | HandedOver | BrokenOff)
    assert turn.shown == ("" if isinstance(turn.end, HandedOver) else turn.end.attempt.text)
    for attempt, call in zip(turn.run.attempts, server.calls, strict=True):
        assert attempt.error not in RETRYABLE or attempt.cost == ZERO
        if attempt.finish_reason and not attempt.estimated:
            assert (attempt.usage.input_tokens, attempt.usage.output_tokens) == (call.billed.input, call.billed.output)


async def play(server, tiers):
    judge = Judge()
    engine = engine_on(server, judge)
    turn = await Turn(engine.run(CONTEXT, PROMPT, tiers, book := Book(server, judge)), book).play()
    await engine.aclose()
    return turn, engine.ceiling(PROMPT, tiers)


@given(st.text())
def test_an_answer_in_pieces_is_the_answer(text):
    assert "".join(in_pieces(text)) == (text if text.strip() else "")


def test_the_ceiling_of_a_turn_is_the_sum_of_its_tiers():
    engine = Engine({}, Judge())
    assert engine.ceiling(PROMPT, TWO) == Money(2 * (6 + 120))
