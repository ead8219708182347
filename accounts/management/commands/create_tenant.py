"""`manage.py create_tenant "Alice's shop" alice alice@shop.example`: open a tenant with its owner."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email, validate_slug

from accounts.tenants import SlugTaken, create_tenant


class Command(BaseCommand):
    help = "Open a tenant with an empty account and an owner."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("slug")
        parser.add_argument("owner_email")

    def handle(self, *args: Any, name: str, slug: str, owner_email: str, **options: Any) -> None:
        try:
            validate_slug(slug)
            validate_email(owner_email)
            create_tenant(name, slug, owner_email)
        except ValidationError as error:
            raise CommandError(error.message) from None
        except SlugTaken as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{name} is open. A new owner needs a password: manage.py changepassword {owner_email}")
