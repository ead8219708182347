"""A tenant's own scorer: what versions there are, and what becomes of them. Training it: `manage.py train_scorer`."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from accounts.tenancy import in_tenant
from accounts.tenants import UnknownTenant, find_tenant
from cascade import scorer_training, scorer_versions
from cascade.models import ScorerVersion
from cascade.scorer.manifest import UnfitWeights
from cascade.scorer_tuning import is_outdated


class Command(BaseCommand):
    help = "List, shadow, promote or roll back a tenant's own scorer, or calibrate the one that is live."

    def add_arguments(self, parser: ArgumentParser) -> None:
        deeds = parser.add_subparsers(dest="deed", required=True)
        deeds.add_parser("list", help="the tenant's versions, newest first").add_argument("tenant")
        deeds.add_parser("calibrate", help="fit the tenant's map to its labels").add_argument("tenant")
        deeds.add_parser("rollback", help="back to what was live before").add_argument("tenant")
        for name, told in {"shadow": "record its scores, act on the live one's", "promote": "make it live"}.items():
            deed = deeds.add_parser(name, help=told)
            deed.add_argument("tenant")
            deed.add_argument("version")
        deed.add_argument("--background", action="store_true", help="by the worker: comparing takes minutes")

    def handle(
        self, *args: Any, deed: str, tenant: str, version: str = "", background: bool = False, **options: Any
    ) -> None:
        refusals = (UnknownTenant, UnfitWeights, scorer_versions.NoSuchVersion, scorer_versions.NotPromoted)
        try:
            do = self.promote_later if background else getattr(self, f"do_{deed}")
            self.stdout.write(do(find_tenant(tenant).id, version))
        except refusals as problem:
            raise CommandError(str(problem)) from problem

    def do_list(self, tenant_id: UUID, version: str) -> str:
        with in_tenant(tenant_id):
            rows = list(ScorerVersion.objects.order_by("-created_at"))
        told = [f"{r}  {r.state:<9}  trained {r.created_at:%Y-%m-%d %H:%M}  {verdict(r)}" for r in rows]
        shipped = "" if any(r.state == ScorerVersion.State.LIVE for r in rows) else "  live"
        return "\n".join([*told, f"the shipped weights{shipped}"])

    def do_calibrate(self, tenant_id: UUID, version: str) -> str:
        return f"fitted to {scorer_training.calibrate([tenant_id]).get(tenant_id, 0)} judged replies"

    def do_shadow(self, tenant_id: UUID, version: str) -> str:
        scorer_versions.shadow(tenant_id, version)
        return f"{version} is scored in the background; what it says is not acted on"

    def do_promote(self, tenant_id: UUID, version: str) -> str:
        found = scorer_versions.promote(tenant_id, version, getpass.getuser())
        return f"{version} is live: area {found.area_old:.3f} before, {found.area_new:.3f} now"

    def promote_later(self, tenant_id: UUID, version: str) -> str:
        job = scorer_versions.promote_later(tenant_id, version, getpass.getuser())
        return f"job {job}: whether it was promoted, or why not, will be in manage.py scorer list"

    def do_rollback(self, tenant_id: UUID, version: str) -> str:
        live = scorer_versions.rollback(tenant_id, getpass.getuser())
        return f"{live or 'the shipped weights'} judges from the next turn on"


def verdict(row: ScorerVersion) -> str:
    live = row.state == ScorerVersion.State.LIVE
    told = f"promoted by {row.promoted_by}" if live else str(row.comparison.get("refusal") or "")
    if not is_outdated(row):
        return told
    return f"{told}; cannot judge any more: trained for an earlier release, or its files are missing".removeprefix("; ")
