"""What may be sent: JSON, not nested too deep, of texts that the database can keep; and what is answered.

How long a body may be is decided before it is read (`chatbackend.asgi`).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from accounts.rest.problems import Problem, part

DEEPEST = 32  # levels of nesting


class JSONBody(BaseParser):
    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return self.read(stream.read())

    @staticmethod
    def read(body: bytes) -> Any:
        """Raises Problem("invalid_json")."""
        try:
            value = json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite)
        except RecursionError:
            raise Problem("invalid_json", f"nested deeper than {DEEPEST}") from None
        except ValueError as error:
            raise Problem("invalid_json", "not JSON" if isinstance(error, UnicodeError) else str(error)) from None
        check(value)
        return value


class JSONAlone(DefaultContentNegotiation):
    """DRF's, quicker with what nearly every program says."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        if request.headers.get("Accept", "*/*") in ("*/*", "application/json"):
            return renderers[0], renderers[0].media_type
        found: tuple[Any, str] = super().select_renderer(request, renderers, format_suffix)
        return found


class JSONAnswer(JSONRenderer):
    """By orjson, which is several times as quick; and by Python where a number has more than 64 bits."""

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        try:
            return orjson.dumps(data, self.encoder_class().default, orjson.OPT_UTC_Z)
        except orjson.JSONEncodeError:
            return super().render(data)


def check(value: Any) -> None:
    """Raises Problem("invalid_json") with a pointer to what cannot be kept or is nested too deep."""
    waiting: list[tuple[Any, str, int]] = [(value, "", 0)]
    while waiting:
        value, pointer, depth = waiting.pop()
        if depth > DEEPEST:
            raise Problem("invalid_json", f"nested deeper than {DEEPEST}", pointer=pointer)
        match value:
            case str():
                _check_text(value, pointer)
            case dict():
                for name, inner in value.items():
                    _check_text(name, pointer)
                    waiting.append((inner, f"{pointer}/{part(name)}", depth + 1))
            case list():
                waiting.extend((inner, f"{pointer}/{place}", depth + 1) for place, inner in enumerate(value))


def storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _check_text(text: str, pointer: str) -> None:
    if not storable(text):
        raise Problem("invalid_json", "has NUL or half a surrogate pair", pointer=pointer)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
