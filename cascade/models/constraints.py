"""What many tables ask of their columns."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]


def unique(name: str, *fields: str, condition: Q | None = None) -> models.UniqueConstraint:
    return models.UniqueConstraint(fields=fields, name=name, condition=condition)
