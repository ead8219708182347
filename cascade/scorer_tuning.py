"""What a tenant's own people change about judging: which weights, how scores are read, how strict to be with whom.

Read at the start of every turn, in its transaction, so that every web process follows a promotion or a rollback with
the next question. The versions' life is `cascade.scorer_versions`'s; what labels there are, `cascade.scorer_labels`'s.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from django.conf import settings

from cascade.models import Feedback, Message, ScorerCalibration, ScorerVersion, Turn
from cascade.scorer.calibration import Calibration
from cascade.scorer.manifest import outdated
from cascade.scorer.pool import Scoring
from cascade.strictness import Expectation, Ratings

LATEST_RATINGS = 50  # of a customer, so that old disappointments are forgotten in the end


def folder_of(version: ScorerVersion) -> Path:
    return Path(settings.VAR) / "scorers" / version.folder


def is_outdated(version: ScorerVersion) -> bool:
    """Whether it was trained for other code than this: then it cannot judge, and the shipped weights stand in."""
    return outdated(folder_of(version))


def live_folder() -> Path:
    """Inside `in_tenant`: the weights that judge, the shipped ones where the tenant has none of its own that can."""
    live = ScorerVersion.objects.filter(state=ScorerVersion.State.LIVE).first()
    return folder_of(live) if live and not is_outdated(live) else Path(settings.SCORER_WEIGHTS)


def scoring() -> Scoring:
    """Inside `in_tenant`: how the tenant's answers are judged from now on."""
    live = ScorerVersion.objects.filter(state=ScorerVersion.State.LIVE).first()
    maps = {row.weights_version: Calibration(row.scale, row.shift) for row in ScorerCalibration.objects.all()}
    return Scoring(folder_of(live) if live else None, maps)


def ratings(customer_id: UUID) -> Ratings:
    """Inside `in_tenant`: what the customer said lately of answers that were accepted for them."""
    said = Feedback.objects.filter(
        message__conversation__customer=customer_id,
        message__role=Message.Role.ASSISTANT,
        message__turn__state=Turn.State.ANSWERED,
    )
    latest = list(said.order_by("-created_at").values_list("rating", flat=True)[:LATEST_RATINGS])
    return Ratings(good=latest.count(1), bad=latest.count(-1))


def expected() -> Expectation:
    """Inside `in_tenant`: how often accepted answers disappoint this tenant's customers, as last fitted."""
    fitted = ScorerCalibration.objects.order_by("-fitted_at").first()
    return Expectation(fitted.expected_bad, fitted.expected_worth) if fitted else Expectation()
