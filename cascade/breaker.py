"""A circuit breaker for one model: after failures in a row it is left alone for a while.

    closed --(failures in a row)--> open --(cooldown over)--> half-open: one probe
    half-open --(probe answered)--> closed        --(probe failed)--> open

Lives on one event loop and awaits nothing, so it needs no lock. Which failures count is told by
the errors themselves; what to do about an open circuit is `cascade.policy`'s.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cascade.errors import BadRequest, CircuitOpen, ContentFiltered, ProviderError, Timeout

NOT_THE_MODELS_FAULT = (BadRequest, ContentFiltered)  # another prompt may do


class Breaker:
    """`clock` gives monotonic seconds. A timeout counts only where nothing came for `patience_seconds`:
    a caller in a hurry must not close a model to everybody else.
    """

    def __init__(
        self,
        model: str,
        *,
        failures: int = 5,
        cooldown_seconds: float = 30.0,
        patience_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._clock = model, clock
        self._allowed, self._cooldown, self._patience = failures, cooldown_seconds, patience_seconds
        self._failures = 0
        self._opened_at: float | None = None  # None: closed
        self._probing = False

    @contextmanager
    def call(self, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Around one call. Raises CircuitOpen where it may not be made; passes on what it raises.

        `begun`: whether something of the answer has come by now.
        """
        probe, began = self._admit(), self._clock()
        try:
            yield
        except NOT_THE_MODELS_FAULT:
            self._answered()
            raise
        except ProviderError as error:
            in_a_hurry = begun() or self._clock() - began < self._patience
            if not (isinstance(error, Timeout) and in_a_hurry):
                self._failed()
            raise
        except (GeneratorExit, CancelledError):
            if begun():  # given up by us: the model does answer
                self._answered()
            raise
        else:
            self._answered()
        finally:
            if probe:  # one that was cancelled tells nothing: the next call is a probe again
                self._probing = False

    def _admit(self) -> bool:
        """Whether the call is a probe."""
        if self._opened_at is None:
            return False
        if self._probing or self._clock() - self._opened_at < self._cooldown:
            raise CircuitOpen(self._model)
        self._probing = True
        return True

    def _answered(self) -> None:
        self._failures, self._opened_at = 0, None

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= self._allowed:
            self._opened_at = self._clock()
