"""What another strategy would have done to a past period; nothing is asked for it."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.tenants import UnknownTenant, find_tenant
from cascade import strategies, strategy_replays
from cascade.learning.table import BadTable
from cascade.management.commands.optimise_cascade import share


def day(told: str) -> datetime:
    try:
        return datetime.strptime(told, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{told} is not a day like 2026-11-25") from None


class Command(BaseCommand):
    help = "Replay a past period through a version of a chatbot's strategy."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("chatbot", help="its name or id")
        parser.add_argument("version", type=int)
        parser.add_argument("--from", dest="since", type=day, help="a day, UTC; none: four weeks ago")
        parser.add_argument("--to", dest="until", type=day, help="the day after the last, UTC; none: now")
        parser.add_argument("--json", action="store_true", help="print the whole report")

    def handle(self, *args: Any, tenant: str, chatbot: str, version: int, **told: Any) -> None:
        until = told["until"] or timezone.now()
        try:
            strategy = strategies.find(find_tenant(tenant).id, chatbot, version)
            report = strategy_replays.compare(strategy, told["since"] or until - timedelta(days=28), until)
        except (UnknownTenant, strategies.NoSuchStrategy, BadTable) as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(json.dumps(report, indent=2) if told["json"] else "\n".join(lines(report)))


def lines(report: dict[str, Any]) -> list[str]:
    """A report for a terminal."""
    return [
        f"{report['turns']} turns: {report['as_recorded']} replayed as recorded, {report['by_exploring']} by what was"
        f" explored, {report['unknown']} cannot be replayed",
        f"cost      {share(report['saved'])} less than live" if report["saved"] else "cost      nothing, live",
        f"quality   {share(report['quality_difference'])} more than live",
        *(f"answers   {100 * each['share']:.1f} % by {each['by']}" for each in report["answers"]),
    ]
