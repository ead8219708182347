"""A tenant's owners and admins are written to when a share of a budget is reached, once.

What is reached is recorded by `accounts.budgets` with the charges that reach it; this only tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.core.mail import get_connection, send_mail
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone

from accounts.models import BudgetEvent, Member, Tenant
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import every_tenant
from chatbackend.reporting import report

NOBODY = "django.core.mail.backends.dummy.EmailBackend"  # no server is named


def send_due() -> int:
    """Write about every event that nobody was told of yet; how many.

    A mail that cannot be sent is reported, tried again the next time, and keeps no other waiting. What has nobody
    to be written to waits. Raises what opening the server's connection raises: then nothing can be sent.
    """
    if settings.EMAIL_BACKEND == NOBODY:
        return 0
    server, sent = get_connection(), 0
    try:
        for tenant_id, event_id in _due():
            server.open()
            try:
                sent += _send(server, tenant_id, event_id)
            except Exception as problem:
                report(problem)
    finally:
        server.close()
    return sent


def _due() -> Iterator[tuple[UUID, UUID]]:
    """Tenant and event, of tenants that have somebody to write to."""
    for tenant_id in every_tenant():
        with in_tenant(tenant_id):
            due = BudgetEvent.objects.filter(mailed_at=None).order_by("created_at")
            found = list(due.values_list("id", flat=True)) if _addresses() else []
        yield from ((tenant_id, event_id) for event_id in found)


def _send(server: BaseEmailBackend, tenant_id: UUID, event_id: UUID) -> bool:
    """An event is marked in the transaction that mails it. False: another process is at it, or was."""
    with in_tenant(tenant_id):
        due = BudgetEvent.objects.select_for_update(of=("self",), skip_locked=True).filter(mailed_at=None)
        event = due.select_related("spending__budget").filter(pk=event_id).first()
        if event is None:
            return False
        event.mailed_at = timezone.now()
        event.save(update_fields=["mailed_at"])
        send_mail(_subject(event), _text(event), None, _addresses(), connection=server)
        return True


def _subject(event: BudgetEvent) -> str:
    name = " ".join(Tenant.objects.get().name.split())  # a header is one line
    return f"{name}: {event.share} % of a budget is spent"


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
