"""What can be asked, and what it costs. The operator's: only a price may be one tenant's own."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from cascade.models.constraints import unique


class LanguageModel(models.Model):
    """A model that the operator has made available. Provider names are data, not choices."""

    name = models.CharField(max_length=100, unique=True)
    provider = models.CharField(max_length=40)
    remote_name = models.CharField(max_length=200, help_text="What the provider calls it.")
    base_url = models.URLField(blank=True, help_text="Empty: the provider's own address.")
    enabled = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class Price(models.Model):
    """US dollars per million tokens from a moment on. Never edited, only superseded by a later one.

    One with a tenant is an override: what that tenant's calls cost, whatever the list says. It ends where
    `valid_until` says, and then the list's price holds again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", models.PROTECT, null=True, blank=True, related_name="+")  # None: all
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="prices")
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)  # None: until it is superseded
    input = models.DecimalField(max_digits=14, decimal_places=6)
    output = models.DecimalField(max_digits=14, decimal_places=6)
    cached_input = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    cache_write = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    reasoning = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    per_request = models.DecimalField(max_digits=14, decimal_places=6, default=0, help_text="US dollars a call.")
    batch = models.DecimalField(
        max_digits=5, decimal_places=4, null=True, blank=True, help_text="0.5: half, through the provider's batch door."
    )
    long_prompts = models.JSONField(
        default=list,
        blank=True,
        help_text='{"above": tokens, "input": "0.2", "output": "0.75", ...}: rates of calls with so long a prompt.',
    )
    source = models.CharField(max_length=200)

    class Meta:
        constraints = [
            unique("one_price_a_moment", "model", "valid_from", condition=Q(tenant=None)),
            unique("one_override_a_moment", "tenant", "model", "valid_from"),
            models.CheckConstraint(
                condition=Q(input__gte=0, output__gte=0, per_request__gte=0)
                & (Q(cached_input=None) | Q(cached_input__gte=0))
                & (Q(cache_write=None) | Q(cache_write__gte=0))
                & (Q(reasoning=None) | Q(reasoning__gte=0))
                & (Q(batch=None) | Q(batch__gte=0)),
                name="prices_are_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(tenant__isnull=False, valid_until__gte=models.F("valid_from")),
                name="only_an_override_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"
