"""Replays and shadow trials on the admin pages: another strategy beside what was done."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.staff_pages import BOOKS, TenantAdmin
from cascade import strategy_replays
from cascade.learning.table import BadTable
from cascade.models import CascadeStrategy, ShadowTrial
from cascade.strategies import NoSuchStrategy
from cascade.strategy_pages import may_lead, require_lead
from cascade.turn_table import KINDS, MOST_TURNS

DAYS = 28


class StrategyField(forms.ModelChoiceField):
    """Any version of any of the tenant's chatbots."""

    def __init__(self) -> None:
        super().__init__(CascadeStrategy.objects.none(), empty_label=None)

    def within(self) -> None:
        """In the tenant's transaction: what there is to choose from."""
        self.queryset = CascadeStrategy.objects.select_related("chatbot").order_by("chatbot__name", "-version")


class ReplayForm(forms.Form):
    strategy = StrategyField()
    since = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To, with that day", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(StrategyField, self.fields["strategy"]).within()

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if told.get("since") and told.get("until") and told["since"] > told["until"]:
            self.add_error("until", "the last day is before the first")
        return told


class TrialForm(forms.Form):
    strategy = StrategyField()
    turns = forms.IntegerField(
        label="Compare after so many turns",
        min_value=strategy_replays.LEAST_TURNS,
        max_value=MOST_TURNS,
        initial=500,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(StrategyField, self.fields["strategy"]).within()


def replay_view(request: HttpRequest) -> HttpResponse:
    """GET ?strategy=ID&since=DAY&until=DAY: what that version would have done; days are the tenant's."""
    if request.member.role not in BOOKS:  # type: ignore[attr-defined]
        raise PermissionDenied
    zone = ZoneInfo(request.member.tenant.time_zone)  # type: ignore[attr-defined]
    today = datetime.now(zone).date()
    asked = {"since": today - timedelta(days=DAYS), "until": today} | request.GET.dict()
    form = ReplayForm(asked if "strategy" in asked else None, initial=asked)
    told: dict[str, Any] = {"form": form, "title": "Replay", **admin.site.each_context(request)}
    if form.is_bound and form.is_valid():
        told |= _replayed(form.cleaned_data, zone)
    return TemplateResponse(request, "admin/cascade/replay.html", told)


def _replayed(told: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    since, until = midnight(told["since"], zone), midnight(told["until"] + timedelta(days=1), zone)
    try:
        report = strategy_replays.compare(told["strategy"], since, until)
    except BadTable as refusal:
        return {"refusal": str(refusal), "strategy": told["strategy"]}
    return {"report": report, "strategy": told["strategy"], "judged_by": judged_by(report)}


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def judged_by(report: dict[str, Any]) -> list[tuple[str, int]]:
    return [(KINDS[kind], count) for kind, count in report.get("judged_by", {}).items()]


@admin.register(ShadowTrial)
class ShadowTrialPage(TenantAdmin):
    """A strategy beside the live one, unseen; compared once, when its turns are over."""

    seen_by = BOOKS
    list_display = ("__str__", "state", "done", "created_at", "ended_at", "begun_by")
    list_filter = ("chatbot", "state")
    list_select_related = ("chatbot", "strategy__chatbot", "live__chatbot")
    ordering = ("-created_at",)
    list_before_template = "admin/cascade/trial_form.html"
    change_form_template = "admin/cascade/trial.html"

    @display(description="turns")
    def done(self, trial: ShadowTrial) -> str:
        running = trial.state == ShadowTrial.State.RUNNING
        return f"{strategy_replays.so_far(trial)} of {trial.turns}" if running else str(trial.turns)

    def is_moving(self, request: HttpRequest) -> bool:
        return ShadowTrial.objects.filter(state=ShadowTrial.State.RUNNING).exists()

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        told = {"trial_form": TrialForm(initial=request.GET.dict()) if may_lead(request) else None}
        if "strategy" in request.GET:  # it fills the form in, and filters nothing
            request.GET = QueryDict()
        return super().changelist_view(request, told | (extra_context or {}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        trial = cast(ShadowTrial | None, self.get_object(request, object_id))
        told: dict[str, Any] = {"trial": trial, "may_lead": may_lead(request)}
        if trial:
            told |= {
                "report": trial.report if "saved" in trial.report else None,
                "running": trial.state == ShadowTrial.State.RUNNING,
                "so_far": strategy_replays.so_far(trial),
                "judged_by": judged_by(trial.report),
                "unexplored": not (trial.chatbot.explored_share and trial.chatbot.explored_micros_a_day),
            }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        def guarded(view: Any) -> Any:
            return self.admin_site.admin_view(require_POST(view))

        own = [
            path("replay/", self.admin_site.admin_view(replay_view), name="cascade_strategy_replay"),
            path("begin/", guarded(self.begin), name="cascade_trial_begin"),
            path("<uuid:pk>/stop/", guarded(self.stop), name="cascade_trial_stop"),
        ]
        return [*own, *super().get_urls()]

    def begin(self, request: HttpRequest) -> HttpResponse:
        """POST strategy, turns."""
        by, form = require_lead(request), TrialForm(request.POST)
        back = reverse("admin:cascade_shadowtrial_changelist")
        if not form.is_valid():
            problems = " ".join(str(problem) for found in form.errors.values() for problem in found)
            self.message_user(request, problems, messages.ERROR)
            return HttpResponseRedirect(back)
        try:
            trial = strategy_replays.begin(form.cleaned_data["strategy"], form.cleaned_data["turns"], by)
        except strategy_replays.NoTrial as problem:
            self.message_user(request, str(problem).capitalize(), messages.ERROR)
            return HttpResponseRedirect(back)
        return HttpResponseRedirect(reverse("admin:cascade_shadowtrial_change", args=[trial.id]))

    def stop(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """POST: end it without a comparison."""
        require_lead(request)
        try:
            strategy_replays.stop(request.member.tenant_id, pk)  # type: ignore[attr-defined]
        except NoSuchStrategy as problem:
            self.message_user(request, str(problem).capitalize(), messages.ERROR)
        return HttpResponseRedirect(reverse("admin:cascade_shadowtrial_changelist"))
