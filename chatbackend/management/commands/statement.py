"""`manage.py statement alice 2026-10 --close --html october.html`: a tenant's month, shown or closed for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from accounts import statements
from accounts.months import first_of
from accounts.statements import CannotClose, Month
from accounts.tenants import UnknownTenant, find_tenant
from chatbackend import statement_page


class Command(BaseCommand):
    help = "Show a tenant's statement of a month: a draft, until it is closed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("month", help="2026-10")
        parser.add_argument("--close", action="store_true", help="Number it; it never changes again.")
        parser.add_argument("--html", type=Path, help="Where to write it as a page to print.")

    def handle(self, *args: Any, slug: str, month: str, close: bool, html: Path | None, **options: Any) -> None:
        try:
            tenant, period = find_tenant(slug), first_of(month)
            figures = statement_page.close(tenant.id, period) if close else statements.month(tenant.id, period)
        except (UnknownTenant, CannotClose, ValueError) as error:
            raise CommandError(str(error)) from None
        if html:
            html.write_text(statement_page.shown(tenant.id, period), encoding="utf-8")
        self.stdout.write("\n".join(_told(tenant.name, figures)))


def _told(name: str, month: Month) -> list[str]:
    title = f"statement {month.number}" if month.number else "draft"
    figures = {
        "credit before": month.opening,
        "paid in": month.received,
        "given as credit": month.credited,
        "charged": month.used_up,
        "covered by the quota": month.included,
        "corrections": month.corrected,
        "credit after": month.closing,
        "saved by the cascade": month.saved,
    }
    rows = [f"  {what:<22}{amount!s:>16}" for what, amount in figures.items()]
    return [f"{name}, {month.period:%B %Y}, {title}", *rows]
