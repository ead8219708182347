"""How an amount is written on a page: `{{ call.cost_micros|dollars }}`."""

from __future__ import annotations

from django.template import Library

from accounts.money import Money

register = Library()


@register.filter
def dollars(micros: int | None) -> str:
    """`-$0.001234`; `–` for an amount that is not known yet."""
    if micros is None:
        return "–"
    return f"{'-' if micros < 0 else ''}${Money(abs(micros))}"
