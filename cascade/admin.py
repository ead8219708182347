"""Chatbots, cascades and conversations on the admin pages. A conversation's page tells how each reply was made.

Rights are those of `accounts.staff_pages.TenantAdmin`: what no role was given is denied.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Model, Prefetch, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.models import Member
from accounts.sealing import seal
from accounts.staff_pages import BOOKS, DESK, LEAD, TenantAdmin, TenantInline
from accounts.templatetags.money import dollars
from cascade import (
    conversations,
    drift_pages,
    knowledge_pages,
    memory_pages,
    proposal_pages,
    strategy_pages,
    trial_pages,
)
from cascade.models import (
    Chatbot,
    Conversation,
    Event,
    Feedback,
    LanguageModel,
    Message,
    ModelCall,
    Price,
    ScorerCalibration,
    ScorerVersion,
    ShadowScore,
    Turn,
)
from cascade.strategy_form import ChatbotForm

# Pages of their own, which Django finds through here.
__all__ = ["drift_pages", "knowledge_pages", "memory_pages", "proposal_pages", "strategy_pages", "trial_pages"]

# --- what the operator offers ---------------------------------------------------------------


@admin.register(LanguageModel)
class LanguageModelPage(TenantAdmin):
    seen_by = BOOKS
    list_display = ("name", "provider", "remote_name", "base_url", "enabled")
    list_filter = ("provider", "enabled")
    search_fields = ("name", "remote_name")

    def get_exclude(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ()


@admin.register(Price)
class PricePage(TenantAdmin):
    """US dollars per million tokens. One with a tenant is that tenant's own; without, it is the list's."""

    seen_by = BOOKS
    list_display = (
        *("model", "tenant", "valid_from", "valid_until", "input", "output", "cached_input", "cache_write"),
        *("reasoning", "per_request", "batch", "source"),
    )
    list_filter = ("model",)
    list_select_related = ("model",)
    ordering = ("model__name", "-valid_from")

    def get_exclude(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ()


# --- what the tenant sets up ----------------------------------------------------------------


@admin.register(Chatbot)
class ChatbotPage(TenantAdmin):
    added_by = changed_by = LEAD
    form = ChatbotForm
    list_display = ("name", "live_strategy", "floor", "stale_after", "record_source_url")
    list_select_related = ("live_strategy__chatbot",)
    fields = (
        *("name", "widget", "instructions", "tone", "hand_over_text", "floor", "live_strategy"),
        *("explored_share", "explored_micros_a_day", "explored_models", "reference_model"),
        *("stale_after", "record_source_url", "record_source_ttl"),
        *("wrong_hits", "check_share", "remembered_for", "most_remembered"),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return ("live_strategy", *(["widget"] if obj else []))  # a strategy is promoted on its own page

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if obj.record_source_url and obj.record_source_secret is None:
            secret = secrets.token_bytes(32)
            obj.record_source_secret = seal(secret)
            shown = f"whsec_{b64encode(secret).decode()}"
            self.message_user(request, f"The record source's secret, shown this once: {shown}", messages.WARNING)
        super().save_model(request, obj, form, change)


# --- what happens ---------------------------------------------------------------------------


@dataclass
class Step:
    """One thing that happened in a conversation: a turn with its attempts, or a message nobody asked for."""

    messages: list[Message]
    turn: Turn | None = None  # None: a person of the tenant wrote
    calls: list[ModelCall] = field(default_factory=list)

    @property
    def asked(self) -> list[Message]:
        return [message for message in self.messages if message.role == Message.Role.CUSTOMER]

    @property
    def said(self) -> list[Message]:
        return [message for message in self.messages if message.role != Message.Role.CUSTOMER]

    @property
    def report(self) -> list[tuple[str, Any]]:
        """What the context report has to say, in words."""
        told = self.turn.context_report.items() if self.turn else ()
        return [(name.replace("_", " "), value) for name, value in told if value]

    @property
    def cost(self) -> str:
        return dollars(sum(call.cost_micros or 0 for call in self.calls))


def story(conversation: Conversation) -> list[Step]:
    """What happened, in order; four queries, however long it is."""
    messages = Message.objects.select_related("feedback").order_by("seq")
    turns = conversation.turns.order_by("created_at").prefetch_related(
        Prefetch("messages", messages), Prefetch("calls", ModelCall.objects.order_by("number"))
    )
    steps = [Step(list(turn.messages.all()), turn, list(turn.calls.all())) for turn in turns]
    steps += [Step([message]) for message in messages.filter(conversation=conversation, turn=None)]
    return sorted(steps, key=lambda step: step.messages[0].seq if step.messages else 0)


class StateFilter(admin.SimpleListFilter):
    """Support begins with who waits for a person; a search, like everybody else, with all."""

    title = parameter_name = "state"
    ANY = "any"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        on_duty = request.member.role == Member.Role.SUPPORT  # type: ignore[attr-defined]
        waiting = on_duty and SEARCH_VAR not in request.GET
        self.used_parameters.setdefault("state", Conversation.State.HANDED_OVER.value if waiting else self.ANY)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.ANY, "All"), *Conversation.State.choices]

    def choices(self, changelist: Any) -> Iterator[Any]:
        return islice(super().choices(changelist), 1, None)  # the first would be a second "All"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset if self.value() == self.ANY else queryset.filter(state=self.value())


@admin.register(Conversation)
class ConversationPage(TenantAdmin):
    """What was said and how it was made; who may answer customers does so here."""

    answered_by = DESK
    deeds: ClassVar = {"give_back": conversations.give_back, "close": conversations.close}
    list_display = ("customer", "chatbot", "state", "turn_count", "cost", "updated_at")
    list_filter = (StateFilter, "chatbot", "updated_at")
    list_select_related = ("customer", "chatbot")
    search_fields = ("=id", "customer__external_id", "customer__attributes__name", "messages__text")
    ordering = ("-updated_at",)
    change_form_template = "admin/cascade/conversation/story.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return (
            super()
            .get_queryset(request)
            .annotate(turn_total=Count("turns", distinct=True), cost_total=Sum("turns__calls__cost_micros"))
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        conversation = self.get_object(request, object_id)
        told = {
            "story": story(conversation) if conversation else [],
            "conversation": conversation,
            "may_answer": self.may_answer(request) and conversation and conversation.state != Conversation.State.CLOSED,
            "last_reply": conversations.last_reply(conversation) if conversation else None,
            "longest_reply": conversations.LONGEST_REPLY,
        }
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.answer))
        own = path("<uuid:conversation_id>/answer/", view, name="cascade_conversation_answer")
        return [own, *super().get_urls()]

    def may_answer(self, request: HttpRequest) -> bool:
        return request.member.role in self.answered_by  # type: ignore[attr-defined]

    def answer(self, request: HttpRequest, conversation_id: UUID) -> HttpResponse:
        """Say something as a person (POST text), or hand the conversation on (POST deed)."""
        if not self.may_answer(request):
            raise PermissionDenied
        tenant_id, by = request.member.tenant_id, f"user:{request.user.pk}"  # type: ignore[attr-defined]
        deed = self.deeds.get(request.POST.get("deed", ""))
        try:
            if deed:
                deed(tenant_id, conversation_id, by)
            else:
                text = request.POST.get("text", "").replace("\r\n", "\n")
                wrong = request.POST.get("corrects", "")
                conversations.reply_as_staff(tenant_id, conversation_id, by, text, corrects=wrong)
        except conversations.NotFound as problem:
            raise Http404 from problem
        except conversations.Refused as refused:
            self.message_user(request, str(refused).capitalize(), messages.ERROR)
        return HttpResponseRedirect(reverse("admin:cascade_conversation_change", args=[conversation_id]))

    @display(description="turns", ordering="turn_total")
    def turn_count(self, conversation: Any) -> int:
        return conversation.turn_total

    @display(description="cost", ordering="cost_total")
    def cost(self, conversation: Any) -> str:
        return dollars(conversation.cost_total or 0)


def tokens_of(call: ModelCall) -> str:
    return f"{call.input_tokens} / {call.output_tokens}" if call.input_tokens is not None else "–"


class CallRows(TenantInline):
    model = ModelCall
    fields = ("number", "tier", "model", "outcome", "score", "threshold", "tokens", "cost", "error")
    readonly_fields = ("tokens", "cost")
    show_change_link = True

    @display(description="tokens in / out")
    def tokens(self, call: ModelCall) -> str:
        return tokens_of(call)

    @display(description="cost")
    def cost(self, call: ModelCall) -> str:
        return dollars(call.cost_micros)


@admin.register(Turn)
class TurnPage(TenantAdmin):
    list_display = ("created_at", "customer", "state", "problem", "cost", "closed_at")
    list_filter = ("state", "problem", "created_at")
    list_select_related = ("conversation__customer",)
    search_fields = ("=id", "=conversation__id", "conversation__customer__external_id", "client_id")
    ordering = ("-created_at",)
    exclude = ("body_hash", "process_key")
    inlines = (CallRows,)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(cost_total=Sum("calls__cost_micros"))

    @display(description="customer")
    def customer(self, turn: Turn) -> str:
        return str(turn.conversation.customer)

    @display(description="cost", ordering="cost_total")
    def cost(self, turn: Any) -> str:
        return dollars(turn.cost_total or 0)


@admin.register(ModelCall)
class ModelCallPage(TenantAdmin):
    list_display = ("created_at", "model", "tier_number", "outcome", "score", "threshold", "tokens", "cost", "seconds")
    list_filter = ("model", "outcome", "error", "estimated", "created_at")
    list_select_related = ("price__model",)
    search_fields = ("=id", "=turn__id", "text")
    ordering = ("-created_at",)

    @display(description="tier", ordering="tier")
    def tier_number(self, call: ModelCall) -> int:
        return call.tier + 1

    @display(description="tokens in / out")
    def tokens(self, call: ModelCall) -> str:
        return tokens_of(call)

    @display(description="cost", ordering="cost_micros")
    def cost(self, call: ModelCall) -> str:
        return dollars(call.cost_micros)


@admin.register(Message)
class MessagePage(TenantAdmin):
    list_display = ("created_at", "customer", "role", "text")
    list_filter = ("role", "created_at")
    list_select_related = ("conversation__customer",)
    search_fields = ("text", "=conversation__id")
    ordering = ("-created_at",)

    @display(description="customer")
    def customer(self, message: Message) -> str:
        return str(message.conversation.customer)


@admin.register(Feedback)
class FeedbackPage(TenantAdmin):
    list_display = ("created_at", "rating", "comment", "message")
    list_filter = ("rating", "created_at")
    list_select_related = ("message",)
    search_fields = ("comment", "message__text")
    ordering = ("-created_at",)


@admin.register(Event)
class EventPage(TenantAdmin):
    list_display = ("created_at", "conversation", "first_seq", "last_seq")
    search_fields = ("=conversation__id",)
    list_select_related = ("conversation",)
    ordering = ("-created_at",)


# --- who judges the answers -------------------------------------------------------------------


@admin.register(ScorerVersion)
class ScorerVersionPage(TenantAdmin):
    """Weights of the tenant's own; without a live one the shipped weights judge."""

    seen_by = BOOKS
    list_display = ("weights_version", "state", "created_at", "promoted_at", "promoted_by", "refusal")
    list_filter = ("state",)
    ordering = ("-created_at",)
    exclude = ("folder",)

    @display(description="why it was not promoted")
    def refusal(self, version: ScorerVersion) -> str:
        return str(version.comparison.get("refusal") or "–")


@admin.register(ShadowScore)
class ShadowScorePage(TenantAdmin):
    """What a version that is not live says of answers, beside the score that was acted on."""

    seen_by = BOOKS
    list_display = ("created_at", "version", "model", "score", "live_score", "threshold", "outcome")
    list_filter = ("version",)
    list_select_related = ("version", "call")
    ordering = ("-created_at",)

    @display(description="model")
    def model(self, shadow: ShadowScore) -> str:
        return shadow.call.model

    @display(description="live score")
    def live_score(self, shadow: ShadowScore) -> float | None:
        return shadow.call.score

    @display(description="threshold")
    def threshold(self, shadow: ShadowScore) -> float:
        return shadow.call.threshold

    @display(description="outcome")
    def outcome(self, shadow: ShadowScore) -> str:
        return shadow.call.outcome


@admin.register(ScorerCalibration)
class ScorerCalibrationPage(TenantAdmin):
    """How the tenant's labels have scores read."""

    seen_by = BOOKS
    list_display = ("weights_version", "scale", "shift", "labels", "expected_bad", "expected_worth", "fitted_at")
    ordering = ("-fitted_at",)
