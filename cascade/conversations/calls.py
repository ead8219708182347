"""Model calls: on record before they are made, and what each of them comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from accounts import ledger
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant
from cascade import compute, pricing
from cascade.compute import Beside
from cascade.conversations.values import TurnOver
from cascade.material import dearest, dearest_cost, price_value
from cascade.models import ModelCall, Turn
from cascade.providers.remembered import MEMORY
from cascade.values import Attempt, Outcome, Tier, Usage

SAVED_REPLY = "saved reply"  # as the books name it, where models have their names


@dataclass(frozen=True, slots=True)
class CallRecord:
    """Keeps a turn's attempts on record as they happen (`cascade.runner.Recorder`, synchronous half)."""

    tenant_id: UUID
    turn_id: UUID
    prompt_tokens: int
    scorer_version: str

    def asked(self, attempt_id: str, number: int, tier: int, asked: Tier) -> None:
        """Raises TurnOver: nothing may be asked any more for a turn that was given up and settled."""
        with in_tenant(self.tenant_id):
            if not Turn.objects.select_for_update().filter(id=self.turn_id, state=Turn.State.OPEN):
                raise TurnOver
            self.put(attempt_id, number, tier, asked, Outcome.ASKED)

    def put(self, attempt_id: str, number: int, tier: int, asked: Tier, outcome: Outcome) -> None:
        """In the tenant's transaction: a call that is about to be made."""
        ModelCall.objects.create(
            id=attempt_id,
            tenant_id=self.tenant_id,
            turn_id=self.turn_id,
            number=number,
            tier=tier,
            model=asked.model.name,
            threshold=asked.threshold,
            outcome=outcome,
            prompt_tokens=self.prompt_tokens,
            max_output_tokens=asked.max_output_tokens,
            price_id=asked.model.price.version or None,
            scorer_version=self.scorer_version,
        )

    def wrote(self, attempt_id: str, characters: int) -> None:
        with in_tenant(self.tenant_id):
            ModelCall.objects.filter(id=attempt_id).update(written_characters=characters)

    def billed(self, attempt: Attempt) -> None:
        with in_tenant(self.tenant_id):
            ModelCall.objects.filter(id=attempt.id).update(**columns(attempt))


def set_usage(call_id: UUID, usage: Usage, cost: Money) -> None:
    """What a call has come to after all, as the provider's log says; in the tenant's transaction."""
    ModelCall.objects.filter(id=call_id).update(cost_micros=cost.micros, estimated=False, **asdict(usage))


def columns(attempt: Attempt) -> dict[str, Any]:
    """What a `ModelCall` keeps of an attempt, but its outcome and score."""
    return {
        "text": attempt.text,
        "finish_reason": attempt.finish_reason or "",
        "error": attempt.error or "",
        "estimated": attempt.estimated,
        "cost_micros": attempt.cost.micros,
        "first_token_seconds": attempt.first_token_seconds,
        "seconds": attempt.seconds,
        **asdict(attempt.usage),
    }


def estimate(call: ModelCall) -> None:
    """Give a call whose usage nobody reported the most it can have come to; not saved."""
    if call.price is None:  # memory costs nothing
        call.input_tokens = call.output_tokens = call.cost_micros = 0
        return
    usage, cost = pricing.estimate(
        call.prompt_tokens, call.written_characters, price_value(call.price), call.max_output_tokens
    )
    call.input_tokens, call.output_tokens = usage.input_tokens, usage.output_tokens
    call.cost_micros, call.estimated = cost.micros, True


def settle(tenant_id: UUID, held_id: UUID, charges: Sequence[ledger.Charge]) -> None:
    """Settle the hold of a turn, or of what has a hold of its own; where that was done before, correct it.

    A turn that ended before anything was held is on record all the same, and the tenant pays nothing for it.
    """
    try:
        settled = ledger.settle(tenant_id, held_id, charges)
    except ledger.NotHeld:
        if any(charge.source == "model" for charge in charges):
            raise
        settled = ledger.record(tenant_id, held_id, charges)
    for late in () if settled else charges:
        ledger.settle_late(tenant_id, held_id, late, "its usage became known after an interruption")


def charges_of(turn: Turn, calls: Sequence[ModelCall], used: Beside) -> list[ledger.Charge]:
    """One charge a call, one for what was computed here in each way, and one for a saved reply, which costs nothing.

    The one whose answer counts says what the strategy's dearest model would have cost.
    """
    counts = max(calls, key=lambda call: (call.outcome == Outcome.ACCEPTED, call.output_tokens or 0), default=None)
    charges = [charge(call, _dearest(call, used) if call is counts else ZERO) for call in calls]
    if used.saved_reply:
        free = _beside_calls(turn, turn.id, "cache")
        spared = dearest(turn, used.saved_reply)
        charges.append(replace(free, model=SAVED_REPLY, outcome=Outcome.ACCEPTED, dearest=spared))
    judged = used.judged + sum(call.score is not None for call in calls)
    return charges + computed(turn, turn.id, {compute.SCORER: judged, compute.EMBEDDING: used.embedded}, used.prices)


def computed(
    turn: Turn, held_id: UUID, texts: Mapping[str, int], prices: compute.Prices, outcome: str = ""
) -> list[ledger.Charge]:
    """For so many texts of each kind, on the hold of the turn or another."""
    return [
        replace(
            _beside_calls(turn, held_id, name),
            number=texts[name],
            provider=compute.PROVIDER,
            model=name,
            outcome=outcome,
            price_version=price.version,
            cost=compute.cost(price, texts[name]),
        )
        for name in compute.NAMES
        if texts.get(name) and (price := prices.get(name))
    ]


def _dearest(call: ModelCall, used: Beside) -> Money:
    if call.model != MEMORY:
        return dearest_cost(call)
    return used.spared if call.outcome == Outcome.ACCEPTED else ZERO


def _beside_calls(turn: Turn, held_id: UUID, source: str) -> ledger.Charge:
    return ledger.Charge(
        call_id=uuid5(held_id, source),  # the same however often the turn is closed
        conversation_id=turn.conversation_id,
        chatbot_id=turn.conversation.chatbot_id,
        number=1,
        tier=None,
        model="",
        outcome="",
        price_version="",
        cost=ZERO,
        estimated=False,
        input_tokens=0,
        output_tokens=0,
        source=source,
    )


def charge(call: ModelCall, dearest: Money = ZERO) -> ledger.Charge:
    conversation, from_memory = call.turn.conversation, call.model == MEMORY
    return ledger.Charge(
        call_id=call.id,
        conversation_id=conversation.id,
        chatbot_id=conversation.chatbot_id,
        number=call.number,
        tier=None if from_memory else call.tier,
        model=call.model,
        outcome=call.outcome,
        price_version=str(call.price_id or ""),
        cost=Money(call.cost_micros or 0),
        estimated=call.estimated,
        input_tokens=call.input_tokens or 0,
        output_tokens=call.output_tokens or 0,
        provider=call.price.model.provider if call.price else "",
        dearest=dearest,
        source="cache" if from_memory else "model",
    )
