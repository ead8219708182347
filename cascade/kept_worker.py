"""The child's half of `cascade.kept_process`: takes questions from its parent, several at once, and writes the replies.

In: frames of 4 bytes length and a pickle of a question, from the parent alone. Out: for each, its number and a body of
fixed length. One thread reads and prepares questions while the other computes. It may crash or hang: the parent kills
and restarts it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from cascade.kept_process import NUMBER_BYTES, READY


class Question(Protocol):
    """Replied to exactly once."""

    @property
    def number(self) -> int: ...

    @property
    def until(self) -> float:
        """On the machine's monotonic clock, the same in every process; later no reply is wanted."""
        ...


Q = TypeVar("Q", bound=Question)
R = TypeVar("R")


class Pipes(Generic[Q, R]):
    """Made first of all: from then on what is printed goes to standard error and cannot look like a reply."""

    def __init__(self, reply_bytes: int) -> None:
        self._reply_bytes = reply_bytes
        self._replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._waiting = queue.SimpleQueue[tuple[Q, R | None] | None]()  # None: the parent is gone

    def serve(
        self, read: Callable[[Q], R | None], answer: Callable[[Sequence[R | None]], Sequence[bytes]], at_once: int
    ) -> None:
        """Until the parent is gone. `answer` takes what `read` made, None for what is too late or cannot be read."""
        sys.setswitchinterval(0.001)  # seconds: the computing thread gets its turn between two questions
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what loading and measuring took goes back to the system
        self._replies.write(READY.to_bytes(NUMBER_BYTES, "little").ljust(self._reply_bytes, b"\0"))
        threading.Thread(target=self._read, args=(read,), daemon=True).start()
        while asked := self._next(at_once):
            bodies = answer([made if _in_time(question) else None for question, made in asked])
            numbers = (question.number.to_bytes(NUMBER_BYTES, "little") for question, _ in asked)
            self._replies.write(b"".join(number + body for number, body in zip(numbers, bodies, strict=True)))

    def _read(self, read: Callable[[Q], R | None]) -> None:
        """Runs beside the computing, which so never waits for a question to be prepared."""
        stream = sys.stdin.buffer
        while len(size := stream.read(4)) == 4:
            question: Q = pickle.loads(stream.read(int.from_bytes(size, "little")))  # noqa: S301  (the parent's own)
            self._waiting.put((question, read(question) if _in_time(question) else None))
        self._waiting.put(None)

    def _next(self, at_most: int) -> list[tuple[Q, R | None]]:
        """What waits now, `at_most` so many, at least one; empty: the parent is gone."""
        found: list[tuple[Q, R | None]] = []
        while not found or (len(found) < at_most and not self._waiting.empty()):
            if (each := self._waiting.get()) is None:
                return []
            found.append(each)
        return found


def _in_time(question: Question) -> bool:
    return time.monotonic() < question.until
