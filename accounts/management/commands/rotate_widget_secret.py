"""`manage.py rotate_widget_secret wk_...`: a new signing secret; the last one stays good until the next rotation."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.auth import UnknownWidget, find_widget, rotate_widget_secret
from accounts.models import Widget
from accounts.tenancy import in_tenant


class Command(BaseCommand):
    help = "Make a widget's next signing secret, shown once; two are live at most."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("public_key")

    def handle(self, *args: Any, public_key: str, **options: Any) -> None:
        try:
            door = find_widget(public_key)
        except UnknownWidget as error:
            raise CommandError(str(error)) from None
        with in_tenant(door.tenant_id):
            kid, secret = rotate_widget_secret(Widget.objects.get(pk=door.widget_id))
        self.stdout.write(f"kid: {kid}\nsecret: {secret}")
