"""What a chatbot may tell: articles, the passages that they are found by, and files on their way in."""

from __future__ import annotations

from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models.functions import MD5, Concat
from pgvector.django import HalfVectorField

from accounts.models import TenantRow
from cascade.embedder import SIZE
from cascade.models.chatbots import Chatbot
from cascade.models.constraints import unique


class Article(TenantRow):
    """One of a tenant's help articles; what is found of it and put before the models are its passages."""

    MOST = 10_000  # of a chatbot

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="articles")
    slug = models.SlugField(max_length=100)
    title = models.CharField(max_length=200)
    body = models.TextField(max_length=20000)
    source = models.CharField(max_length=200, blank=True, editable=False, help_text="The file it was read from.")
    content_hash = models.GeneratedField(
        expression=MD5(Concat("title", models.Value("\n"), "body", output_field=models.TextField())),
        output_field=models.CharField(),
        db_persist=True,
    )
    indexed_as = models.CharField(
        max_length=64, blank=True, editable=False, help_text="`made_from` of the passages that are searched."
    )
    searched_from = models.PositiveIntegerField(
        null=True, editable=False, help_text="The chatbot's knowledge version that first had it as it is searched."
    )  # None: it is not searched yet
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [unique("one_article_a_slug", "chatbot", "slug")]

    def __str__(self) -> str:
        return self.title


class Passage(TenantRow):
    """A piece of an article as it is searched. `cascade.knowledge` is the only writer.

    Searched are those whose `made_from` is their article's `indexed_as`; others wait until the index is whole.
    """

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="passages")
    article = models.ForeignKey(Article, models.CASCADE, related_name="passages")
    made_from = models.CharField(max_length=64, help_text="Hash of the article's text, and the maker of the vectors.")
    position = models.PositiveSmallIntegerField(help_text="In the article, from 0.")
    title = models.CharField(max_length=200)
    text = models.TextField()
    embedding = HalfVectorField(dimensions=SIZE)  # of title and text
    words = models.GeneratedField(
        expression=SearchVector("title", weight="A", config="english")
        + SearchVector("text", weight="B", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints = [unique("one_passage_a_position", "article", "made_from", "position")]
        indexes = [models.Index(fields=["tenant", "chatbot"], name="passages_of_a_chatbot")]

    def __str__(self) -> str:
        return f"{self.title}: {self.text[:60]}"


class Upload(TenantRow):
    """A file of articles, until it is read in the background, and what became of it."""

    MOST = 100  # that wait to be read

    class State(models.TextChoices):
        WAITING = "waiting"
        READING = "reading"
        READ = "read"
        REFUSED = "refused"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=200)
    content = models.BinaryField(null=True)  # None: it was read, or refused
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    files = models.PositiveIntegerField(default=1, help_text="In it: more than one in an archive.")
    files_read = models.PositiveIntegerField(default=0)
    articles_made = models.PositiveIntegerField(default=0)
    problems = models.JSONField(default=list, help_text="Files that no article was made of, and why.")

    def __str__(self) -> str:
        return self.name
