"""Articles, files of them, gaps and saved replies on the admin pages.

Rights are those of `accounts.staff_pages.TenantAdmin`; LEAD writes, everybody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Count, F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget

from accounts.bounds import TooMany, make_room
from accounts.models import Customer
from accounts.staff_pages import LEAD, TenantAdmin, TenantInline, decimals
from cascade import gaps, knowledge, placeholders, uploads
from cascade.documents import Unreadable
from cascade.material import customer_value
from cascade.models import Article, Chatbot, ExampleQuestion, Lookup, Passage, SavedReply, Upload
from cascade.values import Context

SHOWN_GAPS = 100


class ArticleForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if self.instance._state.adding and "chatbot" in told:
            try:
                make_room(told["chatbot"].articles.all(), "articles of this chatbot")
            except TooMany as problem:
                raise forms.ValidationError(str(problem)) from None
        return told


@admin.register(Article)
class ArticlePage(TenantAdmin):
    form = ArticleForm
    added_by = changed_by = deleted_by = LEAD
    list_display = ("title", "slug", "chatbot", "index", "passage_count", "updated_at")
    list_filter = ("chatbot", "updated_at")
    list_select_related = ("chatbot",)
    search_fields = ("title", "body")
    prepopulated_fields: ClassVar = {"slug": ("title",)}
    list_before_template = "admin/cascade/articles.html"
    change_form_outer_after_template = "admin/cascade/passages.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return knowledge.with_index_state(super().get_queryset(request)).annotate(passage_total=Count("passages"))

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        indices = [(chatbot, knowledge.progress(chatbot)) for chatbot in Chatbot.objects.order_by("name")]
        told = {"indices": indices, "moving": not all(index.whole for _, index in indices)}
        told["may_upload"] = request.member.role in LEAD  # type: ignore[attr-defined]
        return super().changelist_view(request, told | (extra_context or {}))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        article = self.get_object(request, object_id)
        searched = Passage.objects.filter(article=article, made_from=F("article__indexed_as")) if article else ()
        told = {"passages": searched and searched.order_by("position")}
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        knowledge.index_soon(obj.chatbot)

    def delete_model(self, request: HttpRequest, obj: Article) -> None:
        super().delete_model(request, obj)
        knowledge.changed(obj.chatbot_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        chatbots = set(queryset.values_list("chatbot_id", flat=True))
        super().delete_queryset(request, queryset)
        for chatbot_id in chatbots:
            knowledge.changed(chatbot_id)

    @display(description="index", label={"searched": "success", "waits": "warning", "changed": "info"})
    def index(self, article: Any) -> str:
        return "searched" if article.is_searched else "changed" if article.indexed_as else "waits"

    @display(description="passages", ordering="passage_total")
    def passage_count(self, article: Any) -> int:
        return article.passage_total


# --- files ------------------------------------------------------------------------------------


class ManyFiles(forms.FileField):
    """Each is checked; one that is of no use refuses all, with its name and what is wrong."""

    def clean(self, data: Any, initial: Any = None) -> list[tuple[str, bytes]]:
        given: list[UploadedFile] = [each for each in data or () if each]
        if not given:
            raise forms.ValidationError("choose at least one file")
        read, problems = [], []
        for file in given:
            name, content = file.name or "", file.read()
            try:
                uploads.check(name, content)
            except Unreadable as problem:
                problems.append(f"{name} {problem}")
            read.append((name, content))
        try:
            uploads.make_room_for(len(read))
        except TooMany as problem:
            problems.append(str(problem))
        if problems:
            raise forms.ValidationError(problems)
        return read


class FilesWidget(UnfoldAdminFileFieldWidget):
    allow_multiple_selected = True

    def __init__(self) -> None:
        super().__init__(attrs={"multiple": True, "accept": ".md,.markdown,.html,.htm,.pdf,.txt,.zip"})


class UploadForm(forms.ModelForm):
    files_given = ManyFiles(
        label="Files",
        widget=FilesWidget,
        help_text="Markdown, HTML, plain text (2 MB each) or PDF (20 MB); of more than a hundred make a ZIP (20 MB).",
    )

    class Meta:
        model = Upload
        fields = ("chatbot",)


@admin.register(Upload)
class UploadPage(TenantAdmin):
    """Files are taken in here and read in the background; the list tells how far they are."""

    added_by = LEAD
    list_display = ("name", "chatbot", "state", "read", "articles_made", "refused", "created_at")
    list_filter = ("chatbot", "state")
    list_select_related = ("chatbot",)
    ordering = ("-created_at",)
    readonly_fields = ("name", "chatbot", "state", "read", "articles_made", "trouble", "created_at")

    def is_moving(self, request: HttpRequest) -> bool:
        return Upload.objects.filter(state__in=(Upload.State.WAITING, Upload.State.READING)).exists()

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("content")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ("chatbot", "files_given")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs |= {"form": UploadForm, "fields": ("chatbot",)}
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        taken = [uploads.take(obj.chatbot, name, data) for name, data in form.cleaned_data["files_given"]]
        obj.pk, obj.tenant_id, obj.name = taken[0].pk, taken[0].tenant_id, ", ".join(each.name for each in taken)[:200]

    @display(description="read")
    def read(self, upload: Upload) -> str:
        return f"{upload.files_read:,} of {upload.files:,}"

    @display(description="refused")
    def refused(self, upload: Upload) -> int:
        return len(upload.problems)

    @display(description="refused files")
    def trouble(self, upload: Upload) -> str:
        return "\n".join(f"{each['file']} {each['problem']}" for each in upload.problems) or "–"


# --- gaps -------------------------------------------------------------------------------------


@admin.register(Lookup)
class GapPage(TenantAdmin):
    """What customers ask and no article answers, grouped by meaning; the questions one by one below."""

    list_display = ("question", "chatbot", "nearest", "state", "created_at")
    list_filter = ("chatbot", "created_at")
    list_select_related = ("chatbot", "turn")
    search_fields = ("question",)
    ordering = ("-created_at",)
    exclude = ("embedding",)
    list_before_template = "admin/cascade/gaps.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).filter(pk__in=gaps.found().values("pk")).defer("embedding")

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        told = {"gaps": gaps.report()[:SHOWN_GAPS], "may_write": request.member.role in LEAD}  # type: ignore[attr-defined]
        return super().changelist_view(request, told | (extra_context or {}))

    @display(description="similarity", ordering="similarity")
    def nearest(self, lookup: Lookup) -> str:
        return decimals(lookup.similarity)

    @display(description="came of it")
    def state(self, lookup: Lookup) -> str:
        return lookup.turn.get_state_display()


# --- saved replies ----------------------------------------------------------------------------


class SavedReplyForm(forms.ModelForm):
    class Meta:
        model = SavedReply
        fields = ("chatbot", "name", "text", "state")

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        try:
            placeholders.placeholders(text)
        except placeholders.BadPlaceholder as problem:
            raise forms.ValidationError(str(problem)) from problem
        return text


class ExampleRows(TenantInline):
    """Questions that the reply answers, as customers ask them."""

    model = ExampleQuestion
    fields = ("text",)
    extra = 2
    can_delete = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.member.role in LEAD  # type: ignore[attr-defined]

    has_change_permission = has_delete_permission = has_add_permission


@admin.register(SavedReply)
class SavedReplyPage(TenantAdmin):
    """A text with placeholders, its example questions, and what a customer would read."""

    added_by = changed_by = deleted_by = LEAD
    form = SavedReplyForm
    bounded = True
    list_display = ("name", "chatbot", "state", "origin", "given", "created_at")
    list_filter = ("state", "chatbot")
    list_select_related = ("chatbot",)
    search_fields = ("name", "text", "examples__text")
    ordering = ("-state", "name")
    inlines = (ExampleRows,)
    change_form_outer_after_template = "admin/cascade/saved_reply.html"

    @display(description="origin")
    def origin(self, reply: SavedReply) -> str:
        return f"{reply.proposed_from} answers" if reply.proposed_from else "staff"

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for example in formset.save(commit=False):
            example.tenant_id, example.embedding = form.instance.tenant_id, None  # another text is another vector
            example.save()
        for example in formset.deleted_objects:
            example.delete()
        knowledge.deferred("chatbackend.tasks.index_knowledge", form.instance.chatbot)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        reply = self.get_object(request, object_id)
        told = self.preview(reply, request.GET) if isinstance(reply, SavedReply) else {}
        return super().change_view(request, object_id, form_url, told | (extra_context or {}))

    def preview(self, reply: SavedReply, asked: Mapping[str, str]) -> dict[str, Any]:
        """What a customer would read who asks this: the text, or why it does not answer them."""
        example = reply.examples.order_by("created_at").values_list("text", flat=True).first()
        question, external_id = asked.get("question") or example or "", asked.get("customer", "")
        told = {
            "question": question,
            "customer": external_id,
            "customers": Customer.objects.order_by("external_id")[:200],
        }
        customer = Customer.objects.filter(external_id=external_id).first() if external_id else None
        if customer is None:
            return told | {"trouble": f"there is no customer {external_id}" if external_id else ""}
        context = Context(customer_value(customer), question, timezone.now())
        try:
            return told | {"filled": placeholders.fill(reply.text, context, reply.chatbot.stale_after)}
        except (placeholders.NoValue, placeholders.BadPlaceholder) as problem:
            return told | {"trouble": str(problem)}
