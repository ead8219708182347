"""What the engine asks of a provider, and nothing a vendor would recognise."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from cascade.values import FinishReason, LanguageModel, Prompt, Usage


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is over. `usage` is as reported, believable or not; None: not reported."""

    reason: FinishReason
    usage: Usage | None


class Provider(Protocol):
    """One vendor's models. Retries, prices, deadlines and thresholds live elsewhere."""

    def stream(
        self, model: LanguageModel, prompt: Prompt, *, max_output_tokens: int, timeout_seconds: float
    ) -> AsyncGenerator[Delta | Finished]:
        """The answer in pieces, then one Finished. Raises ProviderError, before or between pieces.

        `timeout_seconds` bounds each wait for the network; the whole is the caller's to bound.
        Closing the iterator (`aclose`) ends the HTTP call.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections; no call may follow."""
        ...
