"""What this storey knows of one customer, told to whoever may ask, and forgotten for good.

In the tenant's transaction. What was said is left to `cascade.personal_data`, both together to `chatbackend`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from accounts.models import Budget, Customer


def tell(customer_id: UUID) -> dict[str, Any]:
    """A JSON object. Raises Customer.DoesNotExist."""
    customer = Customer.objects.get(id=customer_id)
    records = customer.records.order_by("type", "external_id")
    return {
        "external_id": customer.external_id,
        "verified": customer.verified,
        "locale": customer.locale,
        "attributes": customer.attributes,
        "since": customer.created_at.isoformat(),
        "records": [
            {"type": it.type, "external_id": it.external_id, "as_of": it.as_of.isoformat(), "data": it.data}
            for it in records
        ],
    }


def erase(customer_id: UUID) -> bool:
    """Forget the customer, their records and whatever else hangs on them. False: there was no such customer.

    In the books nothing changes. They know a turn by ids of ours alone, from which nothing leads to anybody any more;
    so does what other budgets have counted for this customer. A budget for this customer alone goes with them.
    """
    Budget.objects.filter(scope=Budget.Scope.CUSTOMER, subject=str(customer_id)).delete()
    return bool(Customer.objects.filter(id=customer_id).delete()[0])
