"""Who pays: tenants, their members and keys."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7


class User(AbstractUser):
    """Somebody who can log in. What they may see is decided by their `Member` rows."""


def check_time_zone(name: str) -> None:
    """For forms: the database refuses what PostgreSQL does not know, this what Python does not."""
    if name not in available_timezones():
        raise ValidationError(f"{name} is no time zone: it has a name like Europe/Berlin")


class Tenant(models.Model):
    """A company that puts the widget on its site, and pays."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200)
    slug = models.SlugField(unique=True)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[check_time_zone])
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name

    def midnight(self) -> datetime:
        """When today began where the tenant is."""
        return timezone.now().astimezone(ZoneInfo(self.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)


class TenantRow(models.Model):
    """What belongs to one tenant. The id is a UUIDv7: unguessable to others, ordered by time.

    `created_at` is the database's time: the books do not depend on the clock of a web server.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    MOST: ClassVar[int | None] = None  # that a tenant may have (`accounts.bounds`); None: as many as come

    class Meta:
        abstract = True


class Member(TenantRow):
    """A user's role in one tenant."""

    MOST = 1000

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        ANALYST = "analyst"
        SUPPORT = "support"

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_a_member")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(TenantRow):
    """A program's key. The secret is shown once; only its hash is kept."""

    MOST = 100  # that are not revoked

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=128)
    scopes = ArrayField(models.CharField(max_length=40), default=list)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: does not expire.")
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
