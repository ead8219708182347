"""Months, each by its first day; in addresses, forms and commands `2026-10`. Pure."""

from __future__ import annotations

import re
from datetime import date


def first_of(told: str) -> date:
    """Raises ValueError, which says how a month is written."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", told, re.ASCII):
        raise ValueError(f"{told!r} is no month: it is written 2026-10, and lies between 2000-01 and 2099-12")
    return date.fromisoformat(f"{told}-01")


def following(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)
