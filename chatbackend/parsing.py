"""A client frame out of the text that came: one whole, valid frame, or a `ProtocolError` that names what is wrong."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from chatbackend.protocol import (
    MAX_HISTORY,
    MAX_TEXT,
    SAFE_INTEGER,
    VERSION,
    Auth,
    Cancel,
    ClientFrame,
    FeedbackSet,
    HistoryList,
    Ping,
    ProtocolError,
    Resume,
    Send,
    Typing,
)

MAX_DEPTH = 4  # of nested objects; a frame needs two

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
