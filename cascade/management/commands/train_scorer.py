"""Train the scorer on labelled answers and write a folder of weights that can be served. Needs no database."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cascade.local_models import ModelMissing, path_of


class Command(BaseCommand):
    help = "Train the scorer on labelled answers (rows with split train and validation)."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--data", nargs="+", type=Path, required=True, metavar="PATH", help="JSON lines, .gz or not"
        )
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the weights are written")
        parser.add_argument("--start", type=Path, metavar="DIR", help="weights to go on from; else the plain encoder")
        parser.add_argument("--epochs", type=int, default=3)
        parser.add_argument("--seed", type=int, default=7)
        parser.add_argument("--threads", type=int, default=1)

    def handle(self, *args: Any, **options: Any) -> None:
        from tqdm import tqdm

        from cascade.scorer.fitting import TrainingConfig  # torch: only here
        from cascade.scorer.training import card, train

        config = TrainingConfig(epochs=options["epochs"], seed=options["seed"], threads=options["threads"])
        bar = tqdm(unit="step", smoothing=0.05)

        def progress(step: int, steps: int, loss: float) -> None:
            bar.total = steps
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(step - bar.n)

        try:
            start = options["start"] or path_of("minilm-l6-v2", Path(settings.MODELS_ROOT))
            written = train(options["data"], start, options["out"], config, say=self.stdout.write, progress=progress)
        except (OSError, ValueError, ModelMissing) as error:
            raise CommandError(str(error)) from error
        finally:
            bar.close()
        self.stdout.write(card(written))
