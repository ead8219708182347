"""Learn what may be remembered from some labelled questions and pairs, and measure it on others. Needs no database."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cascade.embedder import MODEL
from cascade.local_models import ModelMissing, path_of

FILES = {
    "--train-pairs": "pairs to learn from",
    "--train-questions": "questions to learn from",
    "--pairs": "pairs to measure on",
    "--questions": "questions to measure on",
}


class Command(BaseCommand):
    help = "Measure the memory: personal or general, may an answer serve, hits and wrong hits."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name, about in FILES.items():
            parser.add_argument(name, type=Path, required=True, metavar="FILE", help=f"{about}: JSON lines, .gz or not")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        from cascade.memory.encoding import readings_of  # torch: only here
        from cascade.memory.evaluation import evaluate
        from cascade.memory.rows import read

        try:
            train = read(options["train_questions"], options["train_pairs"])
            held = read(options["questions"], options["pairs"])
            readings = readings_of(train.texts | held.texts, path_of(MODEL, settings.MODELS_ROOT))
            found = evaluate(train, held, readings)
        except (OSError, ValueError, ModelMissing) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(found.as_json()) if options["json"] else found.table())
