"""Proposals on the admin pages: a search is begun, watched and read, and what it proposes is promoted."""

from __future__ import annotations

from decimal import InvalidOperation
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.money import Money
from accounts.staff_pages import BOOKS, TenantAdmin
from cascade import frontier_plot, strategy_proposals
from cascade.frontier_plot import Point
from cascade.models import Chatbot, Proposal
from cascade.strategy_pages import may_lead, require_lead
from cascade.strategy_proposals import Wish
from cascade.turn_table import KINDS

UNDER_WAY = (Proposal.State.QUEUED, Proposal.State.RUNNING)


class WishForm(forms.Form):
    """What to look for, in a support lead's words."""

    chatbot = forms.ModelChoiceField(Chatbot.objects.none(), empty_label=None)
    aim = forms.ChoiceField(
        choices=[("cheaper", "The same quality for less"), ("better", "More quality for the same cost")]
    )
    quality = forms.FloatField(
        required=False, min_value=0, max_value=100, label="Hold this quality, % (empty: today's)"
    )
    dollars = forms.CharField(required=False, label="Spend this on 1,000 turns, $ (empty: today's)")
    seconds = forms.FloatField(required=False, min_value=0.1, label="Answer 95 % within, s (empty: any time)")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["chatbot"]).queryset = Chatbot.objects.order_by("name")

    def clean_dollars(self) -> float | None:
        told = self.cleaned_data["dollars"]
        try:
            return Money.from_usd(told).micros / 1000 if told else None
        except (ValueError, InvalidOperation):
            raise forms.ValidationError("an amount like 2.50 is needed") from None

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if told.get("aim") == "better" and told.get("quality") is not None:
            self.add_error("quality", "more quality is looked for: say what may be spent instead")
        if told.get("aim") == "cheaper" and told.get("dollars"):
            self.add_error("dollars", "the same quality is looked for: say which quality instead")
        if told.get("dollars") == 0:
            self.add_error("dollars", "nothing is answered for nothing")
        return told

    def wish(self) -> Wish:
        told = self.cleaned_data
        quality = None if told["quality"] is None else told["quality"] / 100
        return Wish(told["aim"], quality, told["dollars"], told["seconds"])


@admin.register(Proposal)
class ProposalPage(TenantAdmin):
    """What searches of the chatbot's own turns have proposed."""

    seen_by = BOOKS
    list_display = ("__str__", "chatbot", "progress", "strategy", "gain", "asked_by")
    list_filter = ("chatbot", "state")
    list_select_related = ("chatbot", "strategy__chatbot")
    ordering = ("-created_at",)
    list_before_template = "admin/cascade/proposal_form.html"
    change_form_template = "admin/cascade/proposal.html"

    @display(description="state")
    def progress(self, proposal: Proposal) -> str:
        told = proposal.get_state_display()
        return f"{told}, {proposal.percent} %" if proposal.state == Proposal.State.RUNNING else told

    @display(description="expected saving")
    def gain(self, proposal: Proposal) -> str:
        saved = proposal.report.get("saved") if proposal.state == Proposal.State.PROPOSED else None
        return f"{100 * saved['mean']:.0f} %" if saved else "–"

    def is_moving(self, request: HttpRequest) -> bool:
        return Proposal.objects.filter(state__in=UNDER_WAY).exists()

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        told = {"wish": WishForm() if may_lead(request) and Chatbot.objects.exists() else None}
        return super().changelist_view(request, told | (extra_context or {}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        proposal = cast(Proposal | None, self.get_object(request, object_id))
        told: dict[str, Any] = {"proposal": proposal, "may_lead": may_lead(request)}
        if proposal:
            live = proposal.chatbot.live_strategy
            told |= {
                "plot": plot(proposal),
                "under_way": proposal.state in UNDER_WAY,
                "is_live": proposal.strategy is not None and proposal.strategy == live,
                "judged_by": [(KINDS[kind], count) for kind, count in proposal.report.get("judged_by", {}).items()],
                "changed": changed(proposal),
            }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        begin = self.admin_site.admin_view(require_POST(self.begin))
        return [path("begin/", begin, name="cascade_proposal_begin"), *super().get_urls()]

    def begin(self, request: HttpRequest) -> HttpResponse:
        """POST: search in the background."""
        by, form = require_lead(request), WishForm(request.POST)
        back = HttpResponseRedirect(reverse("admin:cascade_proposal_changelist"))
        if not form.is_valid():
            for name, problems in form.errors.items():
                label = form.fields[name].label or name
                self.message_user(request, f"{str(label).capitalize()}: {' '.join(map(str, problems))}", messages.ERROR)
            return back
        try:
            proposal = strategy_proposals.begin_later(form.cleaned_data["chatbot"], form.wish(), by)
        except strategy_proposals.Searching as problem:
            self.message_user(request, str(problem).capitalize(), messages.ERROR)
            return back
        return HttpResponseRedirect(reverse("admin:cascade_proposal_change", args=[proposal.id]))


def changed(proposal: Proposal) -> list[tuple[str, str, str]]:
    """Model, then its threshold in the live strategy of the search and in the proposed one; "–": it is not asked."""
    if proposal.strategy is None:
        return []
    before = proposal.chatbot.strategies.filter(version=proposal.report["present"]["version"]).first()
    limits = [
        dict(zip([tier["model"] for tier in row.tiers], strategy_proposals.limits(row), strict=True)) if row else {}
        for row in (before, proposal.strategy)
    ]
    return [
        (model, *(f"{limit[model]:.4g}" if model in limit else "–" for limit in limits))
        for model in dict.fromkeys([*limits[0], *limits[1]])
    ]


def plot(proposal: Proposal) -> SafeString | None:
    """The frontier with the present and the proposed strategy on it; None: nothing was compared."""
    report = proposal.report
    if not report.get("frontier"):
        return None
    frontier = [Point(p["cost_micros"] / 1000, p["quality"], p["asks"]) for p in report["frontier"]]
    marks = [
        Point(report[name]["cost_micros"]["mean"] / 1000, report[name]["quality"]["mean"], told)
        for name, told in (("present", f"live v{report['present']['version']}"), ("proposed", "proposed"))
    ]
    title = "Expected quality against cost of 1,000 turns: the best strategies, the live and the proposed one"
    return mark_safe(frontier_plot.svg(frontier, marks, title))  # noqa: S308  every text in it is escaped
