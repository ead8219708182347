"""Customers as the tenant's own program keeps them: put in by the tenant's id of them, one or a thousand at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from accounts.models import Customer, CustomerRecord
from accounts.tenancy import in_tenant


class Twice(ValueError):
    """A customer or a record is named twice in one request."""


def upsert(tenant_id: UUID, told: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many were made and how many changed. Three statements, however many they are.

    Each has "external_id"; "attributes", "locale" and "records" replace what is there where they are given, records
    one by one. What the tenant's program says is verified. Raises Twice.
    """
    rows = list(told)
    names = [row["external_id"] for row in rows]
    if len(set(names)) < len(names):
        raise Twice("a customer is named twice")
    with in_tenant(tenant_id):
        known = {c.external_id: c for c in Customer.objects.select_for_update().filter(external_id__in=names)}
        for row in rows:
            own = known.get(row["external_id"]) or Customer(tenant_id=tenant_id, external_id=row["external_id"])
            known[own.external_id] = own
            own.attributes, own.locale = row.get("attributes", own.attributes), row.get("locale", own.locale)
            own.verified = True
        made = [customer for customer in known.values() if customer._state.adding]
        changed = [customer for customer in known.values() if not customer._state.adding]
        Customer.objects.bulk_create(made)
        Customer.objects.bulk_update(changed, ["attributes", "locale", "verified"], batch_size=1000)
        _put_records(
            tenant_id, [(known[row["external_id"]], record) for row in rows for record in row.get("records", ())]
        )
    return len(made), len(changed)


def _put_records(tenant_id: UUID, told: list[tuple[Customer, Mapping[str, Any]]]) -> None:
    if len({(customer.pk, record["type"], record["external_id"]) for customer, record in told}) < len(told):
        raise Twice("a record is named twice")
    CustomerRecord.objects.bulk_create(
        [CustomerRecord(tenant_id=tenant_id, customer=customer, **record) for customer, record in told],
        update_conflicts=True,
        unique_fields=["customer", "type", "external_id"],
        update_fields=["as_of", "data"],
    )


def put_record(customer: Customer, record: Mapping[str, Any]) -> CustomerRecord:
    """One record, new or in place of the one of the same type and id."""
    with in_tenant(customer.tenant_id):
        _put_records(customer.tenant_id, [(customer, record)])
        return CustomerRecord.objects.get(customer=customer, type=record["type"], external_id=record["external_id"])
