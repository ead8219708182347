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

REPLY_BYTES = NUMBER_BYTES + 4 * SIZE
LONGEST_TEXT = 20_000  # characters; of a longer text the beginning counts, as the model reads no more anyway
BULK_SECONDS = 60.0  # for one text of many, on a machine that does other things too

Vector = Sequence[float]  # SIZE figures of 4 bytes, of length 1


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
        """The vector of one text; None: not in time. Texts asked for at once are computed together."""
        short = text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
        reply = await self.ask(lambda number, until: Question(number, short, until), deadline_seconds)
        if reply is None:
            return None
        vector = array("f", reply[NUMBER_BYTES:])
        if math.isnan(vector[0]):
            self._mishap("not_a_number")
            return None
        self.counts["embedded"] += 1
        return vector

    async def embed_many(self, texts: Sequence[str]) -> list[Vector | None]:
        """A vector for each text, None where there is none: for background work, leaving room for others."""
        room = asyncio.Semaphore(MOST_WAITING // 4)

        async def one(text: str) -> Vector | None:
            async with room:
                return await self.embed(text, deadline_seconds=BULK_SECONDS)

        return await asyncio.gather(*map(one, texts))
