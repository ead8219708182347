"""A saved reply's part in one turn: matched, filled, and judged like a model's draft, before any model is asked.

Nothing is held for it and the tenant pays nothing; the turn's report names it and its score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError

from accounts.tenancy import in_db
from cascade import saved_replies
from cascade.conversations import OpenTurn
from cascade.material import Material
from cascade.runner import Scorer
from cascade.saved_replies import Match
from cascade.values import Context
from chatbackend.reporting import report


@dataclass(frozen=True, slots=True)
class Given:
    """A saved reply that fits the question, and whether it is good enough for this customer."""

    match: Match
    score: float | None  # None: it was not judged
    good: bool


async def saved_reply(
    turn: OpenTurn, material: Material, known: Context, vector: Sequence[float] | None
) -> Match | None:
    """The chatbot's reply that answers this question, filled from all that is known; None: it has none.

    `vector`: the question's.
    """
    if not material.has_saved_replies or vector is None:
        return None
    matched = in_db(saved_replies.match)
    return await matched(turn.tenant_id, turn.chatbot_id, vector, known, material.instructions.stale_after)


async def judged(match: Match, material: Material, shown: Context, judge: Scorer, seconds: float) -> Given:
    """Good if the scorer accepts it under the strictest of the strategy's thresholds; no score means no.

    Where the chatbot has no floor nobody judges its answers.
    """
    strictest = max(tier.threshold for tier in material.strategy.tiers)
    if strictest <= 0:
        return Given(match, None, good=True)
    try:
        score = await judge.score(shown, match.text, deadline_seconds=seconds)
    except Exception as problem:  # a scorer that fails rejects, whatever its reason
        report(problem)
        score = None
    return Given(match, score, good=score is not None and score >= strictest)


async def count(turn: OpenTurn, given: Given) -> None:
    """It was shown; a turn that is over is none the worse where that cannot be counted."""
    counted = in_db(saved_replies.given)
    try:
        await counted(turn.tenant_id, given.match.reply_id)
    except (DatabaseError, InterfaceError) as problem:
        report(problem)
