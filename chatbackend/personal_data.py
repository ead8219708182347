"""All that is known of one customer, as the law lets them ask for it: a JSON object."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from accounts import personal_data as accounts
from accounts.tenancy import in_tenant
from cascade import personal_data as cascade


def tell(tenant_id: UUID, customer_id: UUID) -> dict[str, Any]:
    """{"customer": ..., "conversations": [...]}. Raises Customer.DoesNotExist, also of another tenant's customer."""
    with in_tenant(tenant_id):
        return {"customer": accounts.tell(customer_id), "conversations": cascade.tell(customer_id)}
