"""Money on the admin pages, where it takes more than the books: statements, exports and budgets.

Rights are those of `accounts.staff_pages.TenantAdmin`: what no role was given is denied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import export_jobs, statements
from accounts.exports import Selection
from accounts.models import Budget, Export, LedgerEntry, Statement, Tenant
from accounts.money import Money
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin
from accounts.templatetags.money import dollars
from cascade.models import Chatbot
from chatbackend import downloads, statement_page
from chatbackend.budget_subject import budget_subject
from chatbackend.months import NAMED, month_of, since_the_first_entry

FORMAT_NAMES = {
    "csv": "CSV",
    "jsonl": "JSON lines",
    "parquet": "Parquet",
    "focus-1.0": "FOCUS 1.0 (CSV)",
    "focus-1.4": "FOCUS 1.4 (CSV)",
}


# --- statements -----------------------------------------------------------------------------------


@admin.register(Statement)
class StatementPage(TenantAdmin):
    """Closed months by their number, above them those that are open; each as a page to print."""

    seen_by = BOOKS
    list_display = ("number", "month", "opening", "closing", "links")
    ordering = ("-number",)
    list_before_template = "admin/accounts/statement/open_months.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("lines", "printed")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        months = statements.open_months(request.member.tenant_id)  # type: ignore[attr-defined]
        told = {
            **(extra_context or {}),
            "open_months": months,
            "first_to_close": months[-1] if len(months) > 1 else None,  # the one that runs is not over
            "may_close": request.member.role in LEAD,  # type: ignore[attr-defined]
        }
        return super().changelist_view(request, told)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page as it was printed, and nothing around it."""
        statement = self.get_object(request, object_id)
        if not self.has_view_permission(request) or request.method != "GET":
            raise PermissionDenied
        if statement is None:
            raise Http404("no such statement")
        return HttpResponse(statement_page.shown(statement.tenant_id, statement.period))

    def get_urls(self) -> list[URLPattern]:
        site = self.admin_site
        return [
            # Before Django's own, which take every word for a statement's id.
            path("draft/<str:month>/", site.admin_view(self.draft), name="accounts_statement_draft"),
            path("close/", site.admin_view(require_POST(self.close)), name="accounts_statement_close"),
            *super().get_urls(),
        ]

    def draft(self, request: HttpRequest, month: str) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        tenant_id = request.member.tenant_id  # type: ignore[attr-defined]
        return HttpResponse(statement_page.shown(tenant_id, month_of(month)))

    def close(self, request: HttpRequest) -> HttpResponse:
        if request.member.role not in LEAD:  # type: ignore[attr-defined]
            raise PermissionDenied
        try:
            month = statement_page.close(
                request.member.tenant_id,  # type: ignore[attr-defined]
                month_of(request.POST.get("month", "")),
            )
            messages.success(request, f"{month.period:%B %Y} is closed: statement {month.number}")
        except statements.CannotClose as problem:
            messages.error(request, f"It stays open: {problem}")
        return HttpResponseRedirect(reverse("admin:accounts_statement_changelist"))

    @display(description="month", ordering="period")
    def month(self, statement: Statement) -> str:
        return f"{statement.period:%B %Y}"

    @display(description="credit before", ordering="opening_micros")
    def opening(self, statement: Statement) -> str:
        return dollars(statement.opening_micros)

    @display(description="credit after", ordering="closing_micros")
    def closing(self, statement: Statement) -> str:
        return dollars(statement.closing_micros)

    @display(description="pages")
    def links(self, statement: Statement) -> SafeString:
        month = f"{statement.period:{NAMED}}"
        export = f"{reverse('admin:accounts_export_add')}?{urlencode({'from_month': month, 'to_month': month})}"
        page = reverse("admin:accounts_statement_change", args=[statement.id])
        return links({page: "Page to print", export: "Export"})


# --- exports --------------------------------------------------------------------------------------


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
        except (ValueError, export_jobs.TooManyExports) as problem:
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


def links(pages: dict[str, str]) -> SafeString:
    """What is at each address, to be clicked."""
    return format_html_join(" · ", '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', pages.items())


def size(count: int) -> str:
    return f"{count:,} bytes" if count < 10_000 else f"{count / 1e6:,.2f} MB"


# --- budgets --------------------------------------------------------------------------------------


class BudgetForm(forms.ModelForm):
    """A limit in dollars. What it is for is chosen once; the limit and what happens at it can be changed."""

    limit = forms.DecimalField(
        label="Limit in US dollars", min_value=0, max_digits=18, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget
    )

    class Meta:
        model = Budget
        fields = ("scope", "subject", "period", "hard", "limit", "shares", "cheapest_tiers", "refusal")
        widgets = {"shares": UnfoldAdminTextInputWidget, "refusal": UnfoldAdminTextareaWidget({"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["limit"] = Money(self.instance.limit_micros).usd

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if self.errors:
            return told
        self.instance.limit_micros = Money.from_usd(told["limit"]).micros
        if self.instance._state.adding:
            try:
                told["subject"] = budget_subject(told["scope"], told["subject"])
            except ValueError as problem:
                raise ValidationError({"subject": str(problem)}) from None
            same = {name: told[name] for name in ("scope", "subject", "period", "hard")}
            if Budget.objects.filter(**same).exists():
                raise ValidationError("There is a budget for this already: change its limit.")
        return told


@admin.register(Budget)
class BudgetPage(TenantAdmin):
    """What turns may cost; how full each is stands on the page of costs."""

    seen_by = BOOKS
    added_by = changed_by = LEAD
    bounded = True
    form = BudgetForm
    list_display = ("__str__", "whom", "limit_dollars", "hard", "shares")
    list_filter = ("scope", "period", "hard")
    ordering = ("scope", "period", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        return ("scope", "subject", "period", "hard") if obj else ()

    def get_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        if obj and not self.has_change_permission(request, obj):
            return ("scope", "subject", "period", "hard", "limit_dollars", "shares", "cheapest_tiers", "refusal")
        return BudgetForm.Meta.fields

    def get_form(self, request: HttpRequest, obj: Budget | None = None, **kwargs: Any) -> Any:
        if obj and not self.has_change_permission(request, obj):
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, **kwargs)

    @display(description="for", ordering="subject")
    def whom(self, budget: Budget) -> str:
        return budget.subject or ("everything" if budget.scope == Budget.Scope.TENANT else "each")

    @display(description="limit", ordering="limit_micros")
    def limit_dollars(self, budget: Budget) -> str:
        return dollars(budget.limit_micros)
