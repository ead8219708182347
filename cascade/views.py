"""The REST API of chatbots, cascades and conversations: each resource translates, and leaves the work to its module."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers as fields
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts import auth
from accounts.bounds import make_room
from accounts.models import LedgerEntry
from accounts.rest import lists
from accounts.rest.fields import Flag, Id, Moment, Whole
from accounts.rest.lists import Filter, text
from accounts.rest.problems import Problem
from accounts.rest.views import Changed, Listed, Resource, Shown
from accounts.sealing import seal
from cascade import conversations, knowledge, models, serializers, strategies, strategy_replays, usage
from cascade.learning.table import BadTable
from cascade.learning_api import Replay

SEARCHED = 5000  # newest messages; a search through all would read the whole table
TIMES = {"created_after": Filter("created_at__gte", Moment()), "created_before": Filter("created_at__lt", Moment())}
PERIOD_FILTERS = {"since": Filter("since", Moment()), "until": Filter("until", Moment())}
PERIOD = [
    OpenApiParameter("since", datetime, description="Usual: about a month before `until`."),
    OpenApiParameter("until", datetime, description="Usual: now. At most 366 days after `since`."),
]

# --- what a tenant sets up ------------------------------------------------------------------


class Chatbots(Listed, Shown, Changed, Resource):
    """What an assistant is told, how good an answer must be, and its widget."""

    resource, rows, related = "chatbots", models.Chatbot, ("widget",)
    serializer_class = serializers.Chatbot

    @extend_schema(request=serializers.NewChatbot, responses={201: serializers.NewChatbot})
    def create(self, request: Any) -> Response:
        """A chatbot with a widget of its own; the widget's signing secret is shown this once."""
        told = serializers.NewChatbot(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = dict(told.validated_data)
        make_room(models.Chatbot.objects.all())
        origins, identity = wanted.pop("allowed_origins", []), wanted.pop("identity", "optional")
        try:
            widget, kid, secret = auth.create_widget(self.caller.tenant_id, origins, identity)
        except ValueError as refused:
            raise Problem("invalid", str(refused), pointer="/allowed_origins") from None
        chatbot = models.Chatbot.objects.create(tenant_id=self.caller.tenant_id, widget=widget, **wanted)
        chatbot.refresh_from_db()
        return self.made(chatbot, signing_secret={"kid": kid, "secret": secret})

    @extend_schema(request=serializers.RecordSource, responses=serializers.RecordSourceSecret)
    @action(detail=True, methods=["post"], url_path="record-source")
    def record_source(self, request: Any, pk: Any) -> Response:
        """Where the tenant's server is asked for fresh records, with a new secret that is shown this once."""
        chatbot, told = self.get_object(), serializers.RecordSource(data=request.data)
        told.is_valid(raise_exception=True)
        secret = secrets.token_bytes(32)
        chatbot.record_source_url, chatbot.record_source_secret = told.validated_data["url"], seal(secret)
        chatbot.save(update_fields=["record_source_url", "record_source_secret"])
        shown = {"url": chatbot.record_source_url, "secret": f"whsec_{b64encode(secret).decode()}"}
        return Response(serializers.RecordSourceSecret(shown).data)

    @extend_schema(responses={204: None})
    @record_source.mapping.delete
    def forget_record_source(self, request: Any, pk: Any) -> Response:
        """No server is asked any more."""
        chatbot = self.get_object()
        chatbot.record_source_url, chatbot.record_source_secret = "", None
        chatbot.save(update_fields=["record_source_url", "record_source_secret"])
        return Response(status=204)

    @extend_schema(request=serializers.ChangedWidget, responses=serializers.Widget)
    @action(detail=True, methods=["patch"])
    def widget(self, request: Any, pk: Any) -> Response:
        """Where its widget may stand, and whether customers must be signed in."""
        told = serializers.ChangedWidget(self.get_object().widget, data=request.data, partial=True)
        told.is_valid(raise_exception=True)
        return Response(serializers.Widget(told.save()).data)

    @extend_schema(request=None, responses={201: serializers.SigningSecret})
    @action(detail=True, methods=["post"], url_path="widget/rotate")
    def rotate_widget_secret(self, request: Any, pk: Any) -> Response:
        """A new secret that signs customers in, shown this once. The last one stays good, until the next rotation."""
        kid, secret = auth.rotate_widget_secret(self.get_object().widget)
        return Response({"kid": kid, "secret": secret}, status=201)

    @extend_schema(responses=serializers.IndexProgress, filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filters={})
    def index(self, request: Any, pk: Any) -> Response:
        """How far its articles are indexed."""
        return Response(serializers.IndexProgress(knowledge.progress(self.get_object())).data)

    @extend_schema(request=None, responses=serializers.Strategy)
    @action(detail=True, methods=["post"], url_path="roll-back")
    def roll_back(self, request: Any, pk: Any) -> Response:
        """Back to the strategy before the live one."""
        chatbot = self.get_object()
        try:
            strategies.rollback(chatbot, self.caller.name)
        except strategies.NotChanged as refused:
            raise Problem("conflict", str(refused)) from None
        chatbot.refresh_from_db()
        return Response(serializers.Strategy(chatbot.live_strategy).data)


class Strategies(Listed, Shown, Resource):
    """Versions of a chatbot's cascade. They never change; the next one is made, then promoted."""

    resource, rows = "strategies", models.CascadeStrategy
    serializer_class = serializers.Strategy
    filters = {"chatbot": Filter("chatbot_id", Id())}

    def create(self, request: Any) -> Response:
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = told.validated_data
        tiers = [dict(tier) for tier in wanted["tiers"]]
        try:
            made = strategies.add_version(wanted["chatbot"], tiers, wanted["deadline_seconds"])
        except strategies.UnfitTiers as refused:  # the shape was checked: a model is not offered
            raise Problem("not_found", str(refused), pointer="/tiers") from None
        made.refresh_from_db()
        return self.made(made)

    @extend_schema(request=None, responses=serializers.Strategy)
    @action(detail=True, methods=["post"])
    def promote(self, request: Any, pk: Any) -> Response:
        """Its chatbot's next turns are answered by it."""
        strategy = self.get_object()
        try:
            strategies.promote(strategy, self.caller.name)
        except strategies.NotChanged as refused:
            raise Problem("conflict", str(refused)) from None
        return self.shown(strategy)

    @extend_schema(responses=Replay, filters=False, parameters=PERIOD)
    @action(detail=True, methods=["get"], pagination_class=None, filters=PERIOD_FILTERS)
    def replay(self, request: Any, pk: Any) -> Response:
        """What it would have done with the chatbot's turns of a period, beside what was done."""
        since, until = period(request, self.filters, timedelta(days=28))
        strategy = models.CascadeStrategy.objects.select_related("chatbot").get(pk=self.get_object().pk)
        try:
            return Response(Replay(strategy_replays.compare(strategy, since, until)).data)
        except BadTable as refused:
            raise Problem("conflict", str(refused)) from None


class Models(Listed, Resource):
    """The language models that the operator offers."""

    resource, rows = "models", models.LanguageModel
    serializer_class = serializers.LanguageModel
    orderings = ("name", "-name")
    filters = {"enabled": Filter("enabled", Flag())}


class Prices(Listed, Resource):
    """What models cost from when on: US dollars for a million tokens."""

    resource, rows, related = "models", models.Price, ("model",)
    serializer_class = serializers.Price
    orderings = ("-valid_from", "valid_from")
    filters = {"model": text("model__name", 100)}


# --- what happens ---------------------------------------------------------------------------


class Conversations(Listed, Shown, Resource):
    """What customers asked and were told. `search` looks through the 5,000 newest messages."""

    resource, rows, related = "conversations", models.Conversation, ("customer",)
    serializer_class = serializers.Conversation
    orderings = ("-updated_at", "updated_at")
    filters = {
        "state": Filter("state", fields.ChoiceField(models.Conversation.State.choices)),
        "chatbot": Filter("chatbot_id", Id()),
        "customer": Filter("customer_id", Id()),
        "external_id": text("customer__external_id"),
        "updated_after": Filter("updated_at__gte", Moment()),
        "updated_before": Filter("updated_at__lt", Moment()),
        "search": text("search", 100, min_length=3, help_text="In the 5,000 newest messages; 3 to 100 characters."),
    }

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        told = lists.chosen(self.request, self.filters, lists.OF_PAGES)
        if (wanted := told.pop("search", None)) is not None:
            newest = models.Message.objects.order_by("-id")[:SEARCHED]
            said = models.Message.objects.filter(pk__in=newest.values("pk"), text__icontains=wanted)
            queryset = queryset.filter(pk__in=said.values("conversation_id"))
        return queryset.filter(**told)

    @extend_schema(responses=serializers.Message(many=True), filters=False)
    @action(detail=True, methods=["get"], filters={}, orderings=("seq", "-seq"))
    def messages(self, request: Any, pk: Any) -> Response:
        """In the order in which they were said."""
        lists.chosen(request, self.filters, lists.OF_PAGES)
        return self.page(self.get_object().messages.select_related("feedback"), serializers.Message())

    @extend_schema(request=serializers.StaffReply, responses={201: serializers.Message})
    @action(detail=True, methods=["post"])
    def reply(self, request: Any, pk: Any) -> Response:
        """Say something to the customer as a person; for members."""
        told = serializers.StaffReply(data=request.data)
        told.is_valid(raise_exception=True)
        wrong = str(told.validated_data.get("corrects", ""))
        self._deed(conversations.reply_as_staff, told.validated_data["text"], corrects=wrong)
        said = models.Message.objects.filter(conversation_id=pk).order_by("-seq").first()
        return Response(serializers.Message(said).data, status=201)

    @extend_schema(request=None, responses=serializers.Conversation)
    @action(detail=True, methods=["post"], url_path="hand-over")
    def hand_over(self, request: Any, pk: Any) -> Response:
        """A person answers from now on."""
        return self._moved(conversations.take_over)

    @extend_schema(request=None, responses=serializers.Conversation)
    @action(detail=True, methods=["post"], url_path="give-back")
    def give_back(self, request: Any, pk: Any) -> Response:
        """The chatbot answers from now on."""
        return self._moved(conversations.give_back)

    @extend_schema(request=None, responses=serializers.Conversation)
    @action(detail=True, methods=["post"])
    def close(self, request: Any, pk: Any) -> Response:
        """Nobody answers here any more, for good."""
        return self._moved(conversations.close)

    def _moved(self, deed: Any) -> Response:
        self._deed(deed)
        return self.shown(self.get_queryset().get(pk=self.kwargs["pk"]))

    def _deed(self, deed: Any, *told: Any, **more: Any) -> None:
        conversation = self.get_object()
        try:
            deed(self.caller.tenant_id, conversation.id, self.caller.name, *told, **more)
        except conversations.Refused as refused:
            raise Problem("conflict", str(refused)) from None


class Turns(Listed, Shown, Resource):
    """Questions and what came of them."""

    resource, rows = "turns", models.Turn
    serializer_class = serializers.Turn
    orderings = ("-created_at", "created_at")
    filters = TIMES | {
        "conversation": Filter("conversation_id", Id()),
        "state": Filter("state", fields.ChoiceField(models.Turn.State.choices)),
    }


class ModelCalls(Listed, Shown, Resource):
    """Every attempt: the draft, its score against the threshold, tokens, cost, time."""

    resource, rows = "model-calls", models.ModelCall
    serializer_class = serializers.ModelCall
    filters = TIMES | {
        "turn": Filter("turn_id", Id()),
        "conversation": Filter("turn__conversation_id", Id()),
        "model": text("model", 100),
        "outcome": text("outcome", 10),
    }


class Feedback(Listed, Shown, Resource):
    """What customers thought of replies."""

    resource, rows, related = "feedback", models.Feedback, ("message",)
    serializer_class = serializers.Feedback
    filters = TIMES | {
        "rating": Filter("rating", Whole(min_value=-1, max_value=1)),
        "conversation": Filter("message__conversation_id", Id()),
    }


# --- what it all cost ----------------------------------------------------------------------


class Usage(Resource):
    """What was used and what it cost, added up."""

    resource, rows = "usage", LedgerEntry
    pagination_class = None
    filters = PERIOD_FILTERS | {"by": Filter("by", fields.ChoiceField(sorted(usage.GROUPS)))}

    @extend_schema(
        responses=serializers.UsageReport,
        parameters=[
            OpenApiParameter("by", str, enum=sorted(usage.GROUPS), description="What to group by; usual: day."),
            *PERIOD,
        ],
    )
    def retrieve(self, request: Any) -> Response:
        since, until = period(request, self.filters, timedelta(days=30))
        rows = usage.report(self.caller.tenant_id, since, until, request.query_params.get("by", "day"))
        return Response(serializers.UsageReport({"since": since, "until": until, "results": rows}).data)


def period(request: Any, filters: Any, usual: timedelta) -> tuple[datetime, datetime]:
    """Since when, until when: a year at most. Raises Problem with the parameter's name."""
    told = lists.chosen(request, filters, set())
    until = told.get("until", timezone.now())
    try:
        since = told.get("since", until - usual)
        usage.check_length(since, until)
    except OverflowError as refused:
        raise Problem("conflict", str(refused), parameter="until") from None
    except usage.TooLong as refused:
        raise Problem("conflict", str(refused), parameter="since") from None
    return since, until
