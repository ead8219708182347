"""Who judges the answers, on the admin pages: the shipped weights, a tenant's own versions, and what those say."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.models import Tenant
from accounts.staff_pages import BOOKS, TenantAdmin, decimals
from cascade import scorer_training
from cascade.models import ScorerCalibration, ScorerVersion, ShadowScore
from cascade.scorer import manifest
from cascade.scorer.report import MEANINGS
from cascade.scorer_tuning import folder_of, is_outdated
from cascade.strategy_pages import may_lead, require_lead

MEASURED = "reported half"  # of the labelled answers: neither trained nor calibrated on
PICTURES = {
    "roc.svg": "How well good answers outrank bad ones: ROC curves, solid; dashed with the customer left out",
    "reliability.svg": "Whether a score means what it says: the share of good answers against the score",
    "histograms.svg": "How many answers, good and bad, have which score",
}
COMPARED = {
    "good": "good answers",
    "bad": "bad answers",
    "customers": "customers, of good answers or of bad ones, the fewer",
    "area_old": "AUC of the live version",
    "area_new": "AUC of this one",
    "area_least": "AUC is higher by at least (95 %)",
    "error_old": "squared error of the live version",
    "error_new": "squared error of this one",
    "error_least": "squared error is lower by at least (95 %)",
}


def slices(seen: Mapping[str, Any], blind: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each kind of bad answer: how surely a good one outranks it, and blind, the customer left out."""
    for name, meaning in MEANINGS.items():
        if (area := seen.get("auc", {}).get(name)) is not None:
            low, high = seen.get("95 %", {}).get(name) or (None, None)
            told = {"auc": decimals(area), "low": decimals(low), "high": decimals(high)}
            yield {"meaning": meaning, "blind": decimals(blind.get("auc", {}).get(name)), **told}


def pictures(folder: Path) -> list[tuple[str, str]]:
    """What each shows, and its address; none where no report was written."""
    there = [(told, folder / "report" / name) for name, told in PICTURES.items() if (folder / "report" / name).exists()]
    return [(told, f"data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()}") for told, file in there]


@admin.register(ScorerVersion)
class ScorerVersionPage(TenantAdmin):
    """Weights of the tenant's own; without a live one the shipped weights judge."""

    seen_by = BOOKS
    list_display = ("weights_version", "state", "created_at", "promoted_at", "promoted_by", "refusal")
    list_filter = ("state",)
    ordering = ("-created_at",)
    exclude = ("folder",)
    list_before_template = "admin/cascade/scorer_live.html"
    change_form_template = "admin/cascade/scorer.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        live = ScorerVersion.objects.filter(state=ScorerVersion.State.LIVE).first()
        told = {
            "live": live,
            "outdated": live is not None and is_outdated(live),
            "training": scorer_training.last(Tenant.objects.get()),
            "may_lead": may_lead(request),
        }
        return super().changelist_view(request, told | (extra_context or {}))

    def is_moving(self, request: HttpRequest) -> bool:
        return scorer_training.last(Tenant.objects.get())["state"] in ("waiting", "running")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        version = cast(ScorerVersion | None, self.get_object(request, object_id))
        told: dict[str, Any] = {"version": version}
        if version:
            compared = [(name, version.comparison.get(key)) for key, name in COMPARED.items()]
            told |= {
                "outdated": is_outdated(version),
                "slices": list(slices(version.metrics, {})),
                "pictures": pictures(folder_of(version)),
                "compared": [(name, value) for name, value in compared if value is not None],
            }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        shipped = self.admin_site.admin_view(self.shipped)
        train = self.admin_site.admin_view(require_POST(self.train))
        own = [
            path("shipped/", shipped, name="cascade_scorer_shipped"),
            path("train/", train, name="cascade_scorer_train"),
        ]
        return [*own, *super().get_urls()]

    def train(self, request: HttpRequest) -> HttpResponse:
        """POST: train a version on the tenant's own labels, in the background."""
        require_lead(request)
        try:
            scorer_training.train_later(Tenant.objects.get())
        except (scorer_training.TooFewLabels, scorer_training.AlreadyTraining) as problem:
            self.message_user(request, f"No training was begun: {problem}.", messages.ERROR)
        return HttpResponseRedirect(reverse("admin:cascade_scorerversion_changelist"))

    def shipped(self, request: HttpRequest) -> HttpResponse:
        """The report of the weights that judge where a tenant has none of its own."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = manifest.read(settings.SCORER_WEIGHTS)
        told = {
            "title": f"Scorer {found.version}",
            "slices": list(slices(found.metrics[MEASURED], found.metrics.get(f"{MEASURED}, blind", {}))),
            "pictures": pictures(settings.SCORER_WEIGHTS),
            "error": decimals(found.metrics[MEASURED].get("ece")),
        }
        return TemplateResponse(request, "admin/cascade/scorer.html", self.admin_site.each_context(request) | told)

    @display(description="why it was not promoted")
    def refusal(self, version: ScorerVersion) -> str:
        outdated = "cannot judge any more" if is_outdated(version) else "–"
        return str(version.comparison.get("refusal") or outdated)


@admin.register(ShadowScore)
class ShadowScorePage(TenantAdmin):
    """What a version that is not live says of answers, beside the score that was acted on."""

    seen_by = BOOKS
    list_display = ("created_at", "version", "model", "judged", "live_score", "threshold", "outcome")
    list_filter = ("version",)
    list_select_related = ("version", "call")
    ordering = ("-created_at",)

    @display(description="model")
    def model(self, shadow: ShadowScore) -> str:
        return shadow.call.model

    @display(description="score", ordering="score")
    def judged(self, shadow: ShadowScore) -> str:
        return decimals(shadow.score)

    @display(description="live score")
    def live_score(self, shadow: ShadowScore) -> str:
        return decimals(shadow.call.score)

    @display(description="threshold")
    def threshold(self, shadow: ShadowScore) -> str:
        return decimals(shadow.call.threshold)

    @display(description="outcome")
    def outcome(self, shadow: ShadowScore) -> str:
        return shadow.call.outcome


@admin.register(ScorerCalibration)
class ScorerCalibrationPage(TenantAdmin):
    """How the tenant's labels have scores read."""

    seen_by = BOOKS
    list_display = ("weights_version", "scale", "shift", "labels", "expected_bad", "expected_worth", "fitted_at")
    ordering = ("-fitted_at",)
