"""Learn what may be remembered from labelled questions and pairs, and write the weights. Needs no database."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cascade.embedder import MODEL
from cascade.local_models import ModelMissing, path_of


class Command(BaseCommand):
    help = "Learn what is personal and what may be given again; minutes on one processor."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--questions", type=Path, required=True, metavar="FILE", help="JSON lines, .gz or not")
        parser.add_argument("--pairs", type=Path, required=True, metavar="FILE", help="JSON lines, .gz or not")
        parser.add_argument("--split", default="", help="learn from the rows of this split alone")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR")

    def handle(self, *args: Any, **options: Any) -> None:
        from cascade.memory.encoding import readings_of  # torch: only here
        from cascade.memory.fitting import learn
        from cascade.memory.judge import save
        from cascade.memory.rows import read

        try:
            train = read(options["questions"], options["pairs"], options["split"])
            readings = readings_of(train.texts, path_of(MODEL, settings.MODELS_ROOT))
            judge = learn(train.questions, train.pairs, readings)
        except (OSError, ValueError, ModelMissing) as error:
            raise CommandError(str(error)) from error
        counts = {"questions": len(train.questions), "pairs": len(train.pairs), "split": options["split"]}
        save(judge, options["out"], learnt_from=counts, encoder=MODEL)
        self.stdout.write(
            f"written to {options['out']}: from {len(train.questions)} questions, {len(train.pairs)} pairs"
        )
