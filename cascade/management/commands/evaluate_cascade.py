"""Print what a cascade saves on recorded answers, beside its peers: fitted on one file, measured on another."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cascade.evaluation import Encode, evaluate
from cascade.learning.encoding import encoded
from cascade.learning.records import read
from cascade.learning.table import BadTable
from cascade.local_models import ModelMissing, catalogue, fetch, path_of

ENCODER = "minilm-l6-v2"


class Command(BaseCommand):
    help = "Fit scorer, chain and thresholds on recorded answers; report quality and cost on others. Needs no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--train", type=Path, required=True, metavar="FILE", help="JSON lines, .gz or not")
        parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="JSON lines, .gz or not")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = evaluate(read(options["train"]), read(options["data"]), self._encoder())
        except (OSError, BadTable) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(found.as_json()) if options["json"] else found.table())

    def _encoder(self) -> Encode | None:
        """The sentence encoder, fetched where it is not here yet; None where it cannot be had."""
        model = catalogue()[ENCODER]
        try:
            fetch(model, settings.MODELS_ROOT, say=self.stderr.write, progress=lambda here: None, unreachable=set())
        except ModelMissing as missing:
            self.stderr.write(f"{missing}: questions are compared by their words alone")
            return None
        return partial(encoded, folder=path_of(ENCODER, settings.MODELS_ROOT))
