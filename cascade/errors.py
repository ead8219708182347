"""What can go wrong when a model is asked: a short list, each carrying what its handler needs.

    CascadeError
    ├── UnknownPrice            a figure of the price is missing: refuse, never free
    └── ProviderError           a model did not answer; says which
        ├── RateLimited         wait `retry_after` seconds, if it said so     retryable
        ├── Overloaded          503, 529                                      retryable
        ├── ServerError         500 and its like                              retryable
        ├── ConnectionFailed    refused, or reset before the first byte       retryable
        ├── Timeout             no connection, or no answer, in time
        ├── Interrupted         the stream broke after it had begun           may be billed
        ├── Malformed           not the protocol                              may be billed
        ├── ContentFiltered     the prompt itself was refused                 may be billed
        ├── BadRequest          the request is wrong: asking again is useless
        ├── AuthenticationFailed  no key, or not a good one
        └── CircuitOpen         failed too often just now; was not called

What may be billed is never retryable, so a tier is paid for at most once a turn
(`cascade.pricing.ceiling` rests on this). The text of an error is for the operator's log
and never holds a key or a customer's words.
"""

from __future__ import annotations

from typing import ClassVar


class CascadeError(Exception):
    """Anything the engine refuses or fails at. `code` is for programs and never changes."""

    code: ClassVar[str]


class UnknownPrice(CascadeError):
    """A figure of this price is missing, negative or not a number."""

    code = "unknown_price"

    def __init__(self, version: str) -> None:
        super().__init__(f"price {version} is not known")
        self.version = version


class ProviderError(CascadeError):
    """`model` did not answer."""

    retryable: ClassVar[bool] = False  # the same call may work in a moment
    billed: bool = False  # the provider may charge for what it did
    because: ClassVar[str] = "did not answer"

    def __init__(self, model: str, detail: str = "") -> None:
        super().__init__(f"{model} {self.because}" + (f": {detail}" if detail else ""))
        self.model = model


class RateLimited(ProviderError):
    """The provider asks us to wait `retry_after` seconds; None: it did not say how long."""

    code = "rate_limited"
    retryable = True
    because = "is rate limited"

    def __init__(self, model: str, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(model, detail)
        self.retry_after = retry_after


class Overloaded(ProviderError):
    code = "overloaded"
    retryable = True
    because = "is overloaded"


class ServerError(ProviderError):
    code = "server_error"
    retryable = True
    because = "failed on the provider's side"


class ConnectionFailed(ProviderError):
    """No connection, or it was reset before anything came back."""

    code = "connection_failed"
    retryable = True
    because = "could not be reached"


class Timeout(ProviderError):
    """`billed` is False only where not even a connection came about in time."""

    code = "timeout"
    because = "did not answer in time"

    def __init__(self, model: str, detail: str = "", *, billed: bool = True) -> None:
        super().__init__(model, detail)
        self.billed = billed


class Interrupted(ProviderError):
    code = "interrupted"
    billed = True
    because = "broke off in the middle of its answer"


class Malformed(ProviderError):
    code = "malformed"
    billed = True
    because = "sent something that is not the protocol"


class ContentFiltered(ProviderError):
    """The provider would not take the prompt. (A cut answer is `FinishReason.CONTENT_FILTER`.)"""

    code = "content_filtered"
    billed = True
    because = "refused the prompt by its content filter"


class BadRequest(ProviderError):
    code = "bad_request"
    because = "did not accept the request"


class AuthenticationFailed(ProviderError):
    code = "authentication_failed"
    because = "has no key that the provider accepts"


class CircuitOpen(ProviderError):
    code = "circuit_open"
    because = "failed too often and was left out for now"


RETRYABLE = frozenset(kind.code for kind in ProviderError.__subclasses__() if kind.retryable)
