"""Money: whole micro-dollars, one type, rounded once.

A micro-dollar is a millionth of a US dollar. Integers add up exactly in every
database, so an amount is never a float and never a bare int between functions.
Knows nothing of prices (`cascade.pricing`) or of books (`accounts.ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount of US dollars in whole millionths; negative means owed."""

    micros: int = 0

    @classmethod
    def from_exact(cls, micros: Decimal) -> Money:
        """Round an exact count of micro-dollars half up (away from zero)."""
        return cls(int(micros.to_integral_value(ROUND_HALF_UP)))

    @classmethod
    def from_usd(cls, dollars: Decimal | int | str) -> Money:
        """`Money.from_usd("1.25")`. Raises ValueError where a millionth would be lost."""
        micros = Decimal(dollars) * 1_000_000
        if micros != micros.to_integral_value():
            raise ValueError(f"{dollars} has more than six decimal places")
        return cls(int(micros))

    @property
    def usd(self) -> Decimal:
        return Decimal(self.micros).scaleb(-6)

    def __add__(self, other: Money) -> Money:
        return Money(self.micros + other.micros)

    def __sub__(self, other: Money) -> Money:
        return Money(self.micros - other.micros)

    def __neg__(self) -> Money:
        return Money(-self.micros)

    def __str__(self) -> str:
        return as_dollars(self.micros)


def as_dollars(micros: int) -> str:
    """`-0.001234`: for millions of amounts, which need not all become a Money first."""
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{whole}.{rest:06d}"


ZERO = Money(0)
