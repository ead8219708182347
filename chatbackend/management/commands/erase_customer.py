"""`manage.py erase_customer slug c-17`: forget everything of a customer. The books keep their sums."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.models import Customer
from accounts.tenancy import in_tenant
from accounts.tenants import UnknownTenant, find_tenant
from chatbackend.erasure import StillAnswering, erase


class Command(BaseCommand):
    help = "Forget everything of a customer: who they are, their records and conversations. The books keep their sums."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("customer", help="The tenant's own id of them.")

    def handle(self, *args: Any, slug: str, customer: str, **options: Any) -> None:
        try:
            tenant_id, customer_id = find_customer(slug, customer)
            erase(tenant_id, customer_id)
        except (UnknownTenant, Customer.DoesNotExist, StillAnswering) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{customer} of {slug} is erased")


def find_customer(slug: str, customer: str) -> tuple[Any, Any]:
    """Ids of the tenant and of the customer. Raises UnknownTenant, Customer.DoesNotExist."""
    tenant_id = find_tenant(slug).id
    with in_tenant(tenant_id):
        return tenant_id, Customer.objects.get(external_id=customer).id
