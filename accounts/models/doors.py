"""What programs see of a tenant: answers kept for requests sent again, the audit log, webhooks."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models.tenants import TenantRow


class KeptAnswer(TenantRow):
    """The answer to a POST with an Idempotency-Key, given again for a day (`accounts.rest.idempotency`)."""

    caller = models.CharField(max_length=60)  # "key:ID" or "user:ID"
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)  # of method, address and body
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    sealed = models.BinaryField()  # the body; it may hold a secret that is shown once

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "caller", "key"], name="one_answer_a_key")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="answers_by_time")]

    def __str__(self) -> str:
        return f"answer {self.status} to {self.key}"


class AuditEntry(TenantRow):
    """Who changed what, from where. Written by triggers alone (`accounts.audit`), never changed, never deleted."""

    actor = models.CharField(max_length=60)  # "user:ID", "key:ID"; "system": a command or a job
    address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    action = models.CharField(max_length=6)  # insert, update or delete
    thing = models.CharField(max_length=40)  # a table
    row_id = models.CharField(max_length=40)
    changes = models.JSONField(help_text="Column: [before, after]; of what is personal or secret only the column.")

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["tenant", "created_at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.thing}"


class Webhook(TenantRow):
    """An address of the tenant's that is told of events (`accounts.webhooks`)."""

    MOST = 20  # each event is a row and a job for each that wants it

    url = models.CharField(max_length=500)
    events = ArrayField(models.CharField(max_length=40))
    enabled = models.BooleanField(default=True)
    secret = models.BinaryField()  # sealed; it signs
    earlier_secret = models.BinaryField(
        null=True
    )  # sealed; signs too, while receivers change over; None: there is none

    def __str__(self) -> str:
        return self.url


class Delivery(TenantRow):
    """One event on its way to one webhook. Holds ids alone, nothing that was said; the row's id is the message's."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead", "given up after a day"
        DROPPED = "dropped", "whom it was about is erased, or the webhook is off"

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    happened_at = models.DateTimeField()
    content = models.JSONField()
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    problem = models.CharField(max_length=40, blank=True)  # of the last attempt
    delivered_at = models.DateTimeField(null=True)  # None: not delivered

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="deliveries_by_time"),
            models.Index(fields=["tenant", "due_at"], name="deliveries_due", condition=Q(state="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook_id}"
