"""Vectors for the web process, which never imports torch: a child process computes them (`cascade.kept_process`).

A text that cannot be embedded in time has no vector: whoever wanted one goes on without.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade.embedder import SIZE
from cascade.kept_process import MOST_WAITING, NUMBER_BYTES, KeptProcess

REPLY_BYTES = NUMBER_BYTES + 4 * 2 * SIZE
LONGEST_TEXT = 20_000  # characters; of a longer text the beginning counts, as the model reads no more anyway
BULK_SECONDS = 60.0  # for one text of many, on a machine that does other things too

Vector = Sequence[float]  # SIZE figures


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text means, and how it says so."""

    meaning: Vector  # of length 1: the cosine of two is their product
    wording: Vector


@dataclass(frozen=True, slots=True)
class Question:
    number: int
    text: str
    until: float


class Embedder(KeptProcess):
    """One child process with the sentence encoder in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("embedder", "cascade.embedder.worker", str(folder.resolve()), REPLY_BYTES)

    async def embed(self, text: str, *, deadline_seconds: float = 1.0) -> Vector | None:
        """What one text means, a vector of length 1; None: not in time. Texts asked at once are computed together."""
        reading = await self.read(text, deadline_seconds=deadline_seconds)
        return reading.meaning if reading else None

    async def read(self, text: str, *, deadline_seconds: float = 1.0) -> Reading | None:
        """Its meaning and its wording; None: not in time."""
        short = text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
        reply = await self.ask(lambda number, until: Question(number, short, until), deadline_seconds)
        if reply is None:
            return None
        figures = array("f", reply[NUMBER_BYTES:])
        if math.isnan(figures[0]):
            self._mishap("not_a_number")
            return None
        self.counts["embedded"] += 1
        return Reading(figures[:SIZE], figures[SIZE:])

    async def embed_many(self, texts: Sequence[str]) -> list[Vector | None]:
        """A vector for each text, None where there is none: for background work, leaving room for others."""
        room = asyncio.Semaphore(MOST_WAITING // 4)

        async def one(text: str) -> Vector | None:
            async with room:
                return await self.embed(text, deadline_seconds=BULK_SECONDS)

        return await asyncio.gather(*map(one, texts))
