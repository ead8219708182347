"""Make the demo's shop, or bring it up to today."""

from __future__ import annotations

from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from chatbackend.demo import seeding


class Command(BaseCommand):
    help = "Make the demo's shop with its customers, articles and cascade; again: bring its dates up to today."

    def handle(self, **options: Any) -> None:
        if not settings.DEMO:
            raise CommandError("the demo has a well-known password: set DEMO=1 where that is harmless")
        call_command("import_prices", stdout=StringIO())  # what it would tell is for operators
        tiers = seeding.seed()
        self.stdout.write(f"demo: {' -> '.join(tiers)} -> a person")
        self.stdout.write(f"demo: log in as {seeding.LOGIN} with the password {seeding.PASSWORD}")
