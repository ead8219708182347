"""`manage.py reconcile openai usage.json`: compare a provider's own report with the books of all tenants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts import provider_usage, reconciliation
from accounts.provider_usage import Unreadable
from cascade.models import LanguageModel


class Command(BaseCommand):
    help = "Show by day (UTC) and model where a provider's report and the books differ; fails where they do."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="As on the language models: openai, anthropic")
        parser.add_argument("file", type=Path, help="The report, grouped by model, as JSON.")

    def handle(self, *args: Any, provider: str, file: Path, **options: Any) -> None:
        try:
            reported = provider_usage.read(file.read_text(encoding="utf-8"))
        except (Unreadable, OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from None
        if not reported:
            raise CommandError(f"{file} tells of no use")
        models = LanguageModel.objects.filter(provider=provider).values_list("remote_name", "name")
        ours = {provider_usage.SNAPSHOT.sub("", remote): name for remote, name in models}
        named = {(day, ours.get(model, model)): used for (day, model), used in reported.items()}
        days = [day for day, _ in named]
        found = list(reconciliation.differences(named, reconciliation.booked(provider, min(days), max(days))))
        for it in found:
            self.stdout.write(f"{it.day} {it.model}: {it.what}: reported {it.reported or '–'}, booked {it.booked}")
        if found:
            raise CommandError(f"{len(found)} differences")
        self.stdout.write(f"{len(named)} days and models agree")
