"""One call of a model in the making: at any moment it can say what it has come to and cost.

Talks to nobody; `cascade.runner` feeds it.
"""

from __future__ import annotations

from collections.abc import Callable

from uuid_utils.compat import uuid7

from accounts.money import ZERO, Money
from cascade import pricing
from cascade.errors import ProviderError
from cascade.providers.protocol import Finished
from cascade.values import Attempt, FinishReason, Prompt, Tier, Usage


class Call:
    """Times are monotonic seconds by `clock`."""

    def __init__(self, index: int, tier: Tier, prompt: Prompt, clock: Callable[[], float]) -> None:
        self.id = str(uuid7())
        self.index, self.tier, self.prompt = index, tier, prompt
        self.characters = 0
        self.error: ProviderError | None = None
        self.finished: Finished | None = None  # None: not over, or never ended well
        self.score: float | None = None  # of a draft that was given up
        self._clock, self._pieces = clock, list[str]()
        self._sent_at: float | None = None  # None: nothing has left the house
        self._first_at: float | None = None
        self._stopped_at: float | None = None
        self.journalled_at = clock()

    def send(self) -> None:
        """From now on the provider may charge."""
        self._sent_at = self.journalled_at = self._clock()

    def add(self, text: str) -> str:
        """Take a piece of the answer in; returns it as it may be stored and shown."""
        if self._first_at is None:
            self._first_at = self._clock()
        text = sound(text)
        self._pieces.append(text)
        self.characters += len(text)
        return text

    def give_up(self, score: float) -> None:
        """The draft is lost, as its beginning shows; nobody will report the usage."""
        self.finished = Finished(FinishReason.GIVEN_UP, None)
        self.score = score

    def stop(self) -> None:
        self._stopped_at = self._clock()

    def attempt(self) -> Attempt:
        """What is known by now. A call that neither ended nor failed is charged at an estimate."""
        usage, cost, estimated = self._charge()
        return Attempt(
            id=self.id,
            tier=self.index,
            model=self.tier.model.name,
            text="".join(self._pieces),
            finish_reason=self.finished.reason if self.finished else None,
            usage=usage,
            estimated=estimated,
            cost=cost,
            score=self.score,
            error=self.error.code if self.error else None,
            first_token_seconds=self._since_sent(self._first_at),
            seconds=self._since_sent(self._stopped_at or self._clock()) or 0.0,
        )

    def _charge(self) -> tuple[Usage, Money, bool]:
        free = self._sent_at is None or (self.error is not None and not self.error.billed)
        if free:
            return Usage(), ZERO, False
        reported = self.finished.usage if self.finished else None
        return pricing.charge(reported, self.prompt, self.characters, self.tier)

    def _since_sent(self, moment: float | None) -> float | None:
        return None if moment is None or self._sent_at is None else moment - self._sent_at


def sound(text: str) -> str:
    """Text that every database and socket takes: no NUL, no half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
