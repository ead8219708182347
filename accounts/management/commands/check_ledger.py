"""`manage.py check_ledger`: prove every tenant's books; fails when any are wrong, so that a nightly job can shout."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandError

from accounts import ledger
from accounts.models import Tenant
from accounts.tenancy import in_tenant
from accounts.tenants import every_tenant


class Command(BaseCommand):
    help = "Check that balances, holds and ledger entries of every tenant agree."

    def handle(self, *args: Any, **options: Any) -> None:
        tenants = every_tenant()
        wrong = 0
        for tenant_id in tenants:
            findings = ledger.check(tenant_id)
            wrong += bool(findings)
            with in_tenant(tenant_id):
                slug = Tenant.objects.values_list("slug", flat=True).filter(pk=tenant_id).first()
            for finding in findings:
                self.stderr.write(f"{slug}: {finding}")
        if wrong:
            raise CommandError(f"the books of {wrong} of {len(tenants)} tenants are wrong")
        self.stdout.write(f"the books of {len(tenants)} tenants are right")
