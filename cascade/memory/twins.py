"""Questions of our own making (`twins.toml`): alike but for being about something of the customer's or about rules."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

EVERY = 4  # of all combinations of a pattern and a thing, one in so many is used


@cache
def made() -> tuple[tuple[str, bool], ...]:
    """Text, and whether it is personal."""
    told = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    found = {
        pattern.format(one=one, many=many): kind == "personal"
        for kind in ("personal", "general")
        for i, pattern in enumerate(told[kind])
        for j, (one, many) in enumerate(told["things"])
        if (7 * i + 5 * j) % EVERY == 0
    }
    return tuple(found.items())
