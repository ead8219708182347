"""Train the scorer on labelled answers, or on a tenant's own, and write a folder of weights that can be served.

On files alone no database is needed. A tenant's weights become a candidate; `manage.py scorer` does the rest.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.tenancy import in_tenant
from accounts.tenants import UnknownTenant, find_tenant
from cascade import scorer_labels
from cascade.local_models import ModelMissing, path_of
from cascade.scorer_training import counted, train_for, train_later

Progress = Callable[[int, int, float], None]


class Command(BaseCommand):
    help = "Train the scorer on labelled answers (rows with split train and validation), or on a tenant's own labels."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--data", nargs="+", type=Path, default=[], metavar="PATH", help="JSON lines, .gz or not")
        parser.add_argument("--out", type=Path, metavar="DIR", help="where the weights are written; not with --tenant")
        parser.add_argument("--tenant", metavar="SLUG", help="on its own labels, beside the rows of --data")
        parser.add_argument("--background", action="store_true", help="by the worker; only with --tenant")
        parser.add_argument("--start", type=Path, metavar="DIR", help="weights to go on from; a tenant: what is live")
        parser.add_argument("--epochs", type=int, default=8)
        parser.add_argument("--seed", type=int, default=7)
        parser.add_argument("--threads", type=int, default=1)

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["tenant"]) == bool(options["out"]) or not (options["tenant"] or options["data"]):
            raise CommandError("give --data PATH... --out DIR, or --tenant SLUG")
        try:
            if options["tenant"] and options["background"]:
                self.in_background(options)
            elif options["tenant"]:
                self.for_tenant(options)
            else:
                self.on_files(options)
        except (OSError, ValueError, RuntimeError, ModelMissing, UnknownTenant) as error:
            raise CommandError(str(error)) from error

    def on_files(self, options: dict[str, Any]) -> None:
        from cascade.scorer.training import card, train  # torch: only here

        start = options["start"] or path_of("minilm-l6-v2", Path(settings.MODELS_ROOT))
        with bar() as progress:
            written = train(
                options["data"], start, options["out"], config(options), say=self.stdout.write, progress=progress
            )
        self.stdout.write(card(written))

    def for_tenant(self, options: dict[str, Any]) -> None:
        tenant, told = find_tenant(options["tenant"]), {"beside": options["data"], "start": options["start"]}
        with bar() as progress:
            version = train_for(tenant.id, config(options), **told, say=self.stdout.write, progress=progress)
        self.stdout.write(f"{version} is a {version.state}; next: manage.py scorer shadow {tenant.slug} {version}")

    def in_background(self, options: dict[str, Any]) -> None:
        tenant = find_tenant(options["tenant"])
        told = [f"--{name}={options[name]}" for name in ("epochs", "seed", "threads", "start")]
        given = [argument for argument in told if not argument.endswith("=None")]
        beside = ["--data", *map(str, options["data"])] if options["data"] else []
        counted(scorer_labels.labels(tenant.id))  # refused now rather than later
        with in_tenant(tenant.id):
            job = train_later(tenant, *given, *beside)
        self.stdout.write(f"job {job}: the version will appear in manage.py scorer list {tenant.slug}")


def config(options: dict[str, Any]) -> Any:
    from cascade.scorer.fitting import TrainingConfig  # torch: only here

    return TrainingConfig(epochs=options["epochs"], seed=options["seed"], threads=options["threads"])


@contextmanager
def bar() -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(unit="step", smoothing=0.05, disable=None) as shown:

        def progress(step: int, steps: int, loss: float) -> None:
            shown.total = steps
            shown.set_postfix(loss=f"{loss:.4f}", refresh=False)
            shown.update(step - shown.n)

        yield progress
