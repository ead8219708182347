"""Proposals on the admin pages: a search is begun, watched and read, and what it proposes is promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.money import ZERO, Money
from accounts.staff_pages import BOOKS, TenantAdmin
from cascade import strategies, strategy_proposals
from cascade.models import CascadeStrategy, Chatbot, Proposal
from cascade.proposal_plots import plot, returns
from cascade.strategy_check import SEGMENTS
from cascade.strategy_pages import found, may_lead, require_lead
from cascade.strategy_proposals import READ_BY, Wish
from cascade.turn_table import KINDS

STYLE = Path(__file__).with_name("static") / "cascade/learning.css"
UNDER_WAY = (Proposal.State.QUEUED, Proposal.State.RUNNING)
MOST = Money.from_usd(1_000_000)  # for 1,000 turns
AIMS = {
    "cheaper": "The same quality for less",
    "better": "More quality for the same cost",
    "promise": "A promise on bad answers",
}
CALLED = {"budget_micros": "dollars", "latency_seconds": "seconds"}  # by people


class Percent(forms.FloatField):
    """Typed as per cent, kept as a share."""

    def clean(self, value: Any) -> float | None:
        typed = super().clean(value)
        return None if typed is None else typed / 100


class Thousand(forms.CharField):
    """Typed as dollars for 1,000 turns, kept as micro-dollars a turn."""

    def clean(self, value: Any) -> float | None:  # type: ignore[override]
        if not (typed := super().clean(value)):
            return None
        try:
            amount = Money.from_usd(typed)
        except (ValueError, ArithmeticError):
            raise forms.ValidationError("an amount like 2.50 is needed") from None
        if not ZERO < amount <= MOST:
            raise forms.ValidationError(f"an amount above 0 and up to {MOST.usd:,.0f} is needed")
        return amount.micros / 1000


class WishForm(forms.Form):
    """What to look for, in a support lead's words; then what a promise is to say, and what might be otherwise."""

    chatbot = forms.ModelChoiceField(Chatbot.objects.none(), empty_label=None)
    aim = forms.ChoiceField(choices=[*AIMS.items()])
    quality = Percent(required=False, min_value=0, max_value=100, label="Hold this quality, % (empty: today's)")
    dollars = Thousand(required=False, label="Spend this on 1,000 turns, $ (empty: today's)")
    seconds = forms.FloatField(required=False, min_value=0.1, max_value=600, label="Answer 95 % within, s (empty: any)")
    segments = forms.BooleanField(required=False, label="Thresholds by segment")
    most_bad = Percent(required=False, min_value=0.1, max_value=50, label="Bad, of the answers shown: at most, %")
    confidence = Percent(required=False, min_value=50, max_value=99.9, label="With this confidence, %")
    repriced = forms.ChoiceField(required=False, label="If this model's price")
    times = forms.FloatField(required=False, min_value=0.001, max_value=1000, label="were so many times today's")
    assumed_quality = Percent(required=False, min_value=0, max_value=100, label="If there were a model of quality, %")
    assumed_dollars = Thousand(required=False, label="for $ a 1,000 turns")
    like = forms.ChoiceField(required=False, label="else like")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["chatbot"]).queryset = Chatbot.objects.order_by("name")
        models = [("", "–"), *((name, name) for name in strategies.offered())]
        for name in ("repriced", "like"):
            cast(forms.ChoiceField, self.fields[name]).choices = models

    @property
    def usual(self) -> list[forms.BoundField]:
        return [self[name] for name in ("chatbot", "aim", "quality", "dollars", "seconds", "segments")]

    @property
    def promise(self) -> list[forms.BoundField]:
        return [self[name] for name in ("most_bad", "confidence")]

    @property
    def what_if(self) -> list[forms.BoundField]:
        return [self[name] for name in ("repriced", "times", "assumed_quality", "assumed_dollars", "like")]

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        for field, aims in READ_BY.items():
            name = CALLED.get(field, field)
            if "aim" in told and told["aim"] not in aims and told.get(name) not in (None, False):
                self.add_error(name, f"leave it empty, or look for: {' or '.join(AIMS[aim] for aim in aims)}")
        if bool(told.get("repriced")) != (told.get("times") is not None):
            self.add_error("times", "say both, which model and how many times its price")
        assumed = [told.get(name) not in (None, "") for name in ("assumed_quality", "assumed_dollars", "like")]
        if any(assumed) and not all(assumed):
            self.add_error("like", "say all three: its quality, its cost and which model it is like")
        if told.get("aim") == "promise" and (any(assumed) or told.get("repriced")):
            self.add_error("aim", "a promise is made on what was answered, not on what might be")
        return told

    def wish(self) -> Wish:
        told = self.cleaned_data
        about = told["assumed_quality"], told["assumed_dollars"], told["like"]
        return Wish(
            told["aim"],
            told["quality"],
            told["dollars"],
            told["seconds"],
            told["segments"],
            **{name: told[name] for name in ("most_bad", "confidence") if told[name]},
            prices={told["repriced"]: told["times"]} if told["repriced"] else {},
            assumed=strategy_proposals.assumed(*about) if told["like"] else {},
        )


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
        if proposal.state == Proposal.State.PROPOSED and proposal.strategy is None:
            return "what if"
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
            told |= body(proposal) | {
                "under_way": proposal.state in UNDER_WAY,
                "is_live": proposal.strategy is not None and proposal.strategy == live,
            }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        begin = self.admin_site.admin_view(require_POST(self.begin))
        report = self.admin_site.admin_view(self.report)
        return [
            path("begin/", begin, name="cascade_proposal_begin"),
            path("<uuid:pk>/report.<str:form>", report, name="cascade_proposal_report"),
            *super().get_urls(),
        ]

    def report(self, request: HttpRequest, pk: UUID, form: str) -> HttpResponse:
        """GET: what was found, to keep or to send: one page that fetches nothing, or JSON."""
        if request.member.role not in BOOKS:  # type: ignore[attr-defined]
            raise PermissionDenied
        proposal = found(Proposal.objects.select_related("chatbot", "strategy__chatbot"), pk)
        name = f"proposal-{proposal.created_at:%Y-%m-%d}.{form}"
        told = {"Content-Disposition": f'attachment; filename="{name}"'}
        if form == "json":
            return JsonResponse(as_json(proposal), headers=told, json_dumps_params={"indent": 1})
        if form != "html":
            raise Http404("html or json")
        style = STYLE.read_text(encoding="utf-8")
        context = body(proposal) | {"proposal": proposal, "style": style, "command": command(proposal)}
        return TemplateResponse(request, "admin/cascade/proposal_report.html", context, headers=told)

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


def body(proposal: Proposal) -> dict[str, Any]:
    """What the page and the report have in common."""
    return {
        "plot": plot(proposal),
        "returns": returns(proposal),
        "unmet_floor": unmet_floor(proposal),
        "judged_by": [(KINDS[kind], count) for kind, count in proposal.report.get("judged_by", {}).items()],
        "changed": changed(proposal),
    }


def as_json(proposal: Proposal) -> dict[str, Any]:
    """The report as it is kept (costs in micro-dollars a turn, qualities 0..1), and what it is about."""
    strategy = proposal.strategy
    return {
        "chatbot": proposal.chatbot.name,
        "wish": proposal.wish,
        "state": proposal.state,
        "refusal": proposal.refusal,
        "proposed": {"version": strategy.version, "tiers": strategy.tiers} if strategy else None,
        "asked_by": proposal.asked_by,
        "created_at": proposal.created_at.isoformat(),
        "command": command(proposal),
        "report": proposal.report,
    }


def command(proposal: Proposal) -> str:
    """That searches anew; "": only the page can."""
    wish = Wish(**proposal.wish)
    if wish.aim == "promise" or wish.hypothetical:
        return ""
    dollars = "" if wish.budget_micros is None else f"{wish.budget_micros / 1000:g}"
    options = {"quality": wish.quality, "dollars": dollars or None, "seconds": wish.latency_seconds}
    flags = [name for name, on in (("--better", wish.aim == "better"), ("--segments", wish.segments)) if on]
    said = [f"--{name} {value}" for name, value in options.items() if value is not None]
    return " ".join(["manage.py optimise_cascade TENANT", f"'{proposal.chatbot.name}'", *flags, *said])


def changed(proposal: Proposal) -> list[tuple[str, str, str]]:
    """Model, then its threshold in the live strategy of the search and in the proposed one; "–": it is not asked."""
    if proposal.strategy is None:
        return []
    before = proposal.chatbot.strategies.filter(version=proposal.report["present"]["version"]).first()
    limits = [_limits(row) if row else {} for row in (before, proposal.strategy)]
    return [
        (model, limits[0].get(model, "–"), limits[1].get(model, "–"))
        for model in dict.fromkeys([*limits[0], *limits[1]])
    ]


def _limits(strategy: CascadeStrategy) -> dict[str, str]:
    """By model, what an answer must score, of all customers and then of those of some segments."""
    own = zip(strategy.tiers, strategy_proposals.limits(strategy), strict=True)
    others = {tier["model"]: tier.get(SEGMENTS, {}) for tier in strategy.tiers}
    return {
        tier["model"]: ", ".join([f"{limit:.4g}", *(f"{n}: {o:.4g}" for n, o in others[tier["model"]].items())])
        for tier, limit in own
    }


def unmet_floor(proposal: Proposal) -> float | None:
    """The floor that a promise needs, where the chatbot's is lower: under it a person answers."""
    promise = proposal.report.get("promise")
    return promise["threshold"] if promise and proposal.chatbot.floor < promise["threshold"] else None
