"""Who judges a tenant's answers: versions of the scorer, their maps from logit to probability."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import TenantRow
from cascade.models.constraints import SHARE, unique
from cascade.models.conversations import ModelCall


class ScorerVersion(TenantRow):
    """Weights of a tenant's own. A tenant without a live version is judged by the shipped weights.

    `cascade.scorer_versions` is the only writer.
    """

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        SHADOW = "shadow", "shadow: its scores are recorded, not acted on"
        LIVE = "live"
        RETIRED = "retired"

    weights_version = models.CharField(max_length=64, help_text="As the weights' manifest has it.")
    folder = models.CharField(max_length=200, help_text="Below VAR_DIR/scorers.")
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    learnt_from = models.JSONField(default=dict, help_text="How many labels of which kind.")
    metrics = models.JSONField(default=dict, help_text="On the tenant's own validation customers, by slice.")
    comparison = models.JSONField(default=dict, help_text="With the live version, when it was last compared.")
    promoted_at = models.DateTimeField(null=True)  # None: never live
    promoted_by = models.CharField(max_length=150, blank=True)
    retired_at = models.DateTimeField(null=True)  # None: not retired
    retired_by = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints = [
            unique("one_live_scorer_a_tenant", "tenant", condition=Q(state="live")),
            unique("one_shadow_scorer_a_tenant", "tenant", condition=Q(state="shadow")),
            unique("one_row_a_scorer_version", "tenant", "weights_version"),
        ]

    def __str__(self) -> str:
        return self.weights_version


class ShadowScore(TenantRow):
    """What a version that is not live yet says of an answer, beside the score on the model call."""

    call = models.ForeignKey(ModelCall, models.CASCADE, related_name="shadow_scores")
    version = models.ForeignKey(ScorerVersion, models.CASCADE, related_name="shadow_scores")
    score = models.FloatField(null=True)  # None: it could not tell

    class Meta:
        constraints = [unique("one_shadow_score_a_call", "version", "call")]

    def __str__(self) -> str:
        return f"{self.score}"


class ScorerCalibration(TenantRow):
    """What a tenant's labels say of the scores of one set of weights, and of how often accepted answers disappoint."""

    weights_version = models.CharField(max_length=64)
    scale = models.FloatField(default=1.0)
    shift = models.FloatField(default=0.0)
    labels = models.PositiveIntegerField(default=0)
    expected_bad = models.FloatField(validators=SHARE, help_text="The share of rated answers that disappoint.")
    expected_worth = models.FloatField(help_text="So many ratings of one customer weigh as much.")
    fitted_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [unique("one_calibration_a_version", "tenant", "weights_version")]

    def __str__(self) -> str:
        return f"{self.scale:.2f} x + {self.shift:.2f}"
