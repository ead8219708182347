"""Exports of the books on the admin pages: asked for, watched, downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import URLPattern, path, reverse
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts import export_jobs
from accounts.bounds import TooMany
from accounts.exports import Selection
from accounts.models import Export, LedgerEntry, Tenant
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin, links
from cascade.models import Chatbot
from chatbackend import downloads
from chatbackend.months import NAMED, month_of, since_the_first_entry

FORMAT_NAMES = {
    "csv": "CSV",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "focus-1.0": "FOCUS 1.0 (CSV)",
    "focus-1.4": "FOCUS 1.4 (CSV)",
}


class ExportForm(forms.ModelForm):
    """What to write: months, format, and which entries; once it is valid, `selection` says it."""

    format = forms.ChoiceField(choices=FORMAT_NAMES.items(), widget=UnfoldAdminSelectWidget)
    from_month = forms.ChoiceField(label="From", widget=UnfoldAdminSelectWidget)
    to_month = forms.ChoiceField(label="To", widget=UnfoldAdminSelectWidget, help_text="Both months are in the file.")
    since = forms.DateField(required=False, widget=UnfoldAdminTextInputWidget({"type": "date"}))
    until = forms.DateField(
        required=False,
        widget=UnfoldAdminTextInputWidget({"type": "date"}),
        help_text="The days on which entries were written, both included. Empty: all days of these months.",
    )
    chatbot = forms.ModelChoiceField(
        Chatbot.objects.none(), required=False, empty_label="All", widget=UnfoldAdminSelectWidget
    )
    kind = forms.ChoiceField(
        choices=[("", "All"), *LedgerEntry.Kind.choices], required=False, widget=UnfoldAdminSelectWidget
    )
    outcome = forms.ChoiceField(
        choices=[("", "All"), *((word, word) for word in ("accepted", "rejected", "failed", "cancelled"))],
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    model = forms.CharField(required=False, help_text="Empty: all.", widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = Export
        fields = ("format",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        months = [(f"{first:{NAMED}}", f"{first:%B %Y}") for first in since_the_first_entry(Tenant.objects.get())]
        self.fields["from_month"].choices = self.fields["to_month"].choices = months  # type: ignore[attr-defined]
        self.fields["chatbot"].queryset = Chatbot.objects.order_by("name")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if self.errors:
            return told
        equal = {name: str(told[name]) for name in ("since", "until", "kind", "outcome", "model") if told[name]}
        if told["chatbot"]:
            equal["chatbot_id"] = str(told["chatbot"].id)
        try:
            self.selection = Selection(month_of(told["from_month"]), month_of(told["to_month"]), equal)
            export_jobs.refuse_too_many()
        except (ValueError, TooMany) as problem:
            raise ValidationError(str(problem)) from None
        return told


@admin.register(Export)
class ExportPage(TenantAdmin):
    """Files of the ledger, written in the background. The list tells how far each is."""

    seen_by = BOOKS
    added_by = LEAD
    form = ExportForm
    list_display = ("created_at", "months", "file_format", "chosen", "progress", "files", "asked_by")
    list_display_links = None
    ordering = ("-created_at",)
    list_before_template = "admin/accounts/export/about.html"

    def get_fields(self, request: HttpRequest, obj: Export | None = None) -> Any:
        if obj is None:
            return super().get_fields(request, obj)
        return ("created_at", "months", "file_format", "chosen", "progress", "files", "asked_by", "error")

    def get_form(self, request: HttpRequest, obj: Export | None = None, **kwargs: Any) -> Any:
        return super().get_form(request, obj, **kwargs, **({} if obj is None else {"form": forms.ModelForm}))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {name: request.GET[name] for name in ("from_month", "to_month") if name in request.GET}

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Export:
        tenant_id = request.member.tenant_id  # type: ignore[attr-defined]
        return export_jobs.request(tenant_id, form.selection, form.cleaned_data["format"], str(request.user))

    def save_model(self, *args: Any) -> None:
        """It was when it was asked for."""

    save_related = save_model

    def is_moving(self, request: HttpRequest) -> bool:
        return Export.objects.filter(state__in=Export.UNFINISHED).exists()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {**(extra_context or {}), "kept_days": export_jobs.KEPT.days})

    def get_urls(self) -> list[URLPattern]:
        site = self.admin_site
        return [
            path("<uuid:export_id>/file/", site.admin_view(self.file), name="accounts_export_file"),
            path("<uuid:export_id>/manifest/", site.admin_view(self.manifest), name="accounts_export_manifest"),
            *super().get_urls(),
        ]

    def file(self, request: HttpRequest, export_id: UUID) -> HttpResponseBase:
        return self._answer(request, export_id, lambda export: downloads.download(request, export))

    def manifest(self, request: HttpRequest, export_id: UUID) -> HttpResponseBase:
        return self._answer(request, export_id, downloads.manifest)

    def _answer(
        self, request: HttpRequest, export_id: UUID, how: Callable[[Export], HttpResponseBase]
    ) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return how(export_jobs.find(request.member.tenant_id, export_id))  # type: ignore[attr-defined]
        except (Export.DoesNotExist, export_jobs.NoFile) as problem:
            raise Http404(str(problem)) from None

    @display(description="months", ordering="first")
    def months(self, export: Export) -> str:
        if export.first == export.last:
            return f"{export.first:%B %Y}"
        return f"{export.first:%B %Y} to {export.last:%B %Y}"

    @display(description="format", ordering="format")
    def file_format(self, export: Export) -> str:
        return FORMAT_NAMES[export.format]

    @display(description="entries")
    def chosen(self, export: Export) -> str:
        return ", ".join(f"{name} {value}" for name, value in export.equal.items()) or "all"

    @display(description="state", ordering="state")
    def progress(self, export: Export) -> str:
        if export.state == Export.State.WAITING:
            return export.get_state_display().capitalize()
        failed = f": {export.error}" if export.error else ""
        return f"{export.get_state_display()}{failed}, {export.rows:,} rows".capitalize()

    @display(description="download")
    def files(self, export: Export) -> str:
        if export.manifest is None:
            return "–"
        pages = {"file": size(export.manifest["bytes"]), "manifest": "manifest"}
        return links({reverse(f"admin:accounts_export_{name}", args=[export.id]): told for name, told in pages.items()})


def size(count: int) -> str:
    return f"{count:,} bytes" if count < 10_000 else f"{count / 1e6:,.2f} MB"
