"""Strategies on the admin pages: what there is, what is proposed, which one is live, and who said so.

Rights are those of `accounts.staff_pages.TenantAdmin`; who changes what answers customers is LEAD.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.models import User
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin
from cascade import strategies
from cascade.models import CascadeStrategy, Proposal, StrategyChange
from cascade.proposal_plots import newest_compared, plot
from cascade.strategy_form import StrategyForm

SHOWN_CHANGES = 10


def may_lead(request: HttpRequest) -> bool:
    return request.member.role in LEAD  # type: ignore[attr-defined]


def require_lead(request: HttpRequest) -> str:
    """Who does it, by name. Raises PermissionDenied."""
    if not may_lead(request):
        raise PermissionDenied
    return cast(User, request.user).get_username()


@admin.register(CascadeStrategy)
class CascadeStrategyPage(TenantAdmin):
    """A strategy never changes; a chatbot's next one is added here, and promoted on its own page."""

    added_by = LEAD
    form = StrategyForm
    list_display = ("__str__", "is_live", "asks", "deadline_seconds", "created_at")
    list_filter = ("chatbot",)
    list_select_related = ("chatbot",)
    ordering = ("chatbot", "-version")
    change_form_template = "admin/cascade/strategy.html"

    @display(description="live", boolean=True)
    def is_live(self, strategy: CascadeStrategy) -> bool:
        return strategy.chatbot.live_strategy_id == strategy.id

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """`?from=ID`: begins with what another version says."""
        try:
            earlier = CascadeStrategy.objects.filter(id=UUID(request.GET.get("from", ""))).first()
        except ValueError:
            earlier = None
        if earlier is None:
            return dict(super().get_changeform_initial_data(request))
        return {"chatbot": earlier.chatbot_id, "tiers": earlier.tiers, "deadline_seconds": earlier.deadline_seconds}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = strategies.add_version(obj.chatbot, obj.tiers, obj.deadline_seconds)
        obj.pk, obj.version, obj.tenant_id = made.pk, made.version, made.tenant_id

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        strategy = cast(CascadeStrategy | None, self.get_object(request, object_id))
        told: dict[str, Any] = {"strategy": strategy, "may_lead": may_lead(request)}
        told["may_read_books"] = request.member.role in BOOKS  # type: ignore[attr-defined]
        if strategy:
            told |= frontier(strategy.chatbot.proposals.all()) | {
                "is_live": self.is_live(strategy),
                "live": strategy.chatbot.live_strategy,
                "earlier": strategies.replaced_by_live(strategy.chatbot),
                "changes": strategy.chatbot.strategy_changes.select_related(
                    "before__chatbot", "after__chatbot"
                ).order_by("-created_at", "-id")[:10],
            }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict | None = None) -> Any:
        return super().add_view(request, form_url, frontier(Proposal.objects.all()) | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        deeds = {"promote": self.promote, "rollback": self.rollback}
        own = [
            path(f"<uuid:pk>/{name}/", self.admin_site.admin_view(require_POST(view)), name=f"cascade_strategy_{name}")
            for name, view in deeds.items()
        ]
        return [*own, *super().get_urls()]

    def promote(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: the chatbot lives by this version from now on."""
        by, strategy = require_lead(request), found(CascadeStrategy.objects.select_related("chatbot"), pk)
        try:
            strategies.promote(strategy, by)
        except strategies.NotChanged as problem:
            self.message_user(request, str(problem).capitalize(), messages.ERROR)
        else:
            self.message_user(request, f"{strategy} answers from the next turn on.", messages.SUCCESS)
        return HttpResponseRedirect(strategy_url(strategy))

    def rollback(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST, from the page of any version: back to what the live one replaced."""
        by, strategy = require_lead(request), found(CascadeStrategy.objects.select_related("chatbot"), pk)
        try:
            change = strategies.rollback(strategy.chatbot, by)
        except strategies.NotChanged as problem:
            self.message_user(request, str(problem).capitalize(), messages.ERROR)
            return HttpResponseRedirect(strategy_url(strategy))
        self.message_user(request, f"{change.after} answers from the next turn on.", messages.SUCCESS)
        return HttpResponseRedirect(strategy_url(change.after))


def frontier(searches: QuerySet[Proposal]) -> dict[str, Any]:
    """What the newest of these searches found, drawn."""
    search = newest_compared(searches)
    return {"search": search, "plot": plot(search) if search else None}


def strategy_url(strategy: CascadeStrategy) -> str:
    return reverse("admin:cascade_cascadestrategy_change", args=[strategy.pk])


def found(rows: Any, pk: UUID) -> Any:
    """Raises Http404."""
    row = rows.filter(pk=pk).first()
    if row is None:
        raise Http404("no such row")
    return row


@admin.register(StrategyChange)
class StrategyChangePage(TenantAdmin):
    """Who changed the strategy that a chatbot lives by."""

    seen_by = BOOKS
    list_display = ("created_at", "chatbot", "kind", "before", "after", "by")
    list_filter = ("chatbot", "kind", "created_at")
    list_select_related = ("chatbot", "before__chatbot", "after__chatbot")
    ordering = ("-created_at", "-id")
