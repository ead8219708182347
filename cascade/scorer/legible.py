"""Whether a text is one that the scorer can vouch for: it has read the whole of it, and it is made of words.

What loops, what has no blanks and what is cut before it is read gets no score, whatever the weights would say of it.
"""

from __future__ import annotations

import zlib
from itertools import groupby

from cascade.scorer.lexing import LONGEST_TEXT

LONGEST_WORD = 500  # characters without a blank; a long link has that
SHORT = 400  # characters; below them repetition is a figure of speech
MOST_IN_A_ROW = 4  # times the same line; a small model that has lost itself goes on until it is stopped
MOST_REPETITIVE = 12  # times smaller when packed; prose gets 2 to 3 times smaller, a list of twenty orders 6


def legible(text: str) -> bool:
    """Of words, not of one sign or one phrase over and over. Linear time, safe for any string."""
    if max(map(len, text.split()), default=0) > LONGEST_WORD:
        return False
    lines = groupby(line.strip() for line in text.splitlines() if line.strip())
    if max((sum(1 for _ in same) for _, same in lines), default=0) > MOST_IN_A_ROW:
        return False
    written = text.encode("utf-8", "surrogatepass")
    return len(written) <= SHORT or len(zlib.compress(written, 1)) * MOST_REPETITIVE > len(written)


def judgeable(question: str, answer: str) -> bool:
    """Whether an answer to this question gets a score at all."""
    return read_whole(answer) and legible(answer) and legible(question)


def read_whole(text: str) -> bool:
    """Nothing of it is cut before it is read."""
    return len(text) <= LONGEST_TEXT
