"""Readings of many texts at once, for commands and benches."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

from cascade.embedder import SIZE
from cascade.embedder.encoder import Encoder
from cascade.embedder.serving import Reading


def readings_of(texts: Iterable[str], folder: Path) -> dict[str, Reading]:
    """`folder`: the sentence encoder's."""
    wanted = sorted(set(texts))
    vectors = Encoder(folder).encode(wanted)
    return {
        text: Reading(array("f", row[:SIZE].tobytes()), array("f", row[SIZE:].tobytes()))
        for text, row in zip(wanted, vectors, strict=True)
    }
