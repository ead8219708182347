"""What chatbots remember over the REST API: searched, inspected, pinned and forgotten."""

from __future__ import annotations

from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts.rest import lists
from accounts.rest.fields import Dollars, Flag, Id, Moment, Ref, Text, Whole
from accounts.rest.lists import Filter, text
from accounts.rest.rows import Row, Shape
from accounts.rest.views import Changed, Listed, Removed, Resource, Shown
from cascade import models, remembered


class RememberedRow(Row):
    """Given to `customer` alone, else to those of `segment`, else to everybody."""

    chatbot = Ref(source="chatbot_id", read_only=True)
    customer = Ref(source="customer_id", read_only=True, allow_null=True)
    turn = Ref(source="turn_id", read_only=True)
    strategy = Ref(source="strategy_id", read_only=True)
    cost = Dollars(source="cost_micros", read_only=True, help_text="Of finding it: what giving it again saves.")
    saved = Dollars(source="saved_micros", read_only=True, help_text="So far.")

    class Meta:
        model = models.RememberedAnswer
        fields = (
            "id", "chatbot", "customer", "segment", "question", "answer", "pinned", "expires_at", "hits", "last_hit_at",
            "cost", "saved", "turn", "strategy", "model", "score", "scorer_version", "articles", "created_at",
        )  # fmt: skip
        read_only_fields = tuple(name for name in fields if name != "pinned")


class UseRow(Row):
    turn = Ref(source="turn_id", read_only=True)
    saved = Dollars(source="saved_micros", read_only=True)

    class Meta:
        model = models.MemoryUse
        fields = ("id", "turn", "outcome", "similarity", "confidence", "saved", "created_at")


class ToForget(Shape):
    """Of one chatbot: all that fits every condition that is given."""

    chatbot = Ref(models.Chatbot.objects.all)
    search = Text(min_length=3, max_length=100, required=False, help_text="In question or answer.")
    segment = Text(max_length=200, required=False)
    customer = Id(required=False)
    before = Moment(required=False, help_text="Remembered before this moment.")


class Forgotten(Shape):
    forgotten = Whole()


class Remembered(Listed, Shown, Changed, Removed, Resource):
    """Accepted answers that may be given again: the cache. What is remembered is decided when it is answered."""

    resource, rows = "remembered-answers", models.RememberedAnswer
    serializer_class = RememberedRow
    fleeting = frozenset({"hits", "last_hit_at", "saved"})
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "customer": Filter("customer_id", Id()),
        "segment": text("segment"),
        "pinned": Filter("pinned", Flag()),
        "search": text("search", 100, min_length=3, help_text="In question or answer; 3 to 100 characters."),
    }

    def get_queryset(self) -> QuerySet:
        its = models.MemoryUse.objects.filter(remembered=OuterRef("pk")).order_by().values("remembered")
        saved = Coalesce(Subquery(its.annotate(sum=Sum("saved_micros")).values("sum")), Value(0))
        return super().get_queryset().defer("embedding", "answer_embedding").annotate(saved_micros=saved)

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        told = lists.chosen(self.request, self.filters, lists.OF_PAGES)
        return queryset.filter(_says(told.pop("search", "")), **told)

    @extend_schema(responses=UseRow(many=True), filters=False)
    @action(detail=True, methods=["get"], filters={})
    def uses(self, request: Any, pk: Any) -> Response:
        """Questions that it could answer, and what came of it."""
        lists.chosen(request, self.filters, lists.OF_PAGES)
        return self.page(self.get_object().uses.all(), UseRow())

    @extend_schema(request=ToForget, responses=Forgotten)
    @action(detail=False, methods=["post"])
    def forget(self, request: Any) -> Response:
        """Forget many at once, pinned ones too."""
        told = ToForget(data=request.data)
        told.is_valid(raise_exception=True)
        wanted = dict(told.validated_data)
        chatbot, says = wanted.pop("chatbot"), _says(wanted.pop("search", ""))
        names = {"segment": "segment", "customer": "customer_id", "before": "created_at__lt"}
        count = remembered.forget(chatbot, says, **{names[name]: value for name, value in wanted.items()})
        return Response({"forgotten": count})


def _says(words: str) -> Q:
    return Q(question__icontains=words) | Q(answer__icontains=words) if words else Q()
