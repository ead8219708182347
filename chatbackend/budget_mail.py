"""A tenant's owners and admins are written to when a share of a budget is reached, once.

What is reached is recorded by `accounts.budgets` with the charges that reach it; this only tells.
"""

from __future__ import annotations

from uuid import UUID

from django.core.mail import send_mail
from django.utils import timezone

from accounts.models import BudgetEvent, Member, Tenant
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import every_tenant


def send_due() -> int:
    """Write about every event that nobody was told of yet; how many. Raises what `send_mail` raises."""
    return sum(_send_due(tenant_id) for tenant_id in every_tenant())


def _send_due(tenant_id: UUID) -> int:
    """An event is marked in the transaction that mails it: a mail that fails is tried again."""
    sent = 0
    while True:
        with in_tenant(tenant_id):
            due = BudgetEvent.objects.select_for_update(of=("self",), skip_locked=True)
            event = due.select_related("spending__budget").filter(mailed_at=None).order_by("created_at").first()
            if event is None:
                return sent
            event.mailed_at = timezone.now()
            event.save(update_fields=["mailed_at"])
            send_mail(_subject(event), _text(event), None, _addresses())
        sent += 1


def _subject(event: BudgetEvent) -> str:
    return f"{Tenant.objects.get().name}: {event.share} % of a budget is spent"


def _text(event: BudgetEvent) -> str:
    budget, whose = event.spending.budget, event.spending.subject
    return (
        f"Budget: {budget}{f' {whose}' if whose else ''}, since {event.spending.starts}\n"
        f"Limit: ${Money(budget.limit_micros)}, {'hard' if budget.hard else 'soft'}\n"
        f"Spent: ${Money(event.spent_micros)}\n"
    )


def _addresses() -> list[str]:
    leads = Member.objects.filter(role__in=[Member.Role.OWNER, Member.Role.ADMIN])
    return sorted({email for email in leads.values_list("user__email", flat=True) if email})
