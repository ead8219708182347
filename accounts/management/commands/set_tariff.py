"""`manage.py set_tariff alice --margin 0.25 --included 5.00`: what a tenant pays from now on, or from a moment on."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.money import Money
from accounts.tariffs import TariffTaken, set_tariff
from accounts.tenants import UnknownTenant, find_tenant


class Command(BaseCommand):
    help = "Supersede a tenant's tariff: a margin on what the providers charge, or a price for each accepted reply."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        price = parser.add_mutually_exclusive_group(required=True)
        price.add_argument("--margin", help="0.25: a quarter on top of what the providers charge")
        price.add_argument("--per-reply", help="Dollars for each accepted reply, whatever it cost.")
        parser.add_argument("--included", default="0", help="Dollars of each month's charges that are free.")
        parser.add_argument("--from", dest="valid_from", help="2027-01-01T00:00+01:00; without it: now.")

    def handle(self, *args: Any, slug: str, **options: Any) -> None:
        try:
            margin = None if options["margin"] is None else Decimal(options["margin"])
            reply = None if options["per_reply"] is None else Money.from_usd(options["per_reply"])
            set_tariff(
                find_tenant(slug).id,
                margin=margin,
                reply=reply,
                included=Money.from_usd(options["included"]),
                valid_from=_moment(options["valid_from"]),
            )
        except (InvalidOperation, OverflowError):
            raise CommandError("that is not an amount") from None
        except (UnknownTenant, TariffTaken, ValueError) as error:
            raise CommandError(str(error)) from None
        price = f"{margin:.2%} on top of the providers' charge" if margin is not None else f"${reply} a reply"
        self.stdout.write(f"{slug} pays {price} from {options['valid_from'] or 'now'} on")


def _moment(told: str | None) -> datetime | None:
    if told is None:
        return None
    moment = datetime.fromisoformat(told)
    if moment.tzinfo is None:
        raise ValueError(f"{told} needs a time zone, as in 2027-01-01T00:00+01:00")
    return moment
