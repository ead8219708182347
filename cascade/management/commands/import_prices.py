"""Put the operator's list of language models on record, with today's prices."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from cascade.models import LanguageModel, Price
from cascade.price_list import Offer, offers

OPERATOR = "owner"  # models and prices are written by the owner role alone


class Command(BaseCommand):
    help = "Offer the models of cascade/price_list.toml; a price that changed becomes a new dated row."

    def handle(self, **options: Any) -> None:
        now = timezone.now()
        for offer in offers(now):
            model, _ = LanguageModel.objects.using(OPERATOR).update_or_create(
                name=offer.name,
                defaults={"provider": offer.provider, "remote_name": offer.remote_name, "base_url": offer.base_url},
            )
            rates = self._rates(offer)
            latest = Price.objects.using(OPERATOR).filter(model=model).order_by("-valid_from").first()
            if latest is None or any(getattr(latest, field) != value for field, value in rates.items()):
                Price.objects.using(OPERATOR).create(model=model, valid_from=now, source=offer.rates.source, **rates)
                self.stdout.write(
                    f"{offer.name}: ${offer.rates.input} in, ${offer.rates.output} out per million tokens"
                )

    def _rates(self, offer: Offer) -> dict[str, Any]:
        return {field: getattr(offer.rates, field) for field in ("input", "output", "cached_input", "cache_write")}
