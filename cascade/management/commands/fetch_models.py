"""Bring the local models to this machine: `manage.py fetch_models [NAME ...]`."""

from __future__ import annotations

from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from cascade.local_models import LocalModel, ModelMissing, catalogue, fetch


class Command(BaseCommand):
    help = "Fetch the local models (all, or those named), check their sha256, keep them under var/models."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME")

    def handle(self, *, names: list[str], **options: object) -> None:
        known = catalogue()
        if unknown := set(names) - set(known):
            raise CommandError(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        unreachable: set[str] = set()
        missing = [name for name in names or known if not self.bring(known[name], unreachable)]
        if missing:
            raise CommandError(f"could not be had, and are left out: {', '.join(missing)}")

    def bring(self, model: LocalModel, unreachable: set[str]) -> bool:
        """Whether the model is here at the end."""
        with tqdm(total=model.bytes, desc=model.name, unit="B", unit_scale=True) as bar:
            try:
                fetch(
                    model,
                    settings.MODELS_ROOT,
                    say=bar.write,
                    progress=lambda here: bar.update(here - bar.n),
                    unreachable=unreachable,
                )
            except ModelMissing:
                return False
        return True
