"""What to do next, given what has been tried. No I/O, no clock, no randomness.

The one accept rule: the runner drives it live, the optimiser and the evaluation replay it over
recorded attempts, so what is tuned is what runs. Waiting, calling and scoring are the runner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cascade.errors import RETRYABLE
from cascade.values import Attempt, FinishReason, Strategy, Tier

TRIES = 3  # of one tier: the first call and two retries


class Reason(StrEnum):
    """Why a person has to answer."""

    BELOW_FLOOR = "below_floor"  # models answered, none well enough for this customer
    NO_ANSWER = "no_answer"  # no model gave a whole answer
    OUT_OF_TIME = "out_of_time"  # the turn's deadline passed with tiers still to ask


@dataclass(frozen=True, slots=True)
class Known:
    """What bears on the decision besides the attempts."""

    closed: frozenset[int] = frozenset()  # tiers not to be asked again: the wait they want is too long
    late: bool = False  # the turn's deadline has passed


@dataclass(frozen=True, slots=True)
class Accept:
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Ask:
    tier: int  # index into the strategy's tiers


@dataclass(frozen=True, slots=True)
class HandOver:
    reason: Reason


Step = Accept | Ask | HandOver


def next_step(strategy: Strategy, known: Known, attempts: Sequence[Attempt]) -> Step:
    """Accept the first answer that is good enough, else ask the cheapest tier left, else hand over.

    `attempts` are in the order they were made; several of one tier are its retries.
    """
    for attempt in attempts:
        if accepts(strategy.tiers[attempt.tier], attempt):
            return Accept(attempt)
    tier = _next_tier(known, attempts)
    if tier < len(strategy.tiers):
        return HandOver(Reason.OUT_OF_TIME) if known.late else Ask(tier)
    return HandOver(Reason.BELOW_FLOOR if any(map(_judged, attempts)) else Reason.NO_ANSWER)


def accepts(tier: Tier, attempt: Attempt) -> bool:
    """Whether this answer may be shown: whole, and scored at least the tier's threshold.

    A threshold of 0 asks no score. A score that is None, not a number or above 1 is no score.
    """
    if not answered(attempt):
        return False
    return tier.threshold <= 0 or (attempt.score is not None and tier.threshold <= attempt.score <= 1)


def answered(attempt: Attempt) -> bool:
    """Whether the model gave a whole answer: not cut, not filtered, not blank."""
    whole = attempt.error is None and attempt.finish_reason is FinishReason.STOP
    return whole and bool(attempt.text.strip())


def _judged(attempt: Attempt) -> bool:
    """Whether there was an answer, or the beginning of one, that was not good enough."""
    return answered(attempt) or attempt.finish_reason is FinishReason.GIVEN_UP


def _next_tier(known: Known, attempts: Sequence[Attempt]) -> int:
    """The tier to ask now; one past the last when all have been."""
    tier = attempts[-1].tier if attempts else 0
    if attempts and not _may_repeat(attempts):
        tier += 1
    while tier in known.closed:
        tier += 1
    return tier


def _may_repeat(attempts: Sequence[Attempt]) -> bool:
    last = attempts[-1]
    tries = sum(attempt.tier == last.tier for attempt in attempts)
    return last.error in RETRYABLE and tries < TRIES
