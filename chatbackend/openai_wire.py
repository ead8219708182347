"""OpenAI's words: what is read of a request to `/v1/chat/completions`, and how an answer is put.

What a chatbot decides for itself (its instructions, models, temperature) cannot be set by a request; such a field is
ignored and named in the answer's `frugal.ignored`. What would change the meaning of the answer (tools, images, several
choices, JSON only) is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db.models import F, Sum
from rest_framework.exceptions import ValidationError
from uuid_utils.compat import uuid7

from accounts.identity import VISITOR_PREFIX
from accounts.models import LedgerEntry
from accounts.money import Money
from accounts.rest import bodies
from accounts.rest.problems import Problem
from accounts.tenancy import in_tenant
from cascade.models import Chatbot, Message, ModelCall, Turn
from cascade.values import Utterance
from chatbackend.protocol import MAX_TEXT

MOST_MESSAGES = 200
REFUSED = (
    "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "audio", "modalities", "logprobs",
    "top_logprobs", "web_search_options", "prediction",
)  # fmt: skip
READ = {"model", "messages", "user", "stream", "stream_options", "metadata", "n", "response_format"}
ROLES = {"user": "customer", "assistant": "assistant"}


class ApiError(Exception):
    """What goes wrong, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = "",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        kind = kind or ("invalid_request_error" if status < 500 else "server_error")
        self.told = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered."""

    model: str
    text: str  # the last message, which is the customer's
    history: tuple[Utterance, ...]  # what was said before it
    user: str  # the tenant's id of the customer; "": not told
    conversation_id: UUID | None  # of ours, to be continued; None: a new one
    client_id: str
    stream: bool = False
    usage_in_stream: bool = False
    ignored: tuple[str, ...] = ()


# --- what is read -----------------------------------------------------------------------------


def read(body: bytes, idempotency_key: str | None) -> Asked:
    """Raises ApiError."""
    told = _json(body)
    _refuse(told)
    messages = told.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST_MESSAGES:
        raise _wrong(f"1 to {MOST_MESSAGES} messages are needed", "messages")
    said = [(place, *_message(place, message)) for place, message in enumerate(messages)]
    spoken = [Utterance(role=ROLES[role], text=text) for _, role, text in said if role in ROLES]  # type: ignore[arg-type]
    if not spoken or said[-1][1] != "user" or not spoken[-1].text.strip():
        raise _wrong("the last message must be a user's, and not empty", "messages")
    if len(spoken[-1].text) > MAX_TEXT:
        raise _wrong(f"a question has at most {MAX_TEXT} characters", f"messages[{said[-1][0]}]")
    continued = _conversation(told.get("metadata"))
    ignored = [f"messages[{place}]" for place, role, _ in said if role not in ROLES]
    if continued and len(spoken) > 1:
        ignored += [f"messages[{place}]" for place, role, _ in said[:-1] if role in ROLES]
    options = told.get("stream_options")
    return Asked(
        model=_text(told, "model"),
        text=spoken[-1].text,
        history=() if continued else tuple(spoken[:-1]),
        user=_user(told),
        conversation_id=continued,
        client_id=sha256(idempotency_key.encode()).hexdigest() if idempotency_key else str(uuid7()),
        stream=told.get("stream") is True,
        usage_in_stream=isinstance(options, dict) and options.get("include_usage") is True,
        ignored=(*sorted(told.keys() - READ), *ignored),
    )


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = bodies.JSONBody.read(body)
    except (Problem, ValidationError) as problem:
        raise ApiError(400, "invalid_json", str(problem.detail)) from None
    if not isinstance(told, dict):
        raise ApiError(400, "invalid_json", "an object is needed")
    return told


def _refuse(told: dict[str, Any]) -> None:
    for name in REFUSED:
        if told.get(name) not in (None, [], False):
            raise ApiError(400, "unsupported_parameter", f"{name} is not offered: a chatbot has no tools", param=name)
    if told.get("n") not in (None, 1):
        raise ApiError(400, "unsupported_parameter", "one choice alone is offered", param="n")
    wanted = told.get("response_format")
    if wanted is not None and wanted != {"type": "text"}:
        raise ApiError(400, "unsupported_parameter", "answers are text", param="response_format")


def _message(place: int, message: Any) -> tuple[str, str]:
    """Role and text."""
    if not isinstance(message, dict) or message.get("role") not in ("system", "developer", *ROLES):
        raise _wrong("a message has the role system, developer, user or assistant", f"messages[{place}]")
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str) or message.get("tool_calls"):
        raise _wrong("a message's content is text", f"messages[{place}].content")
    return message["role"], content


def _conversation(metadata: Any) -> UUID | None:
    told = metadata.get("conversation_id") if isinstance(metadata, dict) else None
    if told is None:
        return None
    try:
        return UUID(told)
    except (ValueError, AttributeError, TypeError):
        raise _wrong("conversation_id is a UUID", "metadata.conversation_id") from None


def _user(told: dict[str, Any]) -> str:
    if told.get("user") is None:
        return ""
    user = _text(told, "user")
    if user.startswith(VISITOR_PREFIX):
        raise _wrong(f"a customer's id does not begin with {VISITOR_PREFIX}", "user")
    return user


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        raise _wrong(f"{name} is a text of 1 to 200 characters", name)
    return value


def _wrong(message: str, param: str) -> ApiError:
    return ApiError(400, "invalid_value", message, param=param)


# --- what came of it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as the tenant's program is told of it."""

    tier: int  # from 1
    model: str
    outcome: str
    score: float | None  # None: not scored


@dataclass(frozen=True, slots=True)
class Outcome:
    """A turn that has ended, for the tenant's program."""

    turn_id: UUID
    conversation_id: UUID
    created: int  # Unix seconds
    state: str  # a Turn.State
    problem: str
    text: str
    charged: Money
    input_tokens: int
    output_tokens: int
    tried: tuple[Tried, ...] = field(default=())

    @property
    def finish(self) -> str:
        """In OpenAI's words: a reply that broke off was shown as far as it had come."""
        return "length" if self.state == Turn.State.ANSWERED and self.problem else "stop"

    @property
    def accepted(self) -> Tried | None:
        return next((tried for tried in self.tried if tried.outcome == "accepted"), None)


# Why there is no answer: status, code and words for the tenant's program.
WITHOUT_ANSWER = {
    "insufficient_funds": (402, "insufficient_quota", "there is not enough credit"),
    "busy": (409, "busy", "the conversation is still being answered"),
    "conversation_closed": (409, "conversation_closed", "the conversation is closed"),
    "idempotency_conflict": (422, "idempotency_key_reused", "the Idempotency-Key was used for another request"),
    "not_found": (404, "conversation_not_found", "there is no such conversation of this customer"),
    "unknown_price": (503, "unknown_price", "a model of the chatbot's strategy has no price"),
    "in_progress": (409, "request_in_progress", "a request with this Idempotency-Key is being answered"),
    "cancelled": (409, "cancelled", "the answer was stopped"),
}


def outcome(tenant_id: UUID, turn_id: UUID | None, problem: str) -> Outcome:
    """Read from what is on record. Raises ApiError: there is no answer."""
    if turn_id is None:
        raise _without_answer(problem)
    with in_tenant(tenant_id):
        turn = Turn.objects.select_related("conversation__chatbot").get(id=turn_id)
        calls = list(ModelCall.objects.filter(turn=turn).order_by("number"))
        said = Message.objects.filter(turn=turn, role=Message.Role.ASSISTANT).order_by("seq").last()
        entries = LedgerEntry.objects.filter(hold__turn_id=turn_id)
        charged = entries.aggregate(sum=Sum(F("included_micros") - F("amount_micros")))["sum"] or 0
    if turn.state == Turn.State.OPEN:
        raise _without_answer("in_progress")
    with_person = turn.state == Turn.State.HANDED_OVER
    text = said.text if said else turn.conversation.chatbot.hand_over_text if with_person else ""
    if not text:
        raise _without_answer(turn.problem or turn.state)
    return Outcome(
        turn_id, turn.conversation_id, int(turn.created_at.timestamp()), turn.state, turn.problem, text,
        Money(charged), sum(call.input_tokens or 0 for call in calls), sum(call.output_tokens or 0 for call in calls),
        tuple(Tried(call.tier + 1, call.model, call.outcome, call.score) for call in calls),
    )  # fmt: skip


def _without_answer(problem: str) -> ApiError:
    usual = (503, "temporarily_unavailable", f"the chatbot cannot answer now ({problem or 'unknown'})")
    status, code, message = WITHOUT_ANSWER.get(problem, usual)
    return ApiError(status, code, message, kind="insufficient_quota" if status == 402 else "")


# --- how it is put ------------------------------------------------------------------------------


def model(chatbot: Chatbot, owner: str) -> dict[str, Any]:
    created = int(chatbot.created_at.timestamp())
    return {"id": str(chatbot.id), "object": "model", "created": created, "owned_by": owner, "name": chatbot.name}


def completion(outcome: Outcome, asked: Asked) -> dict[str, Any]:
    message = {"role": "assistant", "content": outcome.text, "refusal": None}
    return _envelope(outcome.turn_id, outcome.created, asked, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.finish}],
        "usage": _usage(outcome),
        "frugal": frugal(outcome, asked),
    }


def frugal(outcome: Outcome, asked: Asked) -> dict[str, Any]:
    """What OpenAI's answers do not say: which tier answered, how good it is thought to be, what it cost."""
    accepted = outcome.accepted
    return {
        "conversation_id": str(outcome.conversation_id),
        "turn_id": str(outcome.turn_id),
        "state": outcome.state,
        "problem": outcome.problem,
        "tier": accepted.tier if accepted else None,
        "model": accepted.model if accepted else None,
        "score": accepted.score if accepted else None,
        "charged": str(outcome.charged),
        "attempts": [asdict(tried) for tried in outcome.tried],
        "ignored": list(asked.ignored),
    }


def headers(outcome: Outcome) -> dict[str, str]:
    told = {"Conversation-Id": outcome.conversation_id, "Charged": outcome.charged, "State": outcome.state}
    if outcome.accepted:
        told |= {"Tier": outcome.accepted.tier, "Score": outcome.accepted.score}
    return {f"X-Frugal-{name}": str(value) for name, value in told.items()}


def _usage(outcome: Outcome) -> dict[str, int]:
    """Of all attempts: what was used to get this answer."""
    tokens = {"prompt_tokens": outcome.input_tokens, "completion_tokens": outcome.output_tokens}
    return tokens | {"total_tokens": outcome.input_tokens + outcome.output_tokens}


def _envelope(turn_id: UUID | None, created: int, asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{turn_id}", "object": kind, "created": created, "model": asked.model}


def event(told: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(told, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def chunk(turn_id: UUID | None, asked: Asked, delta: dict[str, Any], finish: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    created = (turn_id.int >> 80) // 1000 if turn_id else 0  # a UUIDv7 begins with the milliseconds it was made in
    told = _envelope(turn_id, created, asked, "chat.completion.chunk") | {"choices": [choice]}
    return event(told | ({"usage": None} if asked.usage_in_stream else {}) | more)


def opening(turn_id: UUID | None, asked: Asked) -> bytes:
    return chunk(turn_id, asked, {"role": "assistant", "content": ""}, None)


def delta(turn_id: UUID | None, asked: Asked, words: str) -> bytes:
    return chunk(turn_id, asked, {"content": words}, None)


def closing(outcome: Outcome, asked: Asked) -> list[bytes]:
    last = [chunk(outcome.turn_id, asked, {}, outcome.finish, frugal=frugal(outcome, asked))]
    if asked.usage_in_stream:
        last.append(chunk(outcome.turn_id, asked, {}, None, choices=[], usage=_usage(outcome)))
    return [*last, b"data: [DONE]\n\n"]


def chunks_of(outcome: Outcome, asked: Asked) -> list[bytes]:
    """A whole answer at once."""
    words: Sequence[bytes] = (opening(outcome.turn_id, asked), delta(outcome.turn_id, asked, outcome.text))
    return [*words, *closing(outcome, asked)]
