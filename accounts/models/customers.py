"""Who asks: the widget they come through, and what a tenant tells of each customer."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models

from accounts import origins
from accounts.models.tenants import TenantRow


def check_origins(allowed: list[str]) -> None:
    """For forms: what `origins.check_allowed` says."""
    try:
        origins.check_allowed(allowed)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class Widget(TenantRow):
    """The chat widget on a tenant's site: its public key, where it may stand, how customers are known."""

    class Identity(models.TextChoices):
        OFF = "off", "everybody is a visitor"
        OPTIONAL = "optional", "signed customers and visitors"
        REQUIRED = "required", "signed customers only"

    public_key = models.CharField(max_length=40, unique=True)
    allowed_origins = ArrayField(models.CharField(max_length=255), default=list, blank=True, validators=[check_origins])
    identity = models.CharField(max_length=10, choices=Identity, default=Identity.OPTIONAL)

    def __str__(self) -> str:
        return self.public_key


class WidgetSecret(TenantRow):
    """A secret with which the tenant signs its customers' identity tokens; two live ones at most."""

    widget = models.ForeignKey(Widget, models.CASCADE, related_name="secrets")
    kid = models.CharField(max_length=40)
    sealed = models.BinaryField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["widget", "kid"], name="one_secret_a_kid")]

    def __str__(self) -> str:
        return self.kid


class Customer(TenantRow):
    """The end user who asks. Attributes are the tenant's word, never the customer's own."""

    external_id = models.CharField(max_length=200)
    attributes = models.JSONField(default=dict, blank=True)
    verified = models.BooleanField(default=False, help_text="False: a visitor nobody vouched for.")
    locale = models.CharField(max_length=35, blank=True)
    signed_at = models.DateTimeField(null=True, editable=False)  # the newest identity that was applied; None: none was

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "external_id"], name="one_customer_an_external_id")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="customers_by_time")]

    def __str__(self) -> str:
        return str(self.attributes.get("name") or self.external_id)


class CustomerRecord(TenantRow):
    """One thing the tenant knows of a customer: an order, a plan, a reservation."""

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="records")
    type = models.CharField(max_length=40)
    external_id = models.CharField(max_length=200)
    as_of = models.DateTimeField(help_text="When the tenant last vouched for it.")
    data = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer", "type", "external_id"], name="one_record_an_external_id")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.external_id}"
