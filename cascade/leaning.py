"""A question as it would be asked on its own: what is searched for, remembered and compared."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cascade.values import Utterance

# "And for Plus members?", "how long does it take then?"
LEANING = re.compile(
    r"^(and|but|so|or|ok|okay|yes|no|what about|how about|why not|which one|then)\b"
    r"|\b(it|its|that|this|they|them|those|these|there|one|ones|same|instead|either|again|he|she|him|her)\b",
    re.IGNORECASE,
)
FEWEST_WORDS = 4  # a shorter question leans on what was said before


def whole_question(question: str, history: Sequence[Utterance]) -> str:
    """The question, after the customer's one before it where it leans on something that was said."""
    before = next((said.text for said in reversed(history) if said.role == "customer"), "")
    leans = bool(LEANING.search(question)) or len(question.split()) < FEWEST_WORDS
    return f"{before} {question}" if before and leans else question
