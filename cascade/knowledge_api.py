"""Articles, files of them, gaps and saved replies over the REST API: what a chatbot knows, and what it lacks."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import F, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response

from accounts.bounds import make_room
from accounts.rest import lists
from accounts.rest.fields import Id, Matching, Moment, Ref, Text, Whole
from accounts.rest.lists import Filter, text
from accounts.rest.problems import Problem
from accounts.rest.rows import Row, Shape
from accounts.rest.views import Changed, Listed, Removed, Resource, Shown
from cascade import gaps, knowledge, models, placeholders, saved_replies, uploads
from cascade.documents import Unreadable

MOST_EXAMPLES = 50  # questions of one saved reply
MOST_GAPS = 100  # told at once, the most asked first

# --- articles -------------------------------------------------------------------------------


class ArticleRow(Row):
    chatbot = Ref(models.Chatbot.objects.all)
    slug = Matching(r"^[a-zA-Z0-9_-]+\Z", max_length=100)
    body = Text(max_length=20000)
    source = serializers.CharField(read_only=True, help_text="The file it was read from; empty: none.")
    is_searched = serializers.BooleanField(read_only=True, help_text="The index has it as it is now.")

    class Meta:
        model = models.Article
        fields = ("id", "chatbot", "slug", "title", "body", "source", "is_searched", "created_at", "updated_at")
        validators: list[Any] = []


class ChangedArticle(ArticleRow):
    chatbot = Ref(read_only=True)


class PassageRow(Row):
    class Meta:
        model = models.Passage
        fields = ("id", "position", "title", "text", "created_at")


class Articles(Listed, Shown, Changed, Removed, Resource):
    """Help articles, put before the models."""

    resource, rows = "articles", models.Article
    serializer_class = ArticleRow
    fleeting = frozenset({"is_searched"})
    filters = {"chatbot": Filter("chatbot_id", Id()), "slug": text("slug", 100)}

    def get_queryset(self) -> QuerySet:
        return knowledge.with_index_state(super().get_queryset())

    def get_serializer_class(self) -> Any:
        return ChangedArticle if self.action == "partial_update" else self.serializer_class

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        make_room(told.validated_data["chatbot"].articles.all(), "articles of this chatbot")
        return self.made(self._indexed(told.save(tenant_id=self.caller.tenant_id)))

    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        told = self.get_serializer(self.get_object(), data=request.data, partial=True)
        told.is_valid(raise_exception=True)
        return self.shown(self._indexed(told.save()))

    def destroy(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        article = self.get_object()
        article.delete()
        knowledge.changed(article.chatbot_id)
        return Response(status=204)

    @extend_schema(responses=PassageRow(many=True), filters=False)
    @action(detail=True, methods=["get"], filters={}, orderings=("position", "-position"))
    def passages(self, request: Any, pk: Any) -> Response:
        """The pieces in which it is searched, in its order; none until it is indexed for the first time."""
        lists.chosen(request, self.filters, lists.OF_PAGES)
        searched = self.get_object().passages.filter(made_from=F("article__indexed_as"))
        return self.page(searched.defer("embedding", "words"), PassageRow())

    def _indexed(self, article: models.Article) -> models.Article:
        """As it is now, and in the index soon."""
        knowledge.index_soon(article.chatbot)
        row: models.Article = self.get_queryset().get(pk=article.pk)
        return row


# --- files of articles ----------------------------------------------------------------------


class UploadTrouble(Shape):
    file = serializers.CharField()
    problem = serializers.CharField()


class UploadRow(Row):
    chatbot = Ref(source="chatbot_id", read_only=True)
    problems = UploadTrouble(many=True, read_only=True)

    class Meta:
        model = models.Upload
        fields = ("id", "chatbot", "name", "state", "files", "files_read", "articles_made", "problems", "created_at")


class NewUpload(Shape):
    chatbot = Ref(models.Chatbot.objects.all)
    file = serializers.FileField(
        help_text="Markdown, HTML or plain text (2 MB), PDF (20 MB), or a ZIP of these (20 MB)."
    )


class Uploads(Listed, Shown, Resource):
    """Files of articles, read in the background; a file that is uploaded again replaces what was read from it."""

    resource, rows = "articles", models.Upload
    serializer_class = UploadRow
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "state": Filter("state", serializers.ChoiceField(models.Upload.State.choices)),
    }

    def get_queryset(self) -> QuerySet:
        return super().get_queryset().defer("content")

    def get_parsers(self) -> list[Any]:
        return [MultiPartParser()]

    @extend_schema(request={"multipart/form-data": NewUpload}, responses={202: UploadRow})
    def create(self, request: Any) -> Response:
        """Take a file in; how far it is read, and which of it could not be, stands on the upload."""
        told = NewUpload(data=request.data)
        told.is_valid(raise_exception=True)
        chatbot, file = told.validated_data["chatbot"], told.validated_data["file"]
        try:
            upload = uploads.take(chatbot, file.name, file.read())
        except Unreadable as refused:
            raise Problem("invalid", f"the file {refused}", pointer="/file") from None
        upload.refresh_from_db(fields=["created_at"])
        response = self.made(upload)
        response.status_code = 202
        return response


# --- gaps -----------------------------------------------------------------------------------


class GapTold(Shape):
    chatbot = serializers.UUIDField(source="chatbot_id")
    title = serializers.CharField(help_text="Of the article to be written, until somebody finds a better one.")
    questions = serializers.ListField(child=serializers.CharField(), help_text="Five at most.")
    asked = Whole(help_text="How often.")
    handed_over = Whole(help_text="Of which a person had to answer.")
    last = Moment()


class GapReport(Shape):
    results = GapTold(many=True)


class Gaps(Resource):
    """What customers ask and no article answers, grouped by meaning."""

    resource, rows = "gaps", models.Lookup
    pagination_class = None

    @extend_schema(responses=GapReport)
    def retrieve(self, request: Any) -> Response:
        """The hundred most asked, of the newest thousand questions."""
        lists.chosen(request, {}, set())
        return Response(GapReport({"results": gaps.report()[:MOST_GAPS]}).data)


# --- saved replies --------------------------------------------------------------------------


class Examples(serializers.ListField):
    """The texts of a reply's example questions, in the order in which they came."""

    def to_representation(self, rows: Any) -> list[str]:
        return [example.text for example in sorted(rows.all(), key=lambda example: example.id)]


class SavedReplyRow(Row):
    """A text with placeholders such as {{ order.status }}, and questions that it answers, as customers ask them."""

    chatbot = Ref(models.Chatbot.objects.all)
    text = Text(max_length=4000)
    examples = Examples(child=Matching(r"\S", max_length=500), required=False, max_length=MOST_EXAMPLES)

    class Meta:
        model = models.SavedReply
        fields: ClassVar[Any] = (
            "id", "chatbot", "name", "text", "state", "examples", "proposed_from", "given", "created_at",
        )  # fmt: skip
        read_only_fields = ("proposed_from", "given")
        validators: list[Any] = []

    def validate_text(self, text: str) -> str:
        try:
            placeholders.placeholders(text)
        except placeholders.BadPlaceholder as problem:
            raise Problem("conflict", str(problem), pointer="/text") from None
        return text


class ChangedSavedReply(SavedReplyRow):
    chatbot = Ref(read_only=True)


class SavedReplies(Listed, Shown, Changed, Removed, Resource):
    """Answers that need no model. `proposed` ones come from what customers were told; a person approves or retires."""

    resource, rows = "saved-replies", models.SavedReply
    serializer_class = SavedReplyRow
    fleeting = frozenset({"given"})
    filters = {
        "chatbot": Filter("chatbot_id", Id()),
        "state": Filter("state", serializers.ChoiceField(models.SavedReply.State.choices)),
    }

    def get_queryset(self) -> QuerySet:
        return super().get_queryset().prefetch_related("examples")

    def get_serializer_class(self) -> Any:
        return ChangedSavedReply if self.action == "partial_update" else self.serializer_class

    def create(self, request: Any) -> Response:
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        examples = told.validated_data.pop("examples", [])
        make_room(models.SavedReply.objects.all())
        return self.made(self._with(examples, told.save(tenant_id=self.caller.tenant_id)))

    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        told = self.get_serializer(self.get_object(), data=request.data, partial=True)
        told.is_valid(raise_exception=True)
        examples = told.validated_data.pop("examples", None)
        return self.shown(self._with(examples, told.save()))

    def _with(self, examples: list[str] | None, reply: models.SavedReply) -> models.SavedReply:
        """With these example questions; None: with those it has."""
        if examples is not None:
            saved_replies.put_examples(reply, examples)
        row: models.SavedReply = self.get_queryset().get(pk=reply.pk)
        return row
