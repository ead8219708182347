"""`manage.py set_budget alice month 100.00 --scope customer`: limit what turns may cost a tenant."""

from __future__ import annotations

from decimal import InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError, CommandParser

from accounts.models import Budget
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import UnknownTenant, find_tenant
from chatbackend.budget_subject import budget_subject


class Command(BaseCommand):
    help = "Set what turns may cost a tenant; the same scope, subject, period and hardness again: the limit is changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("period", choices=Budget.Period.values)
        parser.add_argument("dollars")
        parser.add_argument("--scope", choices=Budget.Scope.values, default=Budget.Scope.TENANT)
        parser.add_argument("--subject", default="", help="Id of a chatbot or customer, or a segment; none: each.")
        parser.add_argument("--soft", action="store_true", help="Tells, and asks cheaper models; refuses nothing.")
        parser.add_argument("--cheapest-tiers", type=int, help="How many tiers are asked from a soft limit on.")
        parser.add_argument("--share", type=int, action="append", help="Per cent at which to tell; several times.")
        parser.add_argument("--refusal", help="What a customer is told when a hard limit is reached.")

    def handle(self, *args: Any, slug: str, period: str, dollars: str, scope: str, subject: str, **told: Any) -> None:
        try:
            limit = Money.from_usd(dollars)
            tenant = find_tenant(slug)
            with in_tenant(tenant.id):
                which = {
                    "scope": scope,
                    "subject": budget_subject(scope, subject),
                    "period": period,
                    "hard": not told["soft"],
                }
                budget = Budget.objects.filter(**which).first() or Budget(tenant_id=tenant.id, **which)
                budget.limit_micros = limit.micros
                budget.cheapest_tiers = told["cheapest_tiers"] or budget.cheapest_tiers
                budget.shares = told["share"] or budget.shares
                budget.refusal = told["refusal"] or budget.refusal
                budget.full_clean()
                budget.save()
        except (InvalidOperation, OverflowError):
            raise CommandError(f"{dollars} is not an amount of dollars") from None
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from None
        except (UnknownTenant, ValueError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{slug}: ${limit} for {budget}")
