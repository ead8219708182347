"""The frames of the chat socket: pure; these three files alone know their wire form.

A client frame is parsed (`parsing`) into one frozen dataclass or refused with a `ProtocolError`; a server frame
is a `Frame`, whose `stream.chunk` data are `chunks`. What the frames mean is told in `docs/protocol.md`; who sends
them, in `consumers` and `chat`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

VERSION = 1
MAX_TEXT = 8000  # characters of one message
MAX_HISTORY = 100  # messages of one page
SAFE_INTEGER = 2**53 - 1  # the largest whole number every JSON reader keeps exact

EVENTS = (
    "session.ready",
    "ack",
    "problem",
    "message.created",
    "stream.chunk",
    "handoff.updated",
    "typing",
    "history.page",
    "resync.required",
    "pong",
)

# The stable code of every problem: its HTTP-like status and its title. Codes never change their meaning.
# Why a tenant's chat cannot be answered (its money, its settings) is no customer's business: temporarily_unavailable.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "The frame is not a JSON object"),
    "invalid_frame": (422, "The frame does not have the fields it needs"),
    "unknown_type": (400, "There is no such type of frame"),
    "unsupported_version": (400, "This version of the protocol is not spoken here"),
    "message_too_long": (413, "The message is too long"),
    "not_authenticated": (401, "The first frame must be auth"),
    "already_authenticated": (409, "The session is already authenticated"),
    "identity_refused": (401, "The identity was not accepted"),
    "auth_timeout": (408, "No identity was given in time"),
    "unknown_widget": (403, "There is no such widget"),
    "origin_refused": (403, "The widget may not be used on this site"),
    "rate_limited": (429, "Too much was sent"),
    "too_slow": (503, "The frames were not read fast enough"),
    "not_found": (404, "There is no such thing"),
    "busy": (409, "The conversation is still being answered"),
    "conversation_closed": (409, "The conversation is closed"),
    "idempotency_conflict": (409, "This id was used for another message"),
    "temporarily_unavailable": (503, "The chat is not available for a moment"),
    "internal_error": (500, "Something went wrong"),
}

# Why a socket is closed; the rest are the codes of RFC 6455.
CLOSE_IDENTITY = 4401
CLOSE_ORIGIN = 4403
CLOSE_AUTH_TIMEOUT = 4408
CLOSE_RATE = 4429
CLOSE_BINARY = 1003
CLOSE_INTERNAL = 1011
CLOSE_RESTART = 1012
CLOSE_SLOW = 1013


class ProtocolError(Exception):
    """A frame that cannot be acted on. `pointer` is a JSON pointer (RFC 6901) to what is wrong."""

    def __init__(self, code: str, detail: str, pointer: str = "", reply_to: str | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.reply_to = reply_to  # None: the frame's id could not be read


# --- what a client says ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Auth:
    """The first frame: whose widget it is, and who is there."""

    id: str
    conversation_id: str | None  # None: the customer's open conversation, or a new one
    widget_key: str
    jwt: str | None = None  # None: a visitor
    visitor: str | None = None  # the signed secret of an earlier session; None: a new visitor


@dataclass(frozen=True, slots=True)
class Send:
    """A customer's message. `id` makes it idempotent: sent twice, it is one turn."""

    id: str
    conversation_id: str | None  # None: the customer's open conversation, or a new one
    text: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the running turn."""

    id: str
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Resume:
    """Send again what came after `last_seq`, then go on live."""

    id: str
    conversation_id: str | None
    last_seq: int


@dataclass(frozen=True, slots=True)
class HistoryList:
    """A page of messages, the newest before `before_seq` (None: the newest of all)."""

    id: str
    conversation_id: str | None
    before_seq: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class FeedbackSet:
    """What the customer thinks of a reply: 1 good, -1 bad."""

    id: str
    conversation_id: str | None
    message_id: str
    rating: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Typing:
    """The customer is writing, or no longer. Told to the conversation's other sockets, not stored."""

    id: str
    conversation_id: str | None
    on: bool


@dataclass(frozen=True, slots=True)
class Ping:
    id: str
    conversation_id: str | None


ClientFrame = Auth | Send | Cancel | Resume | HistoryList | FeedbackSet | Typing | Ping

# --- what we say ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from us to a client."""

    event: str  # one of EVENTS
    data: Mapping[str, Any]  # a JSON object
    seq: int | None = None  # its place in the conversation; None: for this socket alone, not stored
    conversation_id: str | None = None
    message_id: str | None = None
    reply_to: str | None = None  # the id of the client frame that it answers


def to_wire(frame: Frame) -> str:
    envelope = {
        "v": VERSION,
        "seq": frame.seq,
        "event": frame.event,
        "conversation_id": frame.conversation_id,
        "message_id": frame.message_id,
        "reply_to": frame.reply_to,
        "data": frame.data,
    }
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def problem(
    code: str,
    detail: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    *,
    reply_to: str | None = None,
    conversation_id: str | None = None,
) -> Frame:
    """What went wrong, in the members of RFC 9457. `errors` are {"pointer", "detail"}."""
    status, title = PROBLEMS[code]
    data = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail or title,
        "errors": list(errors),
    }
    return Frame("problem", data, conversation_id=conversation_id, reply_to=reply_to)


def rate_limited(retry_after: int, *, reply_to: str | None) -> Frame:
    """A message that was not taken; after so many seconds it may be sent again."""
    told = problem("rate_limited", f"too many messages; again in {retry_after} seconds", reply_to=reply_to)
    return replace(told, data={**told.data, "retry_after": retry_after})


def refusal(error: ProtocolError) -> Frame:
    """The problem that tells a client why its frame was refused."""
    errors = [{"pointer": error.pointer, "detail": error.detail}] if error.pointer else []
    return problem(error.code, error.detail, errors, reply_to=error.reply_to)
