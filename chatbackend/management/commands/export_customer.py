"""`manage.py export_customer slug c-17 > c-17.json`: all that is known of a customer."""

from __future__ import annotations

import json
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.models import Customer
from accounts.tenants import UnknownTenant
from chatbackend import personal_data
from chatbackend.management.commands.erase_customer import find_customer


class Command(BaseCommand):
    help = "Write all that is known of a customer as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("customer", help="The tenant's own id of them.")

    def handle(self, *args: Any, slug: str, customer: str, **options: Any) -> None:
        try:
            told = personal_data.tell(*find_customer(slug, customer))
        except (UnknownTenant, Customer.DoesNotExist) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(json.dumps(told, indent=2, ensure_ascii=False))
