"""Months as pages name and offer them: each by its first day, in addresses as `2026-10`."""

from __future__ import annotations

from datetime import date, timedelta

from django.http import Http404

from accounts.models import LedgerEntry, Tenant
from accounts.months import first_of

NAMED = "%Y-%m"


def month_of(told: str) -> date:
    """`2026-10`. Raises Http404."""
    try:
        return first_of(told)
    except ValueError as problem:
        raise Http404(str(problem)) from None


def this_month(tenant: Tenant) -> date:
    """Where the tenant is."""
    return tenant.midnight().date().replace(day=1)


def since_the_first_entry(tenant: Tenant) -> list[date]:
    """To the month that runs, latest first. In the tenant's transaction."""
    months = [this_month(tenant)]
    earliest = LedgerEntry.objects.order_by("period").values_list("period", flat=True).first() or months[0]
    while months[-1] > earliest:
        months.append(before(months[-1]))
    return months


def before(month: date, count: int = 1) -> date:
    for _ in range(count):
        month = (month - timedelta(days=1)).replace(day=1)
    return month
