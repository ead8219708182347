"""`manage.py export_ledger alice ledger.csv --first 2026-10 --where model=small`: a tenant's entries as a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.export_formats import FORMATS
from accounts.exports import Selection, export
from accounts.months import first_of
from accounts.tenants import UnknownTenant, find_tenant


class Command(BaseCommand):
    help = "Write a tenant's ledger entries to a file, with a manifest of rows, sums and hash beside it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("file", type=Path, help="Its ending says the format, unless --format does.")
        parser.add_argument("--format", choices=FORMATS)
        parser.add_argument("--first", required=True, help="The first month: 2026-10")
        parser.add_argument("--last", help="The last month; without it: the first.")
        parser.add_argument("--where", action="append", default=[], help="column=value, several times.")

    def handle(self, *args: Any, slug: str, file: Path, first: str, where: list[str], **options: Any) -> None:
        try:
            equal = dict(condition.split("=", 1) for condition in where)
            selection = Selection(first_of(first), first_of(options["last"] or first), equal)
            unfinished = file.with_name(f"{file.name}.unfinished")
            form = options.get("format") or file.suffix.removeprefix(".")
            with unfinished.open("wb") as out:
                manifest = export(find_tenant(slug).id, selection, form, out)
        except (UnknownTenant, ValueError) as error:
            raise CommandError(str(error)) from None
        unfinished.rename(file)
        file.with_name(f"{file.name}.manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        self.stdout.write(f"{manifest.rows} entries, sha256 {manifest.sha256}")
