"""Questions of our own making (`twins.toml`): alike but for being about something of the customer's or about rules."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path


@cache
def made() -> tuple[tuple[str, bool], ...]:
    """Text, and whether it is personal."""
    found = {
        pattern.format(one=names[0], many=names[-1]): of == "personal"
        for kind in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["kind"]
        for of in ("personal", "general")
        for i, pattern in enumerate(kind[of])
        for j, names in enumerate(kind["things"])
        if (7 * i + 5 * j) % kind["every"] == 0
    }
    return tuple(found.items())
