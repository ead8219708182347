"""Searches a chatbot's own turns for a better strategy, here and now; promoting it: `manage.py strategy promote`."""

from __future__ import annotations

import getpass
import json
from argparse import ArgumentParser
from decimal import InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.money import Money
from accounts.tenants import UnknownTenant, find_tenant
from cascade import strategies, strategy_proposals
from cascade.models import Proposal
from cascade.strategy_proposals import Wish


class Command(BaseCommand):
    help = "Propose a new strategy version from the chatbot's own turns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="its slug")
        parser.add_argument("chatbot", help="its name or id")
        parser.add_argument(
            "--better", action="store_true", help="more quality for the same cost, not the same for less"
        )
        parser.add_argument("--quality", type=float, help="hold this mean quality, 0 to 1, instead of today's")
        parser.add_argument("--dollars", help="with --better: spend so much on 1,000 turns, instead of today's cost")
        parser.add_argument("--seconds", type=float, help="answer 95 %% of the turns within this time")
        parser.add_argument("--segments", action="store_true", help="thresholds of their own for segments of customers")
        parser.add_argument("--json", action="store_true", help="print the whole report")

    def handle(self, *args: Any, tenant: str, chatbot: str, **told: Any) -> None:
        try:
            budget = Money.from_usd(told["dollars"]).micros / 1000 if told["dollars"] else None
            aim = "better" if told["better"] else "cheaper"
            wish = Wish(aim, told["quality"], budget, told["seconds"], told["segments"])
            found = strategies.find_chatbot(find_tenant(tenant).id, chatbot)
            begun = strategy_proposals.begin(found, wish, getpass.getuser())
        except (
            UnknownTenant,
            strategies.NoSuchStrategy,
            strategy_proposals.Searching,
            ValueError,
            InvalidOperation,
        ) as problem:
            raise CommandError(str(problem)) from problem
        say = lambda percent, step: self.stderr.write(f"{percent:3} %  {step}")  # noqa: E731
        proposal = strategy_proposals.propose(begun.tenant_id, begun.id, say)
        if told["json"]:
            self.stdout.write(json.dumps(proposal.report, indent=2))
        if proposal.state != Proposal.State.PROPOSED or proposal.strategy is None:
            raise CommandError(proposal.refusal)
        if not told["json"]:
            self.stdout.write("\n".join(lines(proposal)))


def lines(proposal: Proposal) -> list[str]:
    """What was found, for a terminal."""
    report = proposal.report
    present, proposed = report["present"], report["proposed"]
    assert proposal.strategy is not None
    return [
        f"{report['complete']} of {report['turns']} turns are known of every model ({report['explored']} explored)",
        f"live      v{present['version']}  {present['asks']}",
        f"proposed  v{proposal.strategy.version}  {proposed['asks']}",
        f"cost      {share(report['saved'])} less than live",
        f"quality   {share(report['quality_difference'])} more than live",
        f"promote it with: manage.py strategy promote TENANT CHATBOT {proposal.strategy.version}",
    ]


def share(told: dict[str, float]) -> str:
    mean, low, high = (f"{100 * told[name]:.1f}" for name in ("mean", "low", "high"))
    return f"{mean} % (95 %: {low} to {high})"
