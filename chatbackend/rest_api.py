"""What of the REST API needs more than one storey: forgetting a customer, budgets, closing a month, exports."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers as fields
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts import export_jobs, models, serializers, statements, views
from accounts.bounds import make_room
from accounts.exports import Selection
from accounts.permissions import allows
from accounts.rest.fields import ANYTHING
from accounts.rest.lists import Filter
from accounts.rest.problems import Problem
from accounts.rest.views import Listed, Resource, Router, Shown
from chatbackend import downloads, erasure, personal_data, statement_page
from chatbackend.budget_subject import budget_subject


class Customers(views.Customers):
    """The tenant's own customers, by its own ids of them."""

    def may(self, *, writing: bool) -> bool:
        reads = self.action != "personal_data" or allows(
            "conversations", writing=False, role=self.caller.role, scopes=self.caller.scopes
        )
        return reads and super().may(writing=writing)

    @extend_schema(responses={(200, "application/json"): ANYTHING})
    @action(detail=True, methods=["get"], url_path="personal-data")
    def personal_data(self, request: Any, pk: Any) -> Response:
        """Everything that is known of the customer and was said with them, for whoever has a right to know. A key needs
        the scope `conversations:read` too."""
        customer = self.get_object()
        return Response(personal_data.tell(self.caller.tenant_id, customer.id))

    def destroy(self, request: Any, pk: Any) -> Response:
        """Forget the customer, with everything they said; the books stay, and lead to nobody any more."""
        customer = self.get_object()
        try:
            erasure.erase(self.caller.tenant_id, customer.id, patience=0)
        except erasure.StillAnswering as refused:
            raise Problem("conflict", str(refused)) from None
        return Response(status=204)


class Budgets(views.Budgets):
    """What turns may cost: in a day, a month or in all; of the tenant, a chatbot, a segment or a customer."""

    def create(self, request: Any) -> Response:
        """`subject` is the id of a chatbot or customer or the name of a segment; empty: each has this budget."""
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = told.validated_data
        try:
            subject = budget_subject(wanted["scope"], wanted.get("subject", ""))
        except ValueError as refused:
            raise Problem("not_found", str(refused), pointer="/subject") from None
        make_room(models.Budget.objects.all())
        return self.made(told.save(tenant_id=self.caller.tenant_id, subject=subject))


class Statements(views.Statements):
    """Months: closed ones are numbered and never change; an open one is a draft, computed anew each time."""

    @extend_schema(request=serializers.ClosedMonth, responses={201: serializers.Month})
    def create(self, request: Any) -> Response:
        """Close a month for good."""
        told = serializers.ClosedMonth(data=request.data)
        told.is_valid(raise_exception=True)
        try:
            closed = statement_page.close(self.caller.tenant_id, views.first_of(told.validated_data["month"]))
        except statements.CannotClose as refused:
            raise Problem("conflict", str(refused), pointer="/month") from None
        return Response(views.told_month(closed), status=201)


class Exports(Listed, Shown, Resource):
    """Files of the ledger, written in the background and kept for a week."""

    resource, rows = "exports", models.Export
    serializer_class = serializers.Export
    filters = {"state": Filter("state", fields.ChoiceField(models.Export.State.choices))}

    @extend_schema(request=serializers.NewExport, responses={202: serializers.Export})
    def create(self, request: Any) -> Response:
        """Ask for a file of the entries of some months; the answer says where it will be."""
        told = serializers.NewExport(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = dict(told.validated_data)
        first, last, form = (wanted.pop(name) for name in ("first", "last", "format"))
        equal = {name: str(value) for name, value in wanted.items()}
        try:
            chosen = Selection(views.first_of(first), views.first_of(last), equal)
            export = export_jobs.request(self.caller.tenant_id, chosen, form, self.caller.name)
        except ValueError as refused:
            raise Problem("conflict", str(refused)) from None
        export.refresh_from_db()
        response = self.made(export)
        response.status_code = 202
        return response

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, filters=False)
    @action(detail=True, methods=["get"])
    def file(self, request: Any, pk: Any) -> HttpResponseBase:
        """The finished file; a download that broke off goes on with `Range` and `If-Range`."""
        try:
            return downloads.download(request, self.get_object())
        except export_jobs.NoFile as refused:
            raise Problem("conflict", str(refused)) from None


router = Router()
router.register("customers", Customers, "customer")
router.register("budgets", Budgets, "budget")
router.register("exports", Exports, "export")
urlpatterns = [
    *router.urls,
    path("statements", Statements.as_view({"get": "list", "post": "create"}), name="statements"),
    path("statements/<str:month>", Statements.as_view({"get": "retrieve"}), name="statement"),
]
