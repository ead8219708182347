"""`manage.py set_price alice openai/gpt-6-luna --input 0.08 --output 0.40`: what one tenant's calls cost us."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from accounts.tenants import UnknownTenant, find_tenant
from cascade.compute import PROVIDER
from cascade.management.commands.import_prices import OPERATOR, listed
from cascade.material import FIGURES, price_columns
from cascade.models import LanguageModel, Price
from cascade.values import Price as PriceValue


class Command(BaseCommand):
    help = "Override a model's list price for one tenant from now on, or from a moment on; an earlier override ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("model", help="The product's name for it, as import_prices tells it.")
        others = {"per_request": "US dollars a call.", "batch": "0.5: half, through the provider's batch door."}
        for name in FIGURES:
            told = others.get(name, "US dollars per million tokens.")
            parser.add_argument(f"--{name.replace('_', '-')}", help=told)
        parser.add_argument("--as-listed", action="store_true", help="End the override: the list's price holds again.")
        parser.add_argument("--from", dest="valid_from", help="2027-01-01T00:00+01:00; without it: now.")
        parser.add_argument("--until", dest="valid_until", help="When the list's price holds again; without it: never.")
        parser.add_argument("--source", default="set by the operator", help="The contract it comes from.")

    def handle(self, *args: Any, slug: str, model: str, **options: Any) -> None:
        try:
            begins = _moment(options["valid_from"]) or timezone.now()
            found = LanguageModel.objects.using(OPERATOR).get(name=model)
            row = Price(
                tenant_id=find_tenant(slug).id,
                model=found,
                valid_from=begins,
                valid_until=begins if options["as_listed"] else _moment(options["valid_until"]),
                source=options["source"],
                **price_columns(self._price(found, **options)),
            )
            if begins < timezone.now() and options["valid_from"]:
                raise ValueError("a price cannot begin in the past: what was charged stays as it was")
            _write(row)
        except InvalidOperation:
            raise CommandError("that is not an amount") from None
        except IntegrityError as error:
            raise CommandError(f"the price is not possible: {error}") from None
        except LanguageModel.DoesNotExist:
            raise CommandError(f"there is no model {model}") from None
        except (UnknownTenant, ValueError) as error:
            raise CommandError(str(error)) from None
        what = "the list's price" if options["as_listed"] else _told(row)
        self.stdout.write(f"{model} costs {what} in calls of {slug} from {options['valid_from'] or 'now'} on")

    def _price(self, model: LanguageModel, **options: Any) -> PriceValue:
        if options["as_listed"]:
            return listed(model.name) or PriceValue("", Decimal(0), Decimal(0))
        if model.provider == PROVIDER:
            if {name for name in FIGURES if options[name] is not None} != {"per_request"}:
                raise ValueError(f"{model} has a price for each text alone: --per-request, or --as-listed")
            return PriceValue("", Decimal(0), Decimal(0), per_request=Decimal(options["per_request"]))
        if options["input"] is None or options["output"] is None:
            raise ValueError("an override tells --input and --output, or --as-listed")
        figures: dict[str, Any] = {name: Decimal(options[name]) for name in FIGURES if options[name] is not None}
        return PriceValue("", **figures)


def _told(row: Price) -> str:
    if row.model.provider == PROVIDER:
        return f"${row.per_request:f} for each text"
    return f"${row.input:f} in and ${row.output:f} out per million"


def _write(row: Price) -> None:
    with transaction.atomic(using=OPERATOR), connections[OPERATOR].cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, true)", [str(row.tenant_id)])
        row.save(using=OPERATOR, force_insert=True)


def _moment(told: str | None) -> datetime | None:
    if told is None:
        return None
    moment = datetime.fromisoformat(told)
    if moment.tzinfo is None:
        raise ValueError(f"{told} needs a time zone, as in 2027-01-01T00:00+01:00")
    return moment
