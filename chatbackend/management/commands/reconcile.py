"""`manage.py reconcile openai usage.json`: compare what a provider says with the books of all tenants."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts import provider_usage, reconciliation
from accounts.provider_usage import Unreadable
from cascade import call_reconciliation, usage_log
from cascade.models import LanguageModel


class Command(BaseCommand):
    help = "Show where a provider's report or log of requests and the books differ; fails if so."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="As on the language models: openai, anthropic")
        parser.add_argument("file", type=Path, help="A report by model (.json, .csv), or a log (.jsonl, .csv).")
        parser.add_argument("--correct", action="store_true", help="Correct the books by a log, an entry a call.")
        parser.add_argument(
            "--whole-days",
            nargs=2,
            type=date.fromisoformat,
            metavar=("FIRST", "LAST"),
            help="The log tells all of these days (UTC): estimates of calls that are not in it cost nothing.",
        )

    def handle(self, *args: Any, provider: str, file: Path, **options: Any) -> None:
        try:
            text = file.read_text(encoding="utf-8-sig")
            if usage_log.is_one(text, file.suffix):
                return self._calls(provider, usage_log.read(text, file.suffix), **options)
            reported = provider_usage.read(text, file.suffix)
        except (Unreadable, OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from None
        if not reported:
            raise CommandError(f"{file} tells of no use")
        if options["correct"] or options["whole_days"]:
            raise CommandError("a report tells sums: no call can be corrected by it")
        return self._sums(provider, reported)

    def _calls(self, provider: str, log: dict[Any, usage_log.Used], **options: Any) -> None:
        whole_days = tuple(options["whole_days"]) if options["whole_days"] else None
        left = 0
        found = list(call_reconciliation.differences(provider, log, whole_days))  # all, before one is mended
        for it in found:
            corrected = options["correct"] and call_reconciliation.correct(it)
            left += not corrected
            self.stdout.write(f"call {it.call_id}: {it.what}{': corrected' if corrected else ''}")
        if left:
            raise CommandError(f"{left} differences")
        self.stdout.write(f"{len(log)} calls agree")

    def _sums(self, provider: str, reported: dict[Any, provider_usage.Used]) -> None:
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
