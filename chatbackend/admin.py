"""Statements on the admin pages, and those of exports and budgets, which Django finds through here.

Rights are those of `accounts.staff_pages.TenantAdmin`: what no role was given is denied.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts import statements
from accounts.models import Statement
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin, links
from accounts.templatetags.money import dollars
from chatbackend import budget_pages, export_pages, statement_page
from chatbackend.months import NAMED, month_of

__all__ = ["budget_pages", "export_pages"]


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
