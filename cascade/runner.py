"""Drives one turn through its tiers: asks, waits, scores, and tells what may be shown.

What to do next is decided in `cascade.policy`, what a call costs in `cascade.pricing`, how a vendor
is spoken to in `cascade.providers`. Nothing of a draft leaves here before it is accepted, save
where the last tier's threshold is 0: then it is shown as it comes.

Money: every HTTP try is an attempt of its own, told to the recorder before it is made, and whatever
then happens (failure, cancellation, a crash of our own) `Run.attempts` has it with what it cost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

from accounts.money import ZERO, Money
from cascade import policy, pricing
from cascade.breaker import Breaker
from cascade.call import Call
from cascade.early_verdicts import EarlyScorer, Watch
from cascade.embedder.serving import Reading
from cascade.errors import AuthenticationFailed, Interrupted, Malformed, ProviderError, RateLimited, Timeout
from cascade.memory.recall import Memory
from cascade.policy import Accept, Ask, HandOver, Known, Reason
from cascade.providers.protocol import Delta, Finished, Provider
from cascade.providers.remembered import MEMORY, Remembered
from cascade.values import Attempt, Context, Outcome, Prompt, Strategy, Tier

JOURNAL_SECONDS = 0.5  # between two records of how much has been written
BACKOFF_SECONDS = 0.25  # doubles with each retry; the wait is a random part of it
SCORER_GRACE_SECONDS = 0.25  # on top of its own deadline, which it keeps itself unless it is broken

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Released:
    """A piece of the reply that may be shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The reply is whole and shown; the last event."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """What was shown as it came is not a whole answer, and stands; the last event."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Nothing was shown and a person has to answer; the last event."""

    reason: Reason


Event = Released | Accepted | BrokenOff | HandedOver


class Scorer(Protocol):
    async def score(self, context: Context, answer: str, *, deadline_seconds: float) -> float | None:
        """How good `answer` is for this customer, 0..1; None: could not tell in time."""
        ...


class Embedder(Protocol):
    async def read(self, text: str, *, deadline_seconds: float) -> Reading | None:
        """What `text` means and how it is worded; None: not in time."""
        ...


class Recorder(Protocol):
    """Makes the steps of a turn durable. What it raises ends the turn."""

    async def asked(self, attempt_id: str, number: int, tier: int, tier_value: Tier) -> None:
        """Attempt `number` (1, 2, ...) is about to be made. Returns once that is on record."""
        ...

    async def wrote(self, attempt_id: str, characters: int) -> None:
        """So much output has come so far. At most twice a second."""
        ...

    async def billed(self, attempt: Attempt) -> None:
        """The call is over and its cost known; its score is not yet."""
        ...


class Engine:
    """What all turns share: the providers by name, the scorer, and a breaker for each model."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        scorer: Scorer,
        *,
        memory: Memory | None = None,
        embedder: Embedder | None = None,
        score_seconds: float = 2.0,
        breaker: Callable[[str], Breaker] = Breaker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.providers, self.scorer, self.score_seconds, self.clock = providers, scorer, score_seconds, clock
        self.memory = memory  # None: nothing is remembered
        self.embedder = embedder  # None: knowledge is searched by words alone
        self._new_breaker, self._breakers = breaker, dict[str, Breaker]()

    def ceiling(self, prompt: Prompt, strategy: Strategy) -> Money:
        """The most that one turn can cost. Raises UnknownPrice."""
        return sum((pricing.ceiling(prompt, tier) for tier in strategy.tiers), ZERO)

    def run(
        self, context: Context, prompt: Prompt, strategy: Strategy, recorder: Recorder, scorer: Scorer | None = None
    ) -> Run:
        """A turn, to be iterated; nothing happens before. Close it (`aclose`) if you leave early.

        `scorer`: who judges this turn; None: the engine's own.
        """
        return Run(self, context, prompt, strategy, recorder, scorer or self.scorer)

    def remembering(self, answer: str) -> Engine:
        """This engine for one turn, in which the provider `MEMORY` gives a remembered answer."""
        other = copy(self)
        other.providers = {**self.providers, MEMORY: Remembered(answer)}
        return other

    def breaker_of(self, model: str) -> Breaker:
        if model not in self._breakers:
            self._breakers[model] = self._new_breaker(model)
        return self._breakers[model]

    async def aclose(self) -> None:
        for provider in self.providers.values():
            await provider.aclose()


class Run:
    """The events of one turn, and what it has come to so far."""

    def __init__(
        self,
        engine: Engine,
        context: Context,
        prompt: Prompt,
        strategy: Strategy,
        recorder: Recorder,
        scorer: Scorer,
    ) -> None:
        self._engine, self._context, self._prompt = engine, context, prompt
        self._strategy, self._recorder, self._scorer = strategy, recorder, scorer
        self._ends_at = engine.clock() + strategy.deadline_seconds
        self._tier_ends_at = self._ends_at
        self._attempts: list[Attempt] = []
        self._outcomes: list[Outcome] = []
        self._running: Call | None = None
        self._closed: set[int] = set()  # tiers not to be asked again
        self._shown = False
        self._wait = 0.0  # seconds before the next try of the same tier
        self._events = self._drive()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All so far, the one under way (or cut off) included, at an estimate."""
        return (*self._attempts, *([self._running.attempt()] if self._running else []))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One for each of `attempts`. What is under way counts as cancelled: close the run first."""
        return (*self._outcomes, *([Outcome.CANCELLED] if self._running else []))

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Stop: the provider's call, if one is under way, is ended."""
        await self._events.aclose()

    async def _drive(self) -> AsyncGenerator[Event]:
        while True:
            known = Known(frozenset(self._closed), late=self._left() <= 0)
            match policy.next_step(self._strategy, known, self._attempts):
                case Ask(tier):
                    async with aclosing(self._try(tier)) as pieces:
                        async for text in pieces:
                            self._shown = True
                            yield Released(text)
                case Accept(attempt):
                    self._outcomes[-1] = Outcome.ACCEPTED
                    for text in () if self._shown else in_pieces(attempt.text):
                        yield Released(text)
                    yield Accepted(attempt)
                    return
                case HandOver(reason):
                    yield BrokenOff(self._attempts[-1]) if self._shown else HandedOver(reason)
                    return

    async def _try(self, index: int) -> AsyncGenerator[str]:
        """One attempt, from its record to its score; yields only what may be shown at once."""
        tier = self._strategy.tiers[index]
        await self._wait_or_begin(index, tier)
        call = self._running = Call(index, tier, self._prompt, self._engine.clock)
        await self._recorder.asked(call.id, len(self._attempts) + 1, index, tier)
        straight_through = index == len(self._strategy.tiers) - 1 and tier.threshold <= 0
        watch = self._watch(tier)
        try:
            async with aclosing(self._stream(call)) as pieces:
                async for text in pieces:
                    if straight_through:
                        yield text
                    await self._journal(call)
                    if watch and (score := watch.lost(text)) is not None:
                        call.give_up(score)
                        break
        except ProviderError as error:
            call.error = error
        finally:
            call.stop()
            if watch:
                watch.stop()
        await self._close(call)

    def _watch(self, tier: Tier) -> Watch | None:
        """None: an answer of this tier is judged when it is whole, or not at all."""
        judge = self._scorer
        if tier.threshold <= 0 or not isinstance(judge, EarlyScorer):
            return None
        return Watch(lambda draft: judge.early(self._context, draft, tier.threshold))

    async def _wait_or_begin(self, index: int, tier: Tier) -> None:
        if self._attempts and self._attempts[-1].tier == index:
            await asyncio.sleep(self._wait)
        else:
            self._tier_ends_at = min(self._ends_at, self._engine.clock() + tier.deadline_seconds)

    async def _stream(self, call: Call) -> AsyncGenerator[str]:
        """The pieces of one call, within its deadline. Raises ProviderError."""
        model, seconds = call.tier.model, self._tier_ends_at - self._engine.clock()
        provider = self._engine.providers.get(model.provider)
        if provider is None:
            raise AuthenticationFailed(model.name, f"no provider {model.provider}")
        with self._engine.breaker_of(model.name).call(begun=lambda: call.characters > 0):
            call.send()
            answer = provider.stream(
                model,
                replace(call.prompt, call_id=call.id),
                max_output_tokens=call.tier.max_output_tokens,
                timeout_seconds=seconds,
            )
            async with aclosing(answer):
                while (piece := await self._next(answer, call)) is not None:
                    yield piece

    async def _next(self, answer: AsyncGenerator[Delta | Finished], call: Call) -> str | None:
        """The next piece; None: the answer is over."""
        name = call.tier.model.name
        try:
            async with asyncio.timeout(self._tier_ends_at - self._engine.clock()):
                piece = await anext(answer, None)
        except TimeoutError:
            raise Timeout(name) from None
        except ProviderError as error:
            if error.retryable and call.characters:  # what has begun is billed, whatever it is called
                raise Interrupted(name) from error
            raise
        if piece is None:
            raise Interrupted(name, "no end to it")
        if isinstance(piece, Finished):
            call.finished = piece
            return None
        text = call.add(piece.text)
        if call.characters > call.tier.max_output_tokens * pricing.LONGEST_TOKEN:
            raise Malformed(name, "longer than was allowed")
        return text

    async def _journal(self, call: Call) -> None:
        now = self._engine.clock()
        if now - call.journalled_at >= JOURNAL_SECONDS:
            call.journalled_at = now
            await self._recorder.wrote(call.id, call.characters)

    async def _close(self, call: Call) -> None:
        """The call is over: on the books first, then judged."""
        attempt = call.attempt()
        self._attempts.append(attempt)
        self._outcomes.append(Outcome.CANCELLED if call.error is None else Outcome.FAILED)
        self._running = None
        await self._recorder.billed(attempt)
        if call.error is not None:
            self._plan_retry(call, call.error)
            return
        if call.tier.threshold > 0 and policy.answered(attempt):
            self._attempts[-1] = replace(attempt, score=await self._score(attempt.text))
        self._outcomes[-1] = Outcome.REJECTED  # unless the policy accepts it

    async def _score(self, answer: str) -> float | None:
        """None, which is never accepted, for whatever is no number between 0 and 1."""
        seconds = self._engine.score_seconds  # all of it, or a turn in a hurry would make a good scorer look hung
        try:
            async with asyncio.timeout(min(self._left(), seconds + SCORER_GRACE_SECONDS)):
                score = await self._scorer.score(self._context, answer, deadline_seconds=seconds)
        except Exception as error:  # a scorer that fails rejects, whatever its reason
            log.warning("an answer was not scored: %s", type(error).__name__)
            return None
        if score is None or not 0 <= score <= 1:
            log.warning("an answer was not scored: the scorer said %s", score)
            return None
        return score

    def _plan_retry(self, call: Call, error: ProviderError) -> None:
        """How long to wait before this tier is asked again; one whose wait does not fit is closed."""
        tries = sum(attempt.tier == call.index for attempt in self._attempts)
        asked_for = error.retry_after if isinstance(error, RateLimited) else None
        jitter = random.random()  # noqa: S311  (spreads load, guards nothing)
        self._wait = (asked_for or 0.0) + BACKOFF_SECONDS * 2 ** (tries - 1) * jitter
        if self._engine.clock() + self._wait >= self._tier_ends_at:
            self._closed.add(call.index)

    def _left(self) -> float:
        return self._ends_at - self._engine.clock()


def in_pieces(text: str) -> list[str]:
    """An accepted answer cut at its blanks, for a door to pace; joined, they are the answer."""
    return re.findall(r"\s*\S+\s*", text)
