"""What the scorer's process and its parent say to each other; apart, so that the parent need not import torch."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cascade.values import Context

REPLY = struct.Struct("<Id")  # number of the question, score (NaN: none)
SCORE = struct.Struct("<d")  # the reply without its number


@dataclass(frozen=True, slots=True)
class Question:
    """Is this answer good for this customer? Replied to exactly once."""

    number: int
    context: Context
    answer: str
    until: float  # on the machine's monotonic clock, the same in every process; later no reply is wanted
    whole: bool = True  # the answer; else the beginning of one
