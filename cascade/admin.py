"""Chatbots, prices, and what was asked and answered, row by row, on the admin pages.

Rights are those of `accounts.staff_pages.TenantAdmin`: what no role was given is denied.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet, Sum
from django.http import HttpRequest
from unfold.decorators import display

from accounts.sealing import seal
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin, TenantInline, decimals
from accounts.templatetags.money import dollars
from cascade import (
    conversation_pages,
    drift_pages,
    knowledge_pages,
    memory_pages,
    proposal_pages,
    scorer_pages,
    strategy_pages,
    trial_pages,
)
from cascade.models import (
    Chatbot,
    Event,
    Feedback,
    LanguageModel,
    Message,
    ModelCall,
    Price,
    Turn,
)
from cascade.strategy_form import ChatbotForm

# Pages of their own, which Django finds through here.
__all__ = [
    "conversation_pages",
    "drift_pages",
    "knowledge_pages",
    "memory_pages",
    "proposal_pages",
    "scorer_pages",
    "strategy_pages",
    "trial_pages",
]

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
    bounded = True
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

    @display(description="models' cost", ordering="cost_total")
    def cost(self, turn: Any) -> str:
        return dollars(turn.cost_total or 0)


@admin.register(ModelCall)
class ModelCallPage(TenantAdmin):
    list_display = ("created_at", "model", "tier_number", "outcome", "judged", "needed", "tokens", "cost", "took")
    list_filter = ("model", "outcome", "error", "estimated", "created_at")
    list_select_related = ("price__model",)
    search_fields = ("=id", "=turn__id", "text")
    ordering = ("-created_at",)

    @display(description="tier", ordering="tier")
    def tier_number(self, call: ModelCall) -> int:
        return call.tier + 1

    @display(description="score", ordering="score")
    def judged(self, call: ModelCall) -> str:
        return decimals(call.score)

    @display(description="threshold", ordering="threshold")
    def needed(self, call: ModelCall) -> str:
        return decimals(call.threshold)

    @display(description="seconds", ordering="seconds")
    def took(self, call: ModelCall) -> str:
        return decimals(call.seconds)

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
