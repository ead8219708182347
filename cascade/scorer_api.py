"""Who judges, over the REST API: versions of the scorer, trained, tried in the shadow, promoted; what labels say."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts.models import Tenant
from accounts.rest import lists
from accounts.rest.fields import Number, Ref, Whole
from accounts.rest.lists import Filter
from accounts.rest.problems import Problem
from accounts.rest.rows import Row, Shape
from accounts.rest.views import Listed, Resource, Shown
from cascade import models, scorer_training, scorer_tuning, scorer_versions


class ScorerVersionRow(Row):
    """`metrics`: on the tenant's own validation customers. `comparison`: with the live version, when last compared."""

    outdated = serializers.SerializerMethodField(
        help_text="Trained for an earlier release, or its files are missing: the shipped weights stand in for it."
    )

    def get_outdated(self, version: models.ScorerVersion) -> bool:
        return scorer_tuning.is_outdated(version)

    class Meta:
        model = models.ScorerVersion
        fields = (
            "id", "weights_version", "state", "outdated", "learnt_from", "metrics", "comparison", "promoted_at",
            "promoted_by", "retired_at", "retired_by", "created_at",
        )  # fmt: skip


class Started(Shape):
    job = Whole(help_text="The background job's number.")


class LastTraining(Shape):
    job = Whole(allow_null=True, help_text="Null: none is waiting, running or failed.")
    state = serializers.ChoiceField([*scorer_training.JOB_STATES.values()], allow_null=True)


class ShadowScoreRow(Row):
    call = Ref(source="call_id", read_only=True)
    live_score = Number(source="call.score", read_only=True, allow_null=True)
    threshold = Number(source="call.threshold", read_only=True)

    class Meta:
        model = models.ShadowScore
        fields = ("id", "call", "score", "live_score", "threshold", "created_at")


class ScorerVersions(Listed, Shown, Resource):
    """Weights of the tenant's own; without a live one the shipped weights judge."""

    resource, rows = "scorer-versions", models.ScorerVersion
    serializer_class = ScorerVersionRow
    filters = {"state": Filter("state", serializers.ChoiceField(models.ScorerVersion.State.choices))}

    @extend_schema(request=None, responses={202: Started})
    def create(self, request: Any) -> Response:
        """Train one on what customers and staff said, in the background; it will be a candidate."""
        try:
            job = scorer_training.train_later(Tenant.objects.get())
        except (scorer_training.TooFewLabels, scorer_training.AlreadyTraining) as refused:
            raise Problem("conflict", str(refused)) from None
        return Response(Started({"job": job}).data, status=202)

    @extend_schema(responses=LastTraining, filters=False)
    @action(detail=False, methods=["get"], pagination_class=None, filters={})
    def training(self, request: Any) -> Response:
        """How far the newest training is. Why one failed stands in the operator's log."""
        lists.chosen(request, {}, set())
        return Response(LastTraining(scorer_training.last(Tenant.objects.get())).data)

    @extend_schema(request=None, responses=ScorerVersionRow)
    @action(detail=True, methods=["post"])
    def shadow(self, request: Any, pk: Any) -> Response:
        """Its scores are recorded beside the live ones from now on, and not acted on."""
        self._deed(scorer_versions.shadow, self.get_object().weights_version)
        return self.shown(self.get_queryset().get(pk=pk))

    @extend_schema(responses=ShadowScoreRow(many=True), filters=False)
    @action(detail=True, methods=["get"], filters={}, url_path="shadow-scores")
    def shadow_scores(self, request: Any, pk: Any) -> Response:
        """What it said of answers beside the score that was acted on."""
        self.filter_queryset(self.get_queryset())  # refuses what is not offered
        return self.page(self.get_object().shadow_scores.all(), ShadowScoreRow())

    @extend_schema(request=None, responses={202: Started})
    @action(detail=True, methods=["post"])
    def promote(self, request: Any, pk: Any) -> Response:
        """Compare it with what is live, in the background, and make it live if it is not worse."""
        version = self.get_object()
        if version.state not in ("candidate", "shadow"):
            raise Problem("conflict", f"a version that is {version.state} is not promoted")
        job = scorer_versions.promote_later(self.caller.tenant_id, version.weights_version, self.caller.name)
        return Response(Started({"job": job}).data, status=202)

    @extend_schema(request=None, responses={204: None})
    @action(detail=False, methods=["post"], url_path="roll-back")
    def roll_back(self, request: Any) -> Response:
        """Back to what was live before, in the end the shipped weights."""
        self._deed(scorer_versions.rollback, self.caller.name)
        return Response(status=204)

    def _deed(self, deed: Any, *told: Any) -> None:
        try:
            deed(self.caller.tenant_id, *told)
        except scorer_versions.NoSuchVersion as refused:
            raise Problem("conflict", str(refused)) from None


class CalibrationRow(Row):
    class Meta:
        model = models.ScorerCalibration
        fields = (
            "id", "weights_version", "scale", "shift", "labels", "expected_bad", "expected_worth", "fitted_at",
            "created_at",
        )  # fmt: skip


class ScorerCalibrations(Listed, Shown, Resource):
    """What the tenant's labels say of the scores of one set of weights, and how often accepted answers disappoint."""

    resource, rows = "scorer-versions", models.ScorerCalibration
    serializer_class = CalibrationRow
