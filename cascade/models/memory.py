"""What a chatbot remembers: answers, what was looked up and used of them, replies written by staff."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from pgvector.django import HalfVectorField, HnswIndex

from accounts.models import TenantRow
from cascade.embedder import SIZE
from cascade.models.chatbots import CascadeStrategy, Chatbot
from cascade.models.constraints import unique
from cascade.models.conversations import Turn


class RememberedAnswer(TenantRow):
    """An accepted answer that may be given again. `cascade.remembered` is the only writer.

    To whom: to `customer` alone; else to those of `segment`; with neither, to everybody of the chatbot.
    """

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="remembered")
    customer = models.ForeignKey(
        "accounts.Customer", models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: not personal."
    )
    segment = models.CharField(max_length=200, blank=True, help_text="Empty: whatever the segment.")
    question = models.TextField(help_text="As it was asked; after what it leans on, where it leans on something.")
    embedding = HalfVectorField(dimensions=SIZE)  # of `question`
    answer = models.TextField()
    answer_embedding = HalfVectorField(dimensions=SIZE)
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="remembered", help_text="In which it was given.")
    model = models.CharField(max_length=100)
    score = models.FloatField()
    scorer_version = models.CharField(max_length=64, blank=True)
    strategy = models.ForeignKey(CascadeStrategy, models.CASCADE, related_name="+")
    general = models.FloatField(help_text="Log odds that the question is nobody's own.")
    basis = models.CharField(max_length=64, help_text="Hash of the instructions, and of the records of `customer`.")
    articles = models.JSONField(default=dict, help_text="Hashes of the articles that it used, by slug.")
    knowledge_version = models.PositiveIntegerField(default=0, help_text="The chatbot's when the question came.")
    knowledge = models.CharField(max_length=64, help_text="Hash of the passages that were shown, as they were.")
    cost_micros = models.BigIntegerField(help_text="What it cost to be found: what giving it again saves.")
    dearest_micros = models.BigIntegerField(help_text="What the strategy's dearest model would have cost.")
    expires_at = models.DateTimeField()
    pinned = models.BooleanField(default=False, help_text="Neither too old nor too seldom used to be kept.")
    hits = models.PositiveIntegerField(default=0)
    last_hit_at = models.DateTimeField(null=True)  # None: not given again yet

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(customer=None) | Q(segment=""), name="remembered_in_one_scope"),
        ]
        indexes = [
            models.Index(fields=["tenant", "chatbot", "customer"], name="remembered_by_scope"),
            HnswIndex(
                fields=["embedding"],
                name="remembered_by_meaning",
                m=16,
                ef_construction=100,
                opclasses=["halfvec_cosine_ops"],
                condition=Q(customer=None),
            ),
        ]

    def __str__(self) -> str:
        return self.question[:80]


class Lookup(TenantRow):
    """What a turn searched the articles for, and how near it came. `cascade.gaps` is the only writer."""

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="lookups")
    turn = models.OneToOneField(Turn, models.CASCADE, related_name="lookup")
    question = models.TextField(help_text="With the one before it, where it leans on that.")
    embedding = HalfVectorField(dimensions=SIZE, null=True)  # of `question`; None: it came too late
    similarity = models.FloatField(null=True)  # of the best passage; None: no vector, or no passage
    own = models.BooleanField(help_text="The question is about something on the customer's record.")

    class Meta:
        verbose_name, verbose_name_plural = "question", "gaps"
        indexes = [models.Index(fields=["tenant", "created_at"], name="lookups_by_time")]

    def __str__(self) -> str:
        return self.question[:80]


class MemoryUse(TenantRow):
    """A question that a remembered answer could answer, and what came of it."""

    class Outcome(models.TextChoices):
        SERVED = "served"
        REFUSED = "refused", "not good enough for this customer"
        RIGHT = "right", "checked afresh: right"
        WRONG = "wrong", "checked afresh, or voted down: wrong"
        UNCLEAR = "unclear", "checked afresh: nothing to compare"

    remembered = models.ForeignKey(
        RememberedAnswer, models.SET_NULL, null=True, related_name="uses"
    )  # None: forgotten since
    turn = models.OneToOneField(Turn, models.CASCADE, related_name="memory_use")
    outcome = models.CharField(max_length=8, choices=Outcome)
    similarity = models.FloatField()
    confidence = models.FloatField(help_text="That the stored answer fits, as the hit rule has it.")
    saved_micros = models.BigIntegerField(default=0, help_text="What answering it afresh would have cost, about.")
    dearest_micros = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["tenant", "created_at"], name="memory_uses_by_time")]

    def __str__(self) -> str:
        return f"{self.outcome} {self.confidence:.3f}"


class SavedReply(TenantRow):
    """A text with placeholders that answers a kind of question without a model. `cascade.saved_replies` gives it."""

    MOST = 1000

    class State(models.TextChoices):
        PROPOSED = "proposed"
        APPROVED = "approved"
        RETIRED = "retired"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="saved_replies")
    name = models.CharField(max_length=100)
    text = models.TextField(
        max_length=4000, help_text="With placeholders such as {{ customer.name }} or {{ order.status }}."
    )
    state = models.CharField(max_length=8, choices=State, default=State.APPROVED)
    proposed_from = models.PositiveIntegerField(
        default=0, editable=False, help_text="So many accepted answers said the same; 0: written by staff."
    )
    given = models.PositiveIntegerField(default=0, editable=False, help_text="How often customers were shown it.")

    class Meta:
        verbose_name_plural = "saved replies"
        constraints = [unique("one_saved_reply_a_name", "chatbot", "name")]

    def __str__(self) -> str:
        return self.name


class ExampleQuestion(TenantRow):
    """A question that a saved reply answers: others are matched to it by meaning."""

    reply = models.ForeignKey(SavedReply, models.CASCADE, related_name="examples")
    text = models.CharField(max_length=500)
    embedding = HalfVectorField(dimensions=SIZE, null=True, editable=False)  # None: not computed yet, not matched

    class Meta:
        constraints = [unique("one_example_a_text", "reply", "text")]

    def __str__(self) -> str:
        return self.text[:80]
