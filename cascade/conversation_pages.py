"""Conversations on the admin pages: the inbox of those that wait for a person, and each with how its replies were made.

Both show what happens as it happens: they ask again every few seconds. Who may answer customers does so here.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.text import Truncator
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.models import Member
from accounts.staff_pages import DESK, TenantAdmin
from accounts.templatetags.money import dollars
from cascade import conversations
from cascade.models import Conversation, Message, ModelCall, Turn
from cascade.story import earlier, signs, story

State = Conversation.State
UNCHANGED = 204  # HTMX leaves the page as it is


class StateFilter(admin.SimpleListFilter):
    """Support begins with who waits for a person; a search, like everybody else, with all."""

    title = parameter_name = "state"
    ANY = "any"

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        on_duty = request.member.role == Member.Role.SUPPORT  # type: ignore[attr-defined]
        waiting = on_duty and SEARCH_VAR not in request.GET
        self.used_parameters.setdefault("state", State.HANDED_OVER.value if waiting else self.ANY)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.ANY, "All"), *State.choices]

    def choices(self, changelist: Any) -> Iterator[Any]:
        return islice(super().choices(changelist), 1, None)  # the first would be a second "All"

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset if self.value() == self.ANY else queryset.filter(state=self.value())


@admin.register(Conversation)
class ConversationPage(TenantAdmin):
    """What was said and how it was made."""

    answered_by = DESK
    deeds: ClassVar = {"give_back": conversations.give_back, "close": conversations.close}
    list_display = ("customer", "last_asked", "state", "turn_count", "cost", "updated_at", "chatbot")
    list_filter = (StateFilter, "chatbot", "updated_at")
    list_select_related = ("customer", "chatbot")
    search_fields = ("=id", "customer__external_id", "customer__attributes__name", "messages__text")
    ordering = ("-updated_at",)
    list_before_template = "admin/cascade/conversation/waiting.html"
    change_form_template = "admin/cascade/conversation/story.html"

    def is_moving(self, request: HttpRequest) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        asked = Message.objects.filter(conversation=OuterRef("pk"), role=Message.Role.CUSTOMER)
        turns = Turn.objects.filter(conversation=OuterRef("pk")).values("conversation")
        calls = ModelCall.objects.filter(turn__conversation=OuterRef("pk")).values("turn__conversation")
        return (
            super()
            .get_queryset(request)
            .annotate(
                turn_total=Coalesce(Subquery(turns.values(n=Count("pk"))), 0),
                cost_total=Subquery(calls.values(n=Sum("cost_micros"))),
                latest=Subquery(asked.order_by("-seq").values("text")[:1]),
            )
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        told = {"waiting": Conversation.objects.filter(state=State.HANDED_OVER).count()}
        return super().changelist_view(request, told | (extra_context or {}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        conversation = self.get_object(request, object_id)
        seen = digest(signs(conversation)) if conversation else ""
        if request.headers.get("X-Seen") == seen and self.has_view_permission(request, conversation):
            return HttpResponse(status=UNCHANGED)
        before = whole_number(request.GET.get("before", ""))
        steps = story(conversation, before) if conversation else []
        told = {
            "story": steps,
            "earlier": earlier(conversation, steps) if conversation else None,
            "before": before,
            "seen": seen,
            "conversation": conversation,
            "may_answer": self.may_answer(request) and conversation and conversation.state != State.CLOSED,
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

    @display(description="last asked")
    def last_asked(self, conversation: Any) -> str:
        return Truncator(conversation.latest or "–").chars(60)

    @display(description="turns", ordering="turn_total")
    def turn_count(self, conversation: Any) -> int:
        return conversation.turn_total

    @display(description="cost", ordering="cost_total")
    def cost(self, conversation: Any) -> str:
        return dollars(conversation.cost_total or 0)


def whole_number(told: str) -> int | None:
    """None: it is none that a message may have."""
    return int(told) if told.isascii() and told.isdigit() and len(told) < 19 else None


def digest(parts: list[Any]) -> str:
    """Another one as soon as a part is another."""
    return sha256("\n".join(map(str, parts)).encode()).hexdigest()
