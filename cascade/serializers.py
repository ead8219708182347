"""Chatbots, cascades and conversations as the API tells them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts import origins
from accounts.models import Widget as WidgetRow
from accounts.rest.fields import (
    Dollars,
    Id,
    JSONObject,
    Matching,
    Moment,
    Number,
    PositiveDollars,
    Ref,
    Text,
    Whole,
)  # fmt: skip
from accounts.rest.problems import Problem
from accounts.rest.rows import Row, Shape
from cascade import models, strategies
from cascade.conversations import LONGEST_REPLY
from cascade.strategy_check import LONGEST_SECONDS, MOST_OUTPUT_TOKENS, MOST_TIERS, problem

ORIGIN = r"^https?://(\*\.[a-z0-9-]{1,63}\.)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){0,3}(:[0-9]{1,5})?\Z"
HTTPS = r"^https://[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,4}(:[0-9]{1,5})?(/[A-Za-z0-9._~=&%+-]{0,60}){0,4}\Z"


class Widget(Row):
    class Meta:
        model = WidgetRow
        fields = ("id", "public_key", "allowed_origins", "identity")


class ChangedWidget(Row):
    allowed_origins = serializers.ListField(child=Matching(ORIGIN, max_length=255), max_length=50)

    class Meta:
        model = WidgetRow
        fields = ("allowed_origins", "identity")

    def validate_allowed_origins(self, told: list[str]) -> list[str]:
        try:
            origins.check_allowed(told)
        except ValueError as refused:
            raise Problem("conflict", str(refused), pointer="/allowed_origins") from None
        return told


class Chatbot(Row):
    """`floor`: the score that the dearest tier's answer needs; under it a person answers."""

    widget = Widget(read_only=True)
    tone = Text(max_length=200, required=False, allow_blank=True)
    explored_a_day = PositiveDollars(
        source="explored_micros_a_day", required=False, help_text="Exploring costs at most this; 0: none is explored."
    )
    explored_models = serializers.ListField(child=Text(max_length=100), required=False, max_length=10)
    reference_model = Text(max_length=100, required=False, allow_blank=True)
    most_remembered = Whole(min_value=0, max_value=1_000_000, required=False)
    hand_over_text = Text(max_length=1000, required=False)
    live_strategy = Ref(source="live_strategy_id", read_only=True, allow_null=True)
    record_source_url = serializers.CharField(read_only=True, help_text="Empty: there is none.")

    class Meta:
        model = models.Chatbot
        fields: Any = (
            "id", "name", "instructions", "tone", "floor", "hand_over_text", "stale_after", "record_source_url",
            "record_source_ttl", "explored_share", "explored_a_day", "explored_models", "reference_model",
            "wrong_hits", "check_share", "remembered_for", "most_remembered", "live_strategy", "widget", "created_at",
        )  # fmt: skip
        extra_kwargs = {"instructions": {"max_length": 8000}}

    def validate_explored_models(self, names: list[str]) -> list[str]:
        return [_offered(name, "/explored_models") for name in names]

    def validate_reference_model(self, name: str) -> str:
        return _offered(name, "/reference_model") if name else ""


def _offered(name: str, pointer: str) -> str:
    if name not in strategies.offered():
        raise Problem("not_found", f"{name[:100]} is not offered, or has no price", pointer=pointer)
    return name


class IndexProgress(Shape):
    articles = Whole()
    made = Whole(help_text="Of which the passages are there, searched already or put aside.")
    searched = Whole(help_text="As they are now.")
    whole = serializers.BooleanField()


class SigningSecret(Shape):
    kid = serializers.CharField()
    secret = serializers.CharField()


class NewChatbot(Chatbot):
    """With a widget of its own: where it may stand, and whether customers must be signed in."""

    allowed_origins = serializers.ListField(
        child=Matching(ORIGIN, max_length=255),
        required=False, max_length=50, write_only=True,
    )  # fmt: skip
    identity = serializers.ChoiceField(WidgetRow.Identity.choices, required=False, write_only=True)
    signing_secret = SigningSecret(read_only=True, help_text="Shown this once.")

    class Meta(Chatbot.Meta):
        fields: Any = (*Chatbot.Meta.fields, "allowed_origins", "identity", "signing_secret")


class RecordSource(Shape):
    url = Matching(HTTPS, max_length=200)


class RecordSourceSecret(Shape):
    url = serializers.CharField()
    secret = serializers.CharField(help_text="Signs each request (Standard Webhooks). Shown this once.")


class Tier(Shape):
    model = Text(max_length=100)
    threshold = Number(min_value=0, max_value=1)
    deadline_seconds = Number(min_value=0.1, max_value=LONGEST_SECONDS)
    max_output_tokens = Whole(min_value=1, max_value=MOST_OUTPUT_TOKENS)
    segments = serializers.DictField(
        child=Number(min_value=0, max_value=1),
        required=False,
        help_text="Other thresholds, by segment of customers; the last tier has none.",
    )


class Strategy(Row):
    """An immutable version of a chatbot's cascade, cheapest tier first."""

    chatbot = Ref(models.Chatbot.objects.all)
    tiers = serializers.ListField(child=Tier(), min_length=1, max_length=MOST_TIERS)
    deadline_seconds = Number(min_value=0.1, max_value=LONGEST_SECONDS)

    class Meta:
        model = models.CascadeStrategy
        fields = ("id", "chatbot", "version", "tiers", "deadline_seconds", "created_at")
        read_only_fields = ("version",)

    def validate_tiers(self, tiers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if wrong := problem([dict(tier) for tier in tiers]):
            raise serializers.ValidationError(wrong)
        return tiers


class Price(Row):
    """US dollars for a million tokens, from a moment on. `own`: for this tenant alone, whatever the list says."""

    model = serializers.CharField(source="model.name", read_only=True)
    own = serializers.SerializerMethodField()
    long_prompts = serializers.ListField(child=JSONObject(), read_only=True)

    class Meta:
        model = models.Price
        fields = (
            "id", "model", "own", "valid_from", "valid_until", "input", "output", "cached_input", "cache_write",
            "reasoning", "per_request", "batch", "long_prompts", "source",
        )  # fmt: skip

    def get_own(self, price: models.Price) -> bool:
        return price.tenant_id is not None


class LanguageModel(Row):
    class Meta:
        model = models.LanguageModel
        fields = ("id", "name", "provider", "enabled")


class Conversation(Row):
    customer = Ref(source="customer_id", read_only=True)
    external_id = serializers.CharField(source="customer.external_id", read_only=True)
    chatbot = Ref(source="chatbot_id", read_only=True)

    class Meta:
        model = models.Conversation
        fields = ("id", "chatbot", "customer", "external_id", "state", "summary", "created_at", "updated_at")


class Message(Row):
    turn = Ref(source="turn_id", read_only=True, allow_null=True)
    corrects = Ref(source="corrects_id", read_only=True, allow_null=True)
    rating = serializers.SerializerMethodField()

    class Meta:
        model = models.Message
        fields = ("id", "turn", "role", "text", "seq", "corrects", "rating", "created_at")

    def get_rating(self, message: models.Message) -> int | None:
        return message.feedback.rating if hasattr(message, "feedback") else None


class StaffReply(Shape):
    text = Matching(r"\S", max_length=LONGEST_REPLY)
    corrects = Id(required=False, help_text="The chatbot's last reply, if it was wrong and this stands in its place.")


class Turn(Row):
    conversation = Ref(source="conversation_id", read_only=True)
    strategy = Ref(source="strategy_id", read_only=True, allow_null=True)

    class Meta:
        model = models.Turn
        fields = (
            "id", "conversation", "client_id", "state", "problem", "strategy", "context_report", "created_at",
            "closed_at",
        )  # fmt: skip


class ModelCall(Row):
    turn = Ref(source="turn_id", read_only=True)
    price = Ref(source="price_id", read_only=True, allow_null=True)
    cost = serializers.SerializerMethodField()

    class Meta:
        model = models.ModelCall
        fields = (
            "id", "turn", "number", "tier", "model", "threshold", "outcome", "error", "text", "finish_reason",
            "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens",
            "estimated", "cost", "price", "score", "scorer_version", "first_token_seconds", "seconds", "created_at",
        )  # fmt: skip

    def get_cost(self, call: models.ModelCall) -> str | None:
        """Dollars; null: not billed yet."""
        return None if call.cost_micros is None else Dollars().to_representation(call.cost_micros)


class Feedback(Row):
    message = Ref(source="message_id", read_only=True)
    conversation = Ref(source="message.conversation_id", read_only=True)

    class Meta:
        model = models.Feedback
        fields = ("id", "message", "conversation", "rating", "comment", "created_at")


class Usage(Shape):
    key = serializers.CharField(help_text="What the entries have in common.")
    entries = Whole()
    turns = Whole()
    input_tokens = Whole()
    output_tokens = Whole()
    charged = Dollars(help_text="What the tenant was charged, before any quota.")
    cost = Dollars(help_text="What the providers charge.")
    dearest = Dollars(help_text="What the dearest model would have cost.")


class UsageReport(Shape):
    since = Moment()
    until = Moment()
    results = Usage(many=True)
