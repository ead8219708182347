"""A tenant's month as a page to print: the statement's figures with the names of the chatbots.

The figures are `accounts.statements`; nothing is added up here. A month is closed with its page, which then stays as it
is, whatever is renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

from django.template.loader import render_to_string

from accounts import statements
from accounts.models import Tenant
from accounts.money import Money
from accounts.statements import Line, Month, breakdown
from accounts.tenancy import in_tenant
from cascade.models import Chatbot

REMOVED = "a chatbot that was removed"


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a breakdown of the month's charges and their corrections."""

    name: str
    entries: int
    price: Money  # before the quota
    cost: Money  # what the providers charge


def close(tenant_id: UUID, period: date) -> Month:
    """Close the month for good. Raises as `accounts.statements.close`."""
    return statements.close(tenant_id, period, partial(page, tenant_id))


def shown(tenant_id: UUID, period: date) -> str:
    """The page of a month: as it was closed, else a draft of now. Raises ValueError: not the first day of a month."""
    return statements.printed(tenant_id, period) or page(tenant_id, statements.month(tenant_id, period))


def page(tenant_id: UUID, month: Month) -> str:
    """HTML, complete in itself, for a browser's "print"."""
    with in_tenant(tenant_id):
        tenant = Tenant.objects.get(id=tenant_id)
        names = {str(chatbot.id): chatbot.name for chatbot in Chatbot.objects.all()}
    used = month.of("charge") + month.of("adjustment")
    parts = {
        "Chatbot": _parts(used, lambda line: names.get(line.chatbot_id, REMOVED)),
        "Model": _parts(used, lambda line: line.model),
        "Outcome": _parts(used, lambda line: line.outcome or line.source),
    }
    return render_to_string("statement.html", {"tenant": tenant, "month": month, "parts": parts})


def _parts(lines: tuple[Line, ...], by: Callable[[Line], str]) -> list[Part]:
    return [Part(name, *figures) for name, figures in breakdown(lines, by).items()]
