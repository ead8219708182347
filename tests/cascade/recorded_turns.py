"""Many answered turns of a shop, put on record at once: what strategies are learnt from.

The first model is cheap and right for easy questions, the second dear and mostly right; scores tell right from wrong
with noise. The live strategy stops at the first model where its score reaches the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.models import Customer
from accounts.tenancy import in_tenant
from cascade.models import (
    CascadeStrategy,
    Chatbot,
    Conversation,
    Exploration,
    Feedback,
    Message,
    ModelCall,
    Turn,
    TurnContext,
)
from cascade.scorer.rows import CONTEXT
from cascade.values import Context, Outcome
from cascade.values import Customer as CustomerValue
from tests.cast import Shop

COSTS = {"small": 100, "large": 3000}


def recorded_turns(
    shop: Shop,
    count: int,
    *,
    threshold: float = 0.5,
    share: float = 0.5,
    seed: int = 3,
    skill: float = 0.4,
    cost: float = 1.0,
    until: datetime | None = None,
    over: timedelta = timedelta(days=20),
    version: str = "scripted",
    costs: Mapping[str, int] = COSTS,
    rated: float = 0.0,
    segments: tuple[str, ...] = ("home", "trade"),
) -> list[Turn]:
    """`share` of those that stopped early were drawn to explore. `skill`: the small model's; `cost`: times `costs`.

    `rated`: so many of the replies were rated, truthfully.
    """
    chance = np.random.default_rng(seed)
    hard, noise = chance.normal(size=count), chance.normal(size=(count, 2))
    right = np.stack([skill - hard > 0, 1.6 - hard > 0], axis=1)
    scores = 1 / (1 + np.exp(-(4 * right - 2 + noise)))
    drawn, times = chance.uniform(size=count) < share, np.sort(chance.uniform(size=count))
    own = {"tenant_id": shop.tenant_id}
    with in_tenant(shop.tenant_id):
        until = until or timezone.now()
        strategy = CascadeStrategy.objects.get(id=Chatbot.objects.get(id=shop.chatbot_id).live_strategy_id)
        talks = _talks(shop, max(1, count // 2), segments)
        turns, calls, messages, explorations = [], [], [], []
        for n in range(count):
            talk, when = talks[n % len(talks)], until - over * (1 - float(times[n]))
            accepted = [scores[n, tier] >= (threshold, 0.3)[tier] for tier in (0, 1)]
            state = "answered" if any(accepted) else "handed_over"
            turn = Turn(
                **own, conversation=talk, client_id=str(uuid7()), body_hash="", state=state, process_key=1,
                strategy=strategy, created_at=when, closed_at=when,
            )  # fmt: skip
            turns.append(turn)
            stops = accepted.index(True) if any(accepted) else 1
            for tier, model in enumerate(costs):
                if tier > stops and not drawn[n]:
                    continue
                outcome = Outcome.EXPLORED if tier > stops else Outcome.ACCEPTED if accepted[tier] else Outcome.REJECTED
                calls.append(
                    ModelCall(
                        **own,
                        turn=turn,
                        number=tier + 1,
                        tier=tier,
                        model=model,
                        threshold=(threshold, 0.3)[tier],
                        outcome=outcome,
                        text=f"It costs ${100 if right[n, tier] else 101 + tier}.00.",
                        finish_reason="stop",
                        seconds=1.0 + tier,
                        score=float(scores[n, tier]),
                        scorer_version=version,
                        cost_micros=int(costs[model] * cost),
                        created_at=when,
                    )
                )
            if stops == 0:
                state = "done" if drawn[n] else "passed"
                explorations.append(Exploration(**own, turn=turn, chance=share, state=state))
            messages.append(Message(**own, conversation=talk, turn=turn, role="customer", text="?", seq=2 * n + 1))
        Turn.objects.bulk_create(turns)
        ModelCall.objects.bulk_create(calls)
        Message.objects.bulk_create(messages)
        Exploration.objects.bulk_create(explorations)
        for n in np.flatnonzero(np.random.default_rng(seed).uniform(size=count) < rated):
            if shown := next((call for call in calls if call.turn is turns[n] and call.outcome == "accepted"), None):
                rate(shown, bool(right[n, shown.tier]), seq=2 * int(n) + 2)
    return turns


def rate(shown: ModelCall, right: bool, seq: int) -> None:
    """What the customer thought of the answer, and what is kept for a label to be learnt from it. In `in_tenant`."""
    own = {"tenant_id": shown.tenant_id, "created_at": shown.created_at}
    TurnContext.objects.create(**own, **_asked_in(shown.turn))
    said = Message.objects.create(
        **own, conversation=shown.turn.conversation, turn=shown.turn, role="assistant", text=shown.text, seq=seq
    )
    Feedback.objects.create(**own, message=said, rating=1 if right else -1)


def remember(turns: list[Turn]) -> None:
    """Keep what the models were shown in each, so that their answers can be compared."""
    with in_tenant(turns[0].tenant_id):
        TurnContext.objects.bulk_create(TurnContext(tenant_id=turn.tenant_id, **_asked_in(turn)) for turn in turns)


def _asked_in(turn: Turn) -> dict[str, Any]:
    attributes = turn.conversation.customer.attributes
    context = Context(CustomerValue("c", attributes=attributes), "What does it cost?", turn.created_at)
    return {"turn": turn, "context": CONTEXT.dump_python(context, mode="json")}


def _talks(shop: Shop, count: int, segments: tuple[str, ...]) -> list[Conversation]:
    own = {"tenant_id": shop.tenant_id}
    made = str(uuid7())
    who = Customer.objects.bulk_create(
        Customer(**own, external_id=f"{made}-{n}", attributes={"segment": segments[n % len(segments)]})
        for n in range(count)
    )
    return Conversation.objects.bulk_create(
        Conversation(**own, chatbot_id=shop.chatbot_id, customer=customer) for customer in who
    )
