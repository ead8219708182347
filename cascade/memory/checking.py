"""Whether a remembered answer and a fresh one say the same."""

from __future__ import annotations

import re

CLOSE = 0.75  # cosine of two answers from which they are about the same
FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")


def say_the_same(remembered: str, fresh: str, cosine: float) -> bool:
    """About the same, and no figure of one is missing from the other where both have figures."""
    one, other = set(FIGURE.findall(remembered)), set(FIGURE.findall(fresh))
    return cosine >= CLOSE and (not one or not other or one <= other or other <= one)
