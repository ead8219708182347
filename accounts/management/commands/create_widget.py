"""`manage.py create_widget alice https://shop.example`: a widget, and the secret its tenant signs with."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.auth import create_widget
from accounts.models import Widget
from accounts.tenants import UnknownTenant, find_tenant


class Command(BaseCommand):
    help = "Make a widget for a tenant; its signing secret is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("origins", nargs="+", help="https://shop.example or https://*.shop.example")
        parser.add_argument("--identity", choices=Widget.Identity.values, default=Widget.Identity.OPTIONAL.value)

    def handle(self, *args: Any, slug: str, origins: list[str], identity: str, **options: Any) -> None:
        try:
            widget, kid, secret = create_widget(find_tenant(slug).id, origins, identity)
        except (UnknownTenant, ValueError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"public key: {widget.public_key}\nkid: {kid}\nsecret: {secret}")
