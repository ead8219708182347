"""One call to a vendor, from the first byte to the last: where its exceptions become ours.

Both SDKs are built alike, so one table serves them. What a vendor writes for people may quote
a key or the customer, so only the status and the vendor's own short code are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import anthropic
import httpx2
import openai

from cascade.errors import (
    AuthenticationFailed,
    BadRequest,
    ConnectionFailed,
    ContentFiltered,
    Interrupted,
    Malformed,
    Overloaded,
    ProviderError,
    RateLimited,
    ServerError,
    Timeout,
)
from cascade.values import Prompt

CONNECT_SECONDS = 3.0
REQUEST_ID = "X-Client-Request-Id"  # as OpenAI calls it; others ignore what they do not know
NOT_A_COUNT = -(2**62)  # stays impossible whatever is added to it

_STATUS_ERRORS = (openai.APIStatusError, anthropic.APIStatusError)
_TIMEOUTS = (openai.APITimeoutError, anthropic.APITimeoutError, httpx2.TimeoutException)
_CONNECTION_ERRORS = (openai.APIConnectionError, anthropic.APIConnectionError, httpx2.RequestError)
_NOT_CONNECTED = (httpx2.ConnectTimeout, httpx2.PoolTimeout)

_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: AuthenticationFailed,
    403: AuthenticationFailed,
    408: Timeout,
    409: ServerError,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}
# The vendors' own codes say more than the status; in an error event there is no status at all.
_BY_CODE: dict[str, type[ProviderError]] = {
    "api_error": ServerError,
    "authentication_error": AuthenticationFailed,
    "billing_error": AuthenticationFailed,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "insufficient_quota": AuthenticationFailed,
    "invalid_request_error": BadRequest,
    "overloaded_error": Overloaded,
    "permission_error": AuthenticationFailed,
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "server_error": ServerError,
    "timeout_error": Timeout,
}


def network_timeout(seconds: float) -> httpx2.Timeout:
    """Each read waits this long at most; a connection less, so that it fails before the call as a whole."""
    return httpx2.Timeout(seconds, connect=min(seconds / 2, CONNECT_SECONDS))


def names(prompt: Prompt) -> dict[str, str]:
    """HTTP headers by which the vendor's log of requests tells our call."""
    return {REQUEST_ID: prompt.call_id} if prompt.call_id else {}


class Exchange:
    """`with Exchange(model)`: whatever a vendor raises inside leaves as a ProviderError.

    Once the adapter has set `finish`, the answer is whole, and a connection that breaks before
    the usage came is no error: the usage is missing, that is all.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.begun = False  # something of the answer has come
        self.finish: str | None = None  # the vendor's word; None: the answer is not over

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        whole = self.finish is not None
        if error is None and not whole:
            raise Interrupted(self.model) if self.begun else Malformed(self.model, "no answer in it")
        if whole or not isinstance(error, Exception):  # a cancellation passes through
            return isinstance(error, Exception)
        raise self._ours(error) from error

    def _ours(self, error: Exception) -> ProviderError:
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, _TIMEOUTS):
            cause = error.__cause__ or error
            return Timeout(self.model, billed=self.begun or not isinstance(cause, _NOT_CONNECTED))
        if isinstance(error, _CONNECTION_ERRORS):
            return Interrupted(self.model) if self.begun else ConnectionFailed(self.model)
        if isinstance(error, _STATUS_ERRORS):
            return self._refused(error.body, error.status_code, error.response.headers)
        if isinstance(error, openai.APIError):  # an error event inside a good response
            return self._refused(error.body, 200, {})
        return Malformed(self.model, type(error).__name__)

    def _refused(self, body: object, status: int, headers: Mapping[str, str]) -> ProviderError:
        if self.begun:
            return Interrupted(self.model, "an error event")
        code = _code(body)
        by_status = BadRequest if 400 <= status < 500 else ServerError
        kind = _BY_STATUS.get(status, by_status)
        if kind in (BadRequest, RateLimited) or status == 200:
            kind = _BY_CODE.get(code, kind)
        detail = f"HTTP {status} {code}".strip()
        if kind is RateLimited:
            return RateLimited(self.model, detail, retry_after=_retry_after(headers))
        return kind(self.model, detail)


def count(value: object) -> int:
    """A reported number of tokens; 0 where none is given, an impossible one where it is not a number."""
    if value is None:
        return 0
    return value if isinstance(value, int) and not isinstance(value, bool) else NOT_A_COUNT


def _code(body: object) -> str:
    """The vendor's short code out of an error body, "" where there is none fit to print."""
    error: Any = body.get("error", body) if isinstance(body, dict) else {}
    for key in ("code", "type"):
        code = error.get(key) if isinstance(error, dict) else None
        if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code):
            return code
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or a date; None where the header is missing or makes no sense."""
    text = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
