"""What goes wrong, as `application/problem+json` (RFC 9457) with stable codes.

`errors` names each wrong value: by a JSON pointer (RFC 6901) into the body, or by the name of a query parameter.
Whatever is raised becomes a problem here; what nobody foresaw is logged and told as `internal_error`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.http import Http404, JsonResponse
from psycopg.errors import QueryCanceled
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.bounds import TooMany

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
# The stable code of every problem: its HTTP status and its title. Codes never change their meaning.
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid": (400, "The request is not valid"),
    "invalid_json": (400, "The body is not JSON that can be kept"),
    "not_authenticated": (401, "A valid API key or a session is needed"),
    "insufficient_funds": (402, "There is not enough credit"),
    "forbidden": (403, "The caller may not do this"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "This method is not offered here"),
    "not_acceptable": (406, "The API speaks JSON"),
    "already_exists": (409, "There is one already"),
    "in_use": (409, "Something else needs it"),
    "conflict": (409, "This cannot be done as things are now"),
    "request_in_progress": (409, "A request with this Idempotency-Key is being answered"),
    "changed_meanwhile": (412, "It has been changed since it was read"),
    "too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "The body must be application/json"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used for another request"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Something went wrong"),
    "too_slow": (503, "The database would take too long; narrow the filter"),
    "temporarily_unavailable": (503, "The service is not available for a moment"),
}
BY_STATUS = {
    401: "not_authenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable",
    415: "unsupported_media_type", 429: "rate_limited",
}  # fmt: skip


class Problem(exceptions.APIException):
    """Raises a problem by its code. `pointer`: what in the body is wrong; `parameter`: what in the query."""

    def __init__(
        self, code: str, detail: str = "", *, pointer: str | None = None, parameter: str | None = None, **more: Any
    ) -> None:
        self.status_code, title = PROBLEMS[code]
        super().__init__(detail or title, code)
        self.problem = code
        self.headers: dict[str, str] = more.get("headers", {})
        place = {"pointer": pointer} if pointer is not None else {"parameter": parameter} if parameter else None
        self.errors = [place | {"detail": detail or title}] if place else []


def body(code: str, detail: str = "", errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    status, title = PROBLEMS[code]
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail or title,
        "errors": errors or [],
    }


def nowhere(request: Any) -> JsonResponse:
    """An address of the API that does not exist."""
    return JsonResponse(body("not_found"), status=404, content_type=CONTENT_TYPE)


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler."""
    told = _told(error)
    response = Response(told, status=told["status"], content_type=CONTENT_TYPE)
    for name, value in getattr(error, "headers", {}).items():
        response[name] = value
    if told["status"] == 401:
        response["WWW-Authenticate"] = 'Bearer realm="api"'
    return response


def _told(error: Exception) -> dict[str, Any]:
    match error:
        case Problem():
            return body(error.problem, str(error.detail), error.errors)
        case exceptions.ValidationError():
            return body("invalid", errors=list(_errors(error.detail, "")))
        case exceptions.ParseError():
            return body("invalid_json", str(error.detail))
        case exceptions.APIException():
            code = BY_STATUS.get(error.status_code, "invalid")
            return body(code, "" if code == "not_authenticated" else str(error.detail))
        case TooMany():
            return body("conflict", str(error))
        case Http404():
            return body("not_found")
        case PermissionDenied():
            return body("forbidden")
        case RequestDataTooBig():
            return body("too_large")
        case ProtectedError():
            return body("in_use")
        case IntegrityError():
            return body("already_exists" if getattr(error.__cause__, "sqlstate", "") == "23505" else "conflict")
        case DataError():
            return body("invalid", "a value is out of the range that can be kept")
        case OperationalError(__cause__=QueryCanceled()):
            return body("too_slow")
    log.error("the API could not answer", exc_info=error)
    gone = isinstance(error, OperationalError | InterfaceError)
    return body("temporarily_unavailable" if gone else "internal_error")


def _errors(detail: Any, pointer: str) -> Iterator[dict[str, str]]:
    """DRF's nested details, each with the JSON pointer to what it is about."""
    match detail:
        case dict():
            for name, inner in detail.items():
                own = pointer if name == "non_field_errors" else f"{pointer}/{part(str(name))}"
                yield from _errors(inner, own)
        case list() if any(isinstance(inner, dict | list) for inner in detail):
            for place, inner in enumerate(detail):
                yield from _errors(inner, f"{pointer}/{place}")
        case list():
            yield from ({"pointer": pointer, "detail": str(inner)} for inner in detail)
        case _:
            yield {"pointer": pointer, "detail": str(detail)}


def part(name: str) -> str:
    """A key as it stands in a JSON pointer; the sender's own words, so cut and made printable."""
    return name[:64].encode("ascii", "backslashreplace").decode().replace("~", "~0").replace("/", "~1")
