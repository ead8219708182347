"""`manage.py create_api_key alice ci --scope chat`: a key for a tenant's program; without a scope it has them all."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.api_keys import create_api_key
from accounts.bounds import TooMany
from accounts.permissions import SCOPES
from accounts.tenants import UnknownTenant, find_tenant


class Command(BaseCommand):
    help = "Make an API key for a tenant's program. Its secret is printed this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("name")
        parser.add_argument("--scope", action="append", choices=SCOPES, help="several times; none: every scope")

    def handle(self, *args: Any, slug: str, name: str, scope: list[str] | None, **options: Any) -> None:
        try:
            _, secret = create_api_key(find_tenant(slug).id, name, scope or SCOPES)
        except (UnknownTenant, TooMany) as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(secret)
