"""Print how well a folder of weights tells good answers from bad ones, slice by slice. Needs no database."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Measure the scorer on labelled answers: AUC by slice and the calibration error."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data", nargs="+", type=Path, required=True, metavar="PATH", help="JSON lines, .gz or not"
        )
        parser.add_argument("--split", help="only the rows of this split")
        parser.add_argument("--weights", type=Path, default=settings.SCORER_WEIGHTS, metavar="DIR")
        parser.add_argument("--blind", action="store_true", help="with nothing known of the customer")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        from cascade.scorer.evaluation import evaluate  # torch: only here
        from cascade.scorer.rows import read_rows

        try:
            rows = read_rows(options["data"], options["split"])
            found = evaluate(options["weights"], rows, blind=options["blind"])
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(found.as_json()) if options["json"] else found.table())
