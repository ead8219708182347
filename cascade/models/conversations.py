"""What was said and asked: conversations, their turns and events, every model call.

`cascade.conversations` is the only writer of these rows.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import TenantRow
from cascade.models.chatbots import CascadeStrategy, Chatbot
from cascade.models.constraints import unique
from cascade.models.prices import Price


class Conversation(TenantRow):
    class State(models.TextChoices):
        OPEN = "open"
        HANDED_OVER = "handed_over", "waiting for a person"
        CLOSED = "closed"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="conversations")
    customer = models.ForeignKey("accounts.Customer", models.CASCADE, related_name="conversations")
    state = models.CharField(max_length=12, choices=State, default=State.OPEN)
    last_seq = models.PositiveBigIntegerField(default=0, help_text="The last sequence number given to a frame.")
    summary = models.TextField(blank=True, help_text="Of what no longer fits the window.")
    summarised = models.PositiveIntegerField(default=0, help_text="How many messages the summary stands for.")
    records_fetched_at = models.DateTimeField(null=True, help_text="From the chatbot's record source.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "-updated_at"], name="conversations_by_time")]

    def __str__(self) -> str:
        return f"conversation {self.id}"


class Turn(TenantRow):
    """A customer's question and what came of it."""

    class State(models.TextChoices):
        OPEN = "open"
        ANSWERED = "answered"
        HANDED_OVER = "handed_over", "handed over"
        REFUSED = "refused"
        CANCELLED = "cancelled"
        INTERRUPTED = "interrupted"

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="turns")
    client_id = models.CharField(max_length=64, help_text="The sender's own id: a message sent twice is one turn.")
    body_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=12, choices=State, default=State.OPEN)
    problem = models.CharField(max_length=40, blank=True, help_text="Why it was refused or handed over.")
    strategy = models.ForeignKey(CascadeStrategy, models.PROTECT, null=True)
    process_key = models.BigIntegerField(help_text="The advisory lock held by the process that answers.")
    context_report = models.JSONField(default=dict, help_text="What was cut, how old the records were.")
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            unique("one_turn_a_client_id", "conversation", "client_id"),
            unique("one_open_turn_a_conversation", "conversation", condition=Q(state="open")),
        ]
        indexes = [models.Index(fields=["tenant", "created_at"], name="turns_by_time")]

    def __str__(self) -> str:
        return f"turn {self.id}"


class Message(TenantRow):
    class Role(models.TextChoices):
        CUSTOMER = "customer"
        ASSISTANT = "assistant"
        STAFF = "staff"

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages")
    turn = models.ForeignKey(Turn, models.CASCADE, null=True, related_name="messages")  # None: staff wrote unasked
    role = models.CharField(max_length=9, choices=Role)
    text = models.TextField()
    seq = models.PositiveBigIntegerField()
    corrects = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="corrections",
        help_text="The reply that was wrong; a person of the tenant wrote this in its place.",
    )

    class Meta:
        constraints = [unique("one_message_a_seq", "conversation", "seq")]
        indexes = [models.Index(fields=["tenant", "-id"], name="newest_messages")]

    def __str__(self) -> str:
        return f"{self.role}: {self.text[:60]}"


class TurnContext(TenantRow):
    """What the models and the scorer were shown of the customer, as it was then: what a label is learnt from.

    Kept for `scorer_labels.REMEMBERED`, and as long as the turn at most.
    """

    turn = models.OneToOneField(Turn, models.CASCADE, related_name="context")
    context = models.JSONField()  # a `cascade.values.Context`

    class Meta:
        indexes = [models.Index(fields=["tenant", "created_at"], name="contexts_by_time")]

    def __str__(self) -> str:
        return f"context of {self.turn_id}"


class ModelCall(TenantRow):
    """An attempt on record: written as `asked` before the provider is called, then what became of it."""

    turn = models.ForeignKey(Turn, models.CASCADE, related_name="calls")
    number = models.PositiveSmallIntegerField(help_text="Order within the turn, from 1.")
    tier = models.SmallIntegerField(help_text="Of the strategy's, from 0; -1: memory, which is asked before them.")
    model = models.CharField(max_length=100)
    threshold = models.FloatField()
    outcome = models.CharField(max_length=10, default="asked")
    error = models.CharField(max_length=40, blank=True)
    text = models.TextField(blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    prompt_tokens = models.PositiveIntegerField(default=0, help_text="Upper estimate, made before the call.")
    max_output_tokens = models.PositiveIntegerField(default=0)
    written_characters = models.PositiveIntegerField(default=0, help_text="Output journalled while it streamed.")
    input_tokens = models.PositiveIntegerField(null=True)  # None: usage is not known yet
    output_tokens = models.PositiveIntegerField(null=True)
    cached_input_tokens = models.PositiveIntegerField(default=0)
    cache_write_tokens = models.PositiveIntegerField(default=0)
    reasoning_tokens = models.PositiveIntegerField(default=0)
    estimated = models.BooleanField(default=False)
    cost_micros = models.BigIntegerField(null=True)  # None: not billed yet
    price = models.ForeignKey(Price, models.PROTECT, null=True)
    score = models.FloatField(null=True)  # None: not scored; never accepted
    scorer_version = models.CharField(max_length=64, blank=True)
    first_token_seconds = models.FloatField(null=True)  # None: no token came
    seconds = models.FloatField(null=True)  # None: not finished

    class Meta:
        constraints = [unique("one_call_a_number", "turn", "number")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="calls_by_time")]

    def __str__(self) -> str:
        return f"{self.model} {self.outcome}"


class Feedback(TenantRow):
    """What a customer thought of a reply: the scorer's labels."""

    message = models.OneToOneField(Message, models.CASCADE, related_name="feedback")
    rating = models.SmallIntegerField(help_text="1 good, -1 bad.")
    comment = models.TextField(max_length=2000, blank=True)

    class Meta:
        verbose_name_plural = "feedback"
        constraints = [models.CheckConstraint(condition=Q(rating__in=[-1, 1]), name="rating_is_up_or_down")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="feedback_by_time")]

    def __str__(self) -> str:
        return f"{self.rating:+d}"


class Event(TenantRow):
    """Frames of a conversation, stored before they are sent, so that a socket can resume after any of them.

    One row holds the consecutive frames `first_seq..last_seq`: a whole reply is one row.
    """

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="events")
    first_seq = models.PositiveBigIntegerField()
    last_seq = models.PositiveBigIntegerField()
    frames = models.JSONField()  # a list of {"event", "message_id", "reply_to", "data"}

    class Meta:
        constraints = [unique("one_event_a_seq", "conversation", "first_seq")]
        indexes = [models.Index(fields=["conversation", "last_seq"], name="events_to_resume")]

    def __str__(self) -> str:
        return f"{self.first_seq}..{self.last_seq}"
