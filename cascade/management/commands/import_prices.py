"""`manage.py import_prices [--dry-run]`: put the operator's list of language models on record, at today's prices."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from cascade.compute import PROVIDER
from cascade.material import price_columns, price_value
from cascade.models import LanguageModel, Price
from cascade.price_list import Offer, changes, computed, offers

OPERATOR = "owner"  # models and prices are written by the owner role alone


class Command(BaseCommand):
    help = "Offer the models of cascade/price_list.toml; a price that changed becomes a new dated row."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Show what would change and change nothing.")

    def handle(self, *, dry_run: bool = False, **options: Any) -> None:
        now = timezone.now()
        changed = [offer for offer in (*offers(now), *computed()) if self._show(offer)]
        if dry_run:
            self.stdout.write(f"{len(changed)} models would change; nothing was changed")
            return
        for offer in changed:
            told = {"provider": offer.provider, "remote_name": offer.remote_name, "base_url": offer.base_url}
            model, _ = LanguageModel.objects.using(OPERATOR).update_or_create(
                name=offer.name, defaults=told, create_defaults=told | {"enabled": offer.provider != PROVIDER}
            )
            if changes(listed(offer.name), offer.price):
                Price.objects.using(OPERATOR).create(
                    model=model, valid_from=now, source=offer.source, **price_columns(offer.price)
                )

    def _show(self, offer: Offer) -> bool:
        """Whether anything of it is new, a line each."""
        row = LanguageModel.objects.using(OPERATOR).filter(name=offer.name).first()
        moved = [
            f"{name} {getattr(row, name, None) or 'none'} -> {getattr(offer, name) or 'none'}"
            for name in ("provider", "remote_name", "base_url")
            if getattr(row, name, None) != getattr(offer, name)
        ]
        lines = moved + changes(listed(offer.name), offer.price)
        for line in lines:
            self.stdout.write(f"{offer.name}: {line}")
        return bool(lines)


def listed(model: str) -> Any:
    """The list's latest price of a model; None: it has none."""
    row = Price.objects.using(OPERATOR).filter(model__name=model, tenant=None).order_by("-valid_from").first()
    return None if row is None else price_value(row)
