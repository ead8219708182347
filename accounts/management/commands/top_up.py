"""`manage.py top_up alice 25.00 --memo "invoice 17"`: add dollars to a tenant's account."""

from __future__ import annotations

from decimal import InvalidOperation
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts import ledger
from accounts.money import Money
from accounts.tenants import UnknownTenant, find_tenant


class Command(BaseCommand):
    help = "Add dollars to a tenant's account."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("dollars")
        parser.add_argument("--memo", default="", help="What stands on the entry.")

    def handle(self, *args: Any, slug: str, dollars: str, memo: str, **options: Any) -> None:
        try:
            tenant = find_tenant(slug)
            ledger.top_up(tenant.id, Money.from_usd(dollars), memo)
        except (InvalidOperation, OverflowError):
            raise CommandError(f"{dollars} is not an amount of dollars") from None
        except (UnknownTenant, ValueError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{tenant.name} has ${ledger.available(tenant.id)} available")
