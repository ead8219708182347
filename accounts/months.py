"""Months as they are named in addresses, forms and commands: `2026-10`, read as their first day. Pure."""

from __future__ import annotations

import re
from datetime import date


def first_of(told: str) -> date:
    """Raises ValueError, which says how a month is written."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", told, re.ASCII):
        raise ValueError(f"{told!r} is no month: it is written 2026-10, and lies between 2000-01 and 2099-12")
    return date.fromisoformat(f"{told}-01")
