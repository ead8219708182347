"""The frames of the chat socket: pure, and the only place that knows their wire form.

A client frame is parsed into one frozen dataclass or refused with a `ProtocolError`; a server frame
is a `Frame`, whose `stream.chunk` data are the UI-message chunks of the AI SDK. What the frames mean
is told in `docs/protocol.md`; who sends them, in `consumers` and `chat`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

import regex

VERSION = 1
MAX_TEXT = 8000  # characters of one message
MAX_HISTORY = 100  # messages of one page
MAX_DEPTH = 4  # of nested objects; a frame needs two
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

# --- checks: each returns the value or raises _Wrong ------------------------------------------


class _Wrong(Exception):
    def __init__(self, detail: str, code: str = "invalid_frame") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


Check = Callable[[Any], Any]
_REQUIRED = object()


def _text(value: Any, *, least: int = 0, most: int, too_long: str = "invalid_frame") -> str:
    if not isinstance(value, str):
        raise _Wrong("must be a string")
    if len(value) > most:
        raise _Wrong(f"must have at most {most} characters", too_long)
    if len(value.strip()) < least:
        raise _Wrong("must not be empty")
    if "\0" in value:
        raise _Wrong("must not contain NUL")
    if any(unicodedata.category(character) == "Cs" for character in value):
        raise _Wrong("must be well-formed Unicode")
    return value


def _id(value: Any) -> str:
    value = _text(value, least=1, most=64)
    if not all("!" <= character <= "~" for character in value):
        raise _Wrong("must be printable ASCII without spaces")
    return value


def _uuid(value: Any) -> str:
    try:
        return str(UUID(_text(value, most=36)))
    except ValueError:
        raise _Wrong("must be a UUID") from None


def _whole(value: Any, *, least: int, most: int = SAFE_INTEGER) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("must be a whole number")
    if not least <= value <= most:
        raise _Wrong(f"must be from {least} to {most}")
    return value


def _rating(value: Any) -> int:
    if _whole(value, least=-1, most=1) == 0:
        raise _Wrong("must be 1 or -1")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("must be true or false")
    return value


def _or_null(check: Check, value: Any) -> Any:
    return None if value is None else check(value)


@dataclass(frozen=True, slots=True)
class _Field:
    check: Check
    default: Any = _REQUIRED


_FRAMES: dict[str, tuple[type[ClientFrame], dict[str, _Field]]] = {
    "auth": (
        Auth,
        {
            "widget_key": _Field(partial(_text, least=1, most=64)),
            "jwt": _Field(partial(_or_null, partial(_text, least=1, most=32768)), None),
            "visitor": _Field(partial(_or_null, partial(_text, least=1, most=512)), None),
        },
    ),
    "message.send": (Send, {"text": _Field(partial(_text, least=1, most=MAX_TEXT, too_long="message_too_long"))}),
    "stream.cancel": (Cancel, {}),
    "session.resume": (Resume, {"last_seq": _Field(partial(_whole, least=0))}),
    "history.list": (
        HistoryList,
        {
            "before_seq": _Field(partial(_or_null, partial(_whole, least=1)), None),
            "limit": _Field(partial(_whole, least=1, most=MAX_HISTORY), 50),
        },
    ),
    "feedback.set": (
        FeedbackSet,
        {
            "message_id": _Field(_uuid),
            "rating": _Field(_rating),
            "comment": _Field(partial(_text, most=2000), ""),
        },
    ),
    "typing": (Typing, {"on": _Field(_bool)}),
    "ping": (Ping, {}),
}
TYPES = tuple(_FRAMES)
_ENVELOPE = {
    "v": _Field(lambda value: value),
    "id": _Field(_id),
    "type": _Field(partial(_text, most=64)),
    "conversation_id": _Field(partial(_or_null, _uuid), None),
    "data": _Field(lambda value: value, None),
}


def parse_frame(text: str) -> ClientFrame:
    """What a client says.

    Raises:
        ProtocolError: for everything that is not one whole, valid frame; nothing else is raised.
    """
    document = _json_object(text)
    reply_to = _readable_id(document)
    try:
        envelope = _fields("", document, _ENVELOPE)
        _version(envelope["v"])
        frame, fields = _frame_of(envelope["type"])
        data = _fields("/data", document.get("data", {}), fields)
    except ProtocolError as error:
        error.reply_to = reply_to
        raise
    return frame(id=envelope["id"], conversation_id=envelope["conversation_id"], **data)


def _version(value: Any) -> None:
    if value != VERSION or isinstance(value, bool):
        raise ProtocolError("unsupported_version", f"v must be {VERSION}", "/v")


def _frame_of(name: str) -> tuple[type[ClientFrame], dict[str, _Field]]:
    if name not in _FRAMES:
        raise ProtocolError("unknown_type", f"type must be one of {', '.join(TYPES)}", "/type")
    return _FRAMES[name]


def _fields(pointer: str, value: Any, fields: Mapping[str, _Field]) -> dict[str, Any]:
    """The checked fields of one object; unknown ones are refused, absent ones get their default."""
    if not isinstance(value, dict):
        raise ProtocolError("invalid_frame", "must be an object", pointer)
    for name in value:
        if name not in fields:
            raise ProtocolError("invalid_frame", "is not known here", f"{pointer}/{_pointer_part(name)}")
    return {name: _field(f"{pointer}/{name}", value, name, expected) for name, expected in fields.items()}


def _field(pointer: str, value: dict[str, Any], name: str, expected: _Field) -> Any:
    if name not in value:
        if expected.default is _REQUIRED:
            raise ProtocolError("invalid_frame", "is missing", pointer)
        return expected.default
    try:
        return expected.check(value[name])
    except _Wrong as wrong:
        raise ProtocolError(wrong.code, wrong.detail, pointer) from None


def _pointer_part(name: str) -> str:
    """A key as it stands in a JSON pointer; the sender's own words, so cut and made printable."""
    shown = name[:64].encode("ascii", "backslashreplace").decode()
    return shown.replace("~", "~0").replace("/", "~1")


def _readable_id(document: dict[str, Any]) -> str | None:
    try:
        return _id(document.get("id"))
    except _Wrong:
        return None


def _json_object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, _NotStrict) else "is not JSON"
        raise ProtocolError("invalid_json", detail) from None
    if not isinstance(document, dict):
        raise ProtocolError("invalid_json", "must be an object")
    if _depth(document, MAX_DEPTH) > MAX_DEPTH:
        raise ProtocolError("invalid_json", f"is nested deeper than {MAX_DEPTH}")
    return document


class _NotStrict(ValueError):
    """What Python would read and others would not."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise _NotStrict("has a key twice")
    return document


def _no_constant(name: str) -> None:
    raise _NotStrict(f"must not contain {name}")


def _depth(value: Any, enough: int) -> int:
    """How deep `value` is nested, looking no further than one past `enough`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None or enough < 0:
        return 0
    return 1 + max((_depth(each, enough - 1) for each in inner), default=0)


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


# --- chunks of a streamed reply: the UI-message chunks of the AI SDK (vercel/ai, ui-message-chunks.ts) ---


def start(message_id: str) -> dict[str, Any]:
    return {"type": "start", "messageId": message_id}


def text_start(part: str) -> dict[str, Any]:
    return {"type": "text-start", "id": part}


def text_delta(part: str, delta: str) -> dict[str, Any]:
    return {"type": "text-delta", "id": part, "delta": delta}


def text_end(part: str) -> dict[str, Any]:
    return {"type": "text-end", "id": part}


def source_document(source_id: str, title: str) -> dict[str, Any]:
    """An article that stands behind the reply."""
    return {"type": "source-document", "sourceId": source_id, "mediaType": "text/plain", "title": title}


def finish(reason: str) -> dict[str, Any]:
    """`reason`: stop, length, content-filter, tool-calls, error or other."""
    return {"type": "finish", "finishReason": reason}


def abort() -> dict[str, Any]:
    return {"type": "abort"}


def error_chunk(text: str) -> dict[str, Any]:
    return {"type": "error", "errorText": text}


# --- an accepted reply in pieces ----------------------------------------------------------------

MAX_PIECES = 24  # one every 40 ms: an accepted reply is shown within about a second


def pieces(text: str, most: int = MAX_PIECES) -> list[str]:
    """`text` in at most `most` pieces of whole words, none of which cuts a grapheme (UAX #29).

    "".join(pieces(text)) == text; the empty text has no pieces.
    """
    words = list(_words(text))
    size = -(-len(words) // most) or 1
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _words(text: str, longest: int = 24) -> Iterator[str]:
    """Words with the white space behind them; what has no spaces is cut after `longest` graphemes."""
    word: list[str] = []
    for grapheme in regex.findall(r"\X", text):
        if word and (len(word) >= longest or (word[-1].isspace() and not grapheme.isspace())):
            yield "".join(word)
            word = []
        word.append(grapheme)
    if word:
        yield "".join(word)
