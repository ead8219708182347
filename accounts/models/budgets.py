"""How much may be spent, by whom and until when."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models.tenants import Tenant, TenantRow


def eighty_and_all() -> list[int]:
    """Per cent; for columns."""
    return [80, 100]


class Budget(TenantRow):
    """A limit on what turns may cost the tenant, before any quota (`accounts.budgets`).

    Hard: a turn that might exceed it is refused before any call. Soft: it is told of, and from the limit
    on only the cheapest tiers are asked. Without a subject each chatbot, segment or customer has the limit.
    """

    MOST = 1000

    class Scope(models.TextChoices):
        TENANT = "tenant", "everything together"
        CHATBOT = "chatbot"
        SEGMENT = "segment", "segment of customers"
        CUSTOMER = "customer"

    class Period(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        TOTAL = "total"

    scope = models.CharField(max_length=8, choices=Scope)
    subject = models.CharField(
        max_length=200, blank=True, help_text="A chatbot's or customer's id or a segment's name; empty: each has this."
    )
    period = models.CharField(max_length=5, choices=Period)
    limit_micros = models.BigIntegerField("limit (millionths of a dollar)", validators=[MinValueValidator(0)])
    hard = models.BooleanField(default=True, help_text="Refuses turns; a soft one tells, and asks cheaper models.")
    shares = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1)]),
        default=eighty_and_all,
        blank=True,
        help_text="At these per cent of the limit the tenant is told.",
    )
    cheapest_tiers = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Past a soft limit only so many of the cheapest tiers are asked; empty: all.",
    )
    refusal = models.TextField(
        max_length=1000,
        default="I cannot answer any more questions right now. Please try again later.",
        help_text="What the customer is told when a hard limit is reached.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit_micros__gte=0), name="limit_is_not_negative"),
            models.CheckConstraint(condition=~Q(scope="tenant") | Q(subject=""), name="tenant_budget_has_no_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()}, {self.get_period_display()}"


class BudgetSpending(TenantRow):
    """What one subject has spent of a budget since a day, and may still spend in open turns."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="+", db_index=False)
    budget = models.ForeignKey(Budget, models.CASCADE, related_name="spendings", db_index=False)
    starts = models.DateField()  # where the tenant is; of a budget without a period: 1970-01-01
    subject = models.CharField(max_length=200, blank=True)
    spent_micros = models.BigIntegerField(default=0)
    held_micros = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "starts", "subject"], name="one_spending_a_subject_and_period"),
            models.CheckConstraint(condition=Q(held_micros__gte=0), name="spending_held_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.spent_micros} µ$ since {self.starts}"


class BudgetEvent(TenantRow):
    """A share of a budget was reached; told once."""

    spending = models.ForeignKey(BudgetSpending, models.CASCADE, related_name="events")
    share = models.PositiveSmallIntegerField(help_text="Per cent of the limit.")
    spent_micros = models.BigIntegerField()
    mailed_at = models.DateTimeField(null=True)  # None: nobody has been written to

    class Meta:
        constraints = [models.UniqueConstraint(fields=["spending", "share"], name="a_share_is_told_once")]

    def __str__(self) -> str:
        return f"{self.share} % of a budget"
