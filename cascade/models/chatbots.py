"""What a tenant sets up: its assistants, and the cascade that each of them asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from accounts.models import TenantRow
from cascade.models.constraints import SHARE, unique


class Chatbot(TenantRow):
    """One assistant of a tenant: what it is told, how good an answer must be, when a person takes over."""

    MOST = 100

    name = models.CharField(max_length=100)
    widget = models.OneToOneField("accounts.Widget", models.PROTECT, related_name="chatbot")
    instructions = models.TextField(max_length=8000)
    tone = models.CharField(max_length=200, blank=True)
    floor = models.FloatField(
        default=0.5,
        validators=SHARE,
        help_text="The dearest tier's answer needs this score; under it a person answers.",
    )
    hand_over_text = models.TextField(
        max_length=1000, default="I would rather have a colleague answer this. Somebody will reply here soon."
    )
    stale_after = models.DurationField(
        default=timedelta(days=1), help_text="Older records are never asserted as current."
    )
    live_strategy = models.ForeignKey(
        "cascade.CascadeStrategy", models.PROTECT, null=True, blank=True, related_name="+"
    )
    explored_share = models.FloatField(
        "share of turns explored",
        default=0.0,
        validators=SHARE,
        help_text="Of answered turns, so many also ask the models that were not needed, after the reply; 0.05 is 5 %.",
    )
    explored_micros_a_day = models.BigIntegerField(
        "exploring costs at most, a day",
        default=0,
        validators=[MinValueValidator(0)],
        help_text="In millionths of a dollar, of what the providers charge; 0: nothing is explored.",
    )
    explored_models = ArrayField(
        models.CharField(max_length=100),
        default=list,
        blank=True,
        help_text="Models to try, separated by commas: explored turns ask them as well.",
    )
    reference_model = models.CharField(
        max_length=100,
        blank=True,
        help_text="Explored turns ask it as well; other answers are judged by the facts that it names.",
    )
    record_source_url = models.URLField(blank=True, help_text="Asked for fresh records at the start of a turn.")
    record_source_secret = models.BinaryField(null=True, blank=True)  # sealed; None without a source
    record_source_ttl = models.DurationField(default=timedelta(minutes=1))
    wrong_hits = models.FloatField(
        default=0.01,
        validators=[MinValueValidator(0.0), MaxValueValidator(0.1)],
        help_text="The share of remembered answers that may be wrong ones; 0: nothing is remembered.",
    )
    check_share = models.FloatField(
        default=0.02,
        validators=SHARE,
        help_text="Of the questions that memory could answer, so many are answered afresh, to check it.",
    )
    remembered_for = models.DurationField(
        default=timedelta(days=30), help_text="A remembered answer is forgotten after so long."
    )
    most_remembered = models.PositiveIntegerField(
        default=20_000, help_text="Of more answers, those that save least are forgotten."
    )
    knowledge_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="Of the index of its articles; another with every change. 0: none yet."
    )

    def __str__(self) -> str:
        return self.name


class CascadeStrategy(TenantRow):
    """An immutable version of a chatbot's cascade.

    `tiers` is a list, cheapest first, of {"model", "threshold", "deadline_seconds", "max_output_tokens"};
    the last tier's threshold is the chatbot's floor, whatever stands here. A tier before it may have "segments":
    other thresholds, by the name of a segment of customers.
    """

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="strategies")
    version = models.PositiveIntegerField()
    tiers = models.JSONField()
    deadline_seconds = models.FloatField()

    class Meta:
        verbose_name_plural = "cascade strategies"
        constraints = [unique("one_strategy_a_version", "chatbot", "version")]

    def __str__(self) -> str:
        return f"{self.chatbot} v{self.version}"

    @property
    def asks(self) -> str:
        """The tiers in one line."""
        return " → ".join(f"{tier['model']} ({', '.join(_limits(tier))})" for tier in self.tiers)


def _limits(tier: dict[str, Any]) -> list[str]:
    """What an answer must score, of all customers and then of those of some segments."""
    others = [f"{name} ≥ {own:g}" for name, own in tier.get("segments", {}).items()]
    return [f"≥ {tier['threshold']:g}", *others]
