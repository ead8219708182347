"""What happened in a conversation, in order: of each turn what the models were shown, what they said, what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Prefetch

from accounts.templatetags.money import dollars
from cascade.models import Conversation, Message, ModelCall, Turn
from cascade.values import FinishReason, Outcome

SHOWN = 100  # messages of a page
NOT_WHOLE: dict[str, str] = {
    FinishReason.LENGTH: "it was cut at its greatest length",
    FinishReason.CONTENT_FILTER: "its provider filtered it",
    FinishReason.OTHER: "its provider ended it early",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a turn's time, in seconds from the question on."""

    name: str
    starts: float
    took: float
    waited: float | None = None  # of it, until the first word; None: nothing was said, or no model was asked
    whole: float = 1.0

    @property
    def left(self) -> float:
        """In per cent of the turn, as the others."""
        return round(100 * self.starts / self.whole, 2)

    @property
    def width(self) -> float:
        return round(100 * self.took / self.whole, 2)

    @property
    def wait_width(self) -> float:
        return round(100 * min(self.waited or 0.0, self.took) / self.whole, 2)


@dataclass
class Step:
    """One thing that happened in a conversation: a turn with its attempts, or a message nobody asked for."""

    messages: list[Message]
    turn: Turn | None = None  # None: a person of the tenant wrote
    calls: list[ModelCall] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Another one as soon as there is more to see."""
        judged = sum(hasattr(message, "feedback") for message in self.messages)
        of = f"{self.turn.id}-{self.turn.state}" if self.turn else self.messages[0].id
        return f"{of}-{len(self.messages)}-{len(self.calls)}-{judged}"

    @property
    def asked(self) -> list[Message]:
        return [message for message in self.messages if message.role == Message.Role.CUSTOMER]

    @property
    def said(self) -> list[Message]:
        return [message for message in self.messages if message.role != Message.Role.CUSTOMER]

    @property
    def report(self) -> list[tuple[str, Any]]:
        """What the context report has to say, in words."""
        told = self.turn.context_report.items() if self.turn else ()
        return [(name.replace("_", " "), value) for name, value in told if value]

    @property
    def cost(self) -> str:
        return dollars(sum(call.cost_micros or 0 for call in self.calls))

    @property
    def candidates(self) -> list[tuple[ModelCall, str]]:
        """Each answer and what was decided of it."""
        return [(call, verdict(call)) for call in self.calls]

    @property
    def shown(self) -> dict[str, Any] | None:
        """What the models were shown of the customer; None: it is kept no more, or nothing was asked."""
        if (kept := getattr(self.turn, "context", None)) is None:
            return None
        context, customer = kept.context, kept.context["customer"]
        records = [(record, columns(record["data"])) for record in customer["records"]]
        return context | {"attributes": columns(customer["attributes"]), "records": records}

    @property
    def spans(self) -> list[Span]:
        return list(spans(self.turn, self.calls)) if self.turn else []


def columns(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values; what has parts of its own as JSON."""
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in row.items()]


def spans(turn: Turn, calls: list[ModelCall]) -> Iterator[Span]:
    """One after the other; what was asked after the reply is not part of it."""
    asked = [(call, (call.created_at - turn.created_at).total_seconds()) for call in calls if in_time(call)]
    ends = [starts + (call.seconds or 0.0) for call, starts in asked]
    closed = (turn.closed_at - turn.created_at).total_seconds() if turn.closed_at else 0.0
    whole, clock = max([closed, *ends, 0.001]), 0.0
    between = "records, articles, memory"
    for (call, starts), ends_at in zip(asked, ends, strict=True):
        if starts > clock:
            yield Span(between, clock, starts - clock, None, whole)
        yield Span(call.model, starts, call.seconds or 0.0, call.first_token_seconds, whole)
        clock, between = max(clock, ends_at), "scoring"
    if whole > clock:
        yield Span("scoring and storing" if asked else between, clock, whole - clock, None, whole)


def in_time(call: ModelCall) -> bool:
    return call.outcome != Outcome.EXPLORED


def verdict(call: ModelCall) -> str:
    """Why an answer was shown, or not."""
    limit = f"{call.threshold:.3f}"
    score = "no score" if call.score is None else f"score {call.score:.3f}"
    match call.outcome:
        case Outcome.ACCEPTED if call.threshold <= 0:
            return "Shown: no score is asked for here."
        case Outcome.ACCEPTED:
            return f"Shown: {score}, needs {limit}."
        case Outcome.REJECTED if call.finish_reason == FinishReason.GIVEN_UP:
            return f"Given up while it was written: {score} so far, needs {limit}."
        case Outcome.REJECTED if call.finish_reason in NOT_WHOLE or call.threshold <= 0:
            why = NOT_WHOLE.get(call.finish_reason, "it is empty")
            return f"Not shown: {why}, and only a whole answer is scored or shown."
        case Outcome.REJECTED if call.score is None:
            return f"Not shown: {score}, and what is not scored is never shown (needs {limit})."
        case Outcome.REJECTED:
            return f"Not shown: {score}, needs {limit} to be good enough for this customer."
        case Outcome.EXPLORED:
            return f"Asked after the reply, to learn what it would have said; nobody saw it ({score})."
        case Outcome.FAILED:
            return f"Failed: {call.error or 'no answer'}; the next model was asked, or a person."
        case Outcome.CANCELLED:
            return "Stopped before it was whole."
    return "Being asked."


def signs(conversation: Conversation) -> list[Any]:
    """Others as soon as `story` has more to tell: two queries that read no text."""
    turns = conversation.turns.order_by("-created_at").values_list("id", "state").annotate(Count("calls"))
    said = conversation.messages.order_by("-seq").values_list("id", "feedback__rating")
    return [conversation.state, *turns[:SHOWN], *said[:SHOWN]]


def story(conversation: Conversation, before: int | None = None) -> list[Step]:
    """What happened, in order: the newest messages with their turns, of those before number `before` (None: of all).

    Five queries, however long the conversation is. A turn is told whole, with what a person said meanwhile, so `before`
    is best the first message's number of a story that was told.
    """
    newest = conversation.messages.order_by("-seq")
    if before is not None:
        newest = newest.filter(seq__lt=before)
    told = list(newest.values_list("id", "turn_id", "seq")[:SHOWN])
    messages = Message.objects.select_related("feedback").order_by("seq")
    turns = Turn.objects.filter(id__in={turn for _, turn, _ in told if turn}).select_related("context", "strategy")
    turns = turns.prefetch_related(
        Prefetch("messages", messages), Prefetch("calls", ModelCall.objects.order_by("number"))
    )
    steps = [Step(list(turn.messages.all()), turn, list(turn.calls.all())) for turn in turns]
    begins = min([seq for _, _, seq in told] + [message.seq for step in steps for message in step.messages], default=0)
    unasked = messages.filter(conversation=conversation, turn=None, seq__gte=begins)
    steps += [Step([message]) for message in (unasked if before is None else unasked.filter(seq__lt=before))]
    return sorted(steps, key=lambda step: step.messages[0].seq)


def earlier(conversation: Conversation, told: list[Step]) -> int | None:
    """Before which message there is more than this story tells; None: it is told from the beginning."""
    first = told[0].messages[0].seq if told else 0
    return first if conversation.messages.filter(seq__lt=first).exists() else None
