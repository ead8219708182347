"""A chatbot's strategies: what versions there are, and which one it lives by."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from accounts.tenancy import in_tenant
from accounts.tenants import UnknownTenant, find_tenant
from cascade import strategies
from cascade.models import StrategyChange


class Command(BaseCommand):
    help = "List, promote or roll back a chatbot's strategies, and tell who changed them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        deeds = parser.add_subparsers(dest="deed", required=True)
        told = {
            "list": "the chatbot's versions, newest first",
            "promote": "live by this version from the next turn on",
            "rollback": "back to the version that the live one replaced",
            "log": "who changed the live version, newest first",
        }
        for name, text in told.items():
            deed = deeds.add_parser(name, help=text)
            deed.add_argument("tenant", help="its slug")
            deed.add_argument("chatbot", help="its name or id")
            if name == "promote":
                deed.add_argument("version", type=int)

    def handle(self, *args: Any, deed: str, tenant: str, chatbot: str, version: int = 0, **options: Any) -> None:
        try:
            tenant_id = find_tenant(tenant).id
            self.stdout.write(getattr(self, f"do_{deed}")(tenant_id, chatbot, version))
        except (UnknownTenant, strategies.NoSuchStrategy, strategies.NotChanged) as problem:
            raise CommandError(str(problem)) from problem

    def do_list(self, tenant_id: UUID, name: str, version: int) -> str:
        chatbot = strategies.find_chatbot(tenant_id, name)
        with in_tenant(tenant_id):
            rows = list(chatbot.strategies.order_by("-version"))
        live = chatbot.live_strategy_id
        return "\n".join(f"v{row.version:<4} {'live' if row.id == live else '    '}  {row.asks}" for row in rows)

    def do_promote(self, tenant_id: UUID, name: str, version: int) -> str:
        strategies.promote(strategies.find(tenant_id, name, version), getpass.getuser())
        return f"v{version} answers from the next turn on"

    def do_rollback(self, tenant_id: UUID, name: str, version: int) -> str:
        change = strategies.rollback(strategies.find_chatbot(tenant_id, name), getpass.getuser())
        return f"v{change.after.version} answers from the next turn on"

    def do_log(self, tenant_id: UUID, name: str, version: int) -> str:
        chatbot = strategies.find_chatbot(tenant_id, name)
        with in_tenant(tenant_id):
            return "\n".join(map(line, strategies.changes(chatbot))) or "never changed"


def line(change: StrategyChange) -> str:
    return f"{change.created_at:%Y-%m-%d %H:%M}  {change.get_kind_display():<11}  {change}  by {change.by}"
