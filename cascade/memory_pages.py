"""What a chatbot remembers, on the admin pages: searched, inspected, pinned and forgotten."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from accounts.staff_pages import LEAD, TenantAdmin, TenantInline, decimals
from accounts.templatetags.money import dollars
from cascade.memory_saving import saved_since
from cascade.models import MemoryUse, RememberedAnswer


class UseRows(TenantInline):
    model = MemoryUse
    fields = ("created_at", "outcome", "similarity", "confidence", "saved")
    readonly_fields = fields

    @display(description="saved")
    def saved(self, use: MemoryUse) -> str:
        return dollars(use.saved_micros)


@admin.register(RememberedAnswer)
class RememberedAnswerPage(TenantAdmin):
    """A person pins and forgets; what is remembered, and for whom, is decided when it is answered."""

    changed_by = deleted_by = LEAD
    list_display = ("question", "to_whom", "chatbot", "hits", "saved", "judged", "pinned", "expires_at")
    list_filter = ("chatbot", "pinned", "segment", "model", "created_at")
    list_select_related = ("chatbot", "customer")
    search_fields = ("question", "answer", "customer__external_id")
    ordering = ("-hits", "-created_at")
    actions = ("forget",)
    list_before_template = "admin/cascade/memory.html"
    fields = (
        *("question", "answer", "to_whom", "pinned", "expires_at", "hits", "last_hit_at", "saved", "turn", "model"),
        *("score", "scorer_version", "strategy", "articles", "cost"),
    )
    inlines = (UseRows,)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return tuple(field for field in self.fields if field != "pinned")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).annotate(saved_total=Sum("uses__saved_micros"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        month = request.member.tenant.midnight().replace(day=1)  # type: ignore[attr-defined]
        told = {"month": saved_since(month), "remembered": RememberedAnswer.objects.count()}
        return super().changelist_view(request, told | (extra_context or {}))

    @admin.action(description="Forget the chosen answers", permissions=["delete"])
    def forget(self, request: HttpRequest, answers: QuerySet[RememberedAnswer]) -> None:
        count = answers.count()
        RememberedAnswer.objects.filter(pk__in=answers.values("pk")).only("pk").delete()
        self.message_user(request, f"{count} forgotten: such questions are answered afresh.", messages.SUCCESS)

    @display(description="given to")
    def to_whom(self, answer: RememberedAnswer) -> str:
        return str(answer.customer) if answer.customer else answer.segment or "everybody"

    @display(description="score", ordering="score")
    def judged(self, answer: RememberedAnswer) -> str:
        return decimals(answer.score)

    @display(description="saved", ordering="saved_total")
    def saved(self, answer: Any) -> str:
        return dollars(answer.saved_total or 0)

    @display(description="cost to be found")
    def cost(self, answer: RememberedAnswer) -> str:
        return dollars(answer.cost_micros)
