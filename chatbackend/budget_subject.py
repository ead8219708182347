"""Whom a budget names: a chatbot or customer of the tenant by its id, a segment by any word."""

from __future__ import annotations

from uuid import UUID

from accounts.models import Budget, Customer
from cascade.models import Chatbot

HAVE_IDS: dict[str, type[Chatbot] | type[Customer]] = {Budget.Scope.CHATBOT: Chatbot, Budget.Scope.CUSTOMER: Customer}


def budget_subject(scope: str, told: str) -> str:
    """As turns name it. In the tenant's transaction. Raises ValueError: the tenant has no such chatbot or customer."""
    model = HAVE_IDS.get(Budget.Scope(scope))
    if model is None or not told:
        return told
    try:
        subject = UUID(told)
    except ValueError:
        raise ValueError(f"{told} is not the id of a {scope}") from None
    if not model.objects.filter(pk=subject).exists():
        raise ValueError(f"there is no {scope} {subject}")
    return str(subject)
