"""The rows around the engine: chatbots and their cascades, conversations and every model call.

`cascade.conversations` is the only writer of conversations, messages, calls and events.
`LanguageModel` and `Price` belong to the operator; only a price may be one tenant's own.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import MD5, Concat
from pgvector.django import HalfVectorField, HnswIndex
from uuid_utils.compat import uuid7

from accounts.models import TenantRow
from cascade.embedder import SIZE

SHARE = [MinValueValidator(0.0), MaxValueValidator(1.0)]


def unique(name: str, *fields: str, condition: Q | None = None) -> models.UniqueConstraint:
    return models.UniqueConstraint(fields=fields, name=name, condition=condition)


# --- what can be asked, and what it costs -------------------------------------------------


class LanguageModel(models.Model):
    """A model that the operator has made available. Provider names are data, not choices."""

    name = models.CharField(max_length=100, unique=True)
    provider = models.CharField(max_length=40)
    remote_name = models.CharField(max_length=200, help_text="What the provider calls it.")
    base_url = models.URLField(blank=True, help_text="Empty: the provider's own address.")
    enabled = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class Price(models.Model):
    """US dollars per million tokens from a moment on. Never edited, only superseded by a later one.

    One with a tenant is an override: what that tenant's calls cost, whatever the list says. It ends where
    `valid_until` says, and then the list's price holds again.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", models.PROTECT, null=True, blank=True, related_name="+")  # None: all
    model = models.ForeignKey(LanguageModel, models.PROTECT, related_name="prices")
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)  # None: until it is superseded
    input = models.DecimalField(max_digits=14, decimal_places=6)
    output = models.DecimalField(max_digits=14, decimal_places=6)
    cached_input = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    cache_write = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    reasoning = models.DecimalField(max_digits=14, decimal_places=6, null=True, blank=True)
    per_request = models.DecimalField(max_digits=14, decimal_places=6, default=0, help_text="US dollars a call.")
    batch = models.DecimalField(
        max_digits=5, decimal_places=4, null=True, blank=True, help_text="0.5: half, through the provider's batch door."
    )
    long_prompts = models.JSONField(
        default=list,
        blank=True,
        help_text='{"above": tokens, "input": "0.2", "output": "0.75", ...}: rates of calls with so long a prompt.',
    )
    source = models.CharField(max_length=200)

    class Meta:
        constraints = [
            unique("one_price_a_moment", "model", "valid_from", condition=Q(tenant=None)),
            unique("one_override_a_moment", "tenant", "model", "valid_from"),
            models.CheckConstraint(
                condition=Q(input__gte=0, output__gte=0, per_request__gte=0)
                & (Q(cached_input=None) | Q(cached_input__gte=0))
                & (Q(cache_write=None) | Q(cache_write__gte=0))
                & (Q(reasoning=None) | Q(reasoning__gte=0))
                & (Q(batch=None) | Q(batch__gte=0)),
                name="prices_are_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(tenant__isnull=False, valid_until__gte=models.F("valid_from")),
                name="only_an_override_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"


# --- what a tenant sets up ----------------------------------------------------------------


class Chatbot(TenantRow):
    """One assistant of a tenant: what it is told, how good an answer must be, when a person takes over."""

    name = models.CharField(max_length=100)
    widget = models.OneToOneField("accounts.Widget", models.PROTECT, related_name="chatbot")
    instructions = models.TextField(max_length=8000)
    tone = models.CharField(max_length=200, blank=True)
    floor = models.FloatField(
        default=0.5,
        validators=SHARE,
        help_text="The dearest tier's answer needs this score; under it a person answers.",
    )
    hand_over_text = models.TextField(
        max_length=1000, default="I would rather have a colleague answer this. Somebody will reply here soon."
    )
    stale_after = models.DurationField(
        default=timedelta(days=1), help_text="Older records are never asserted as current."
    )
    live_strategy = models.ForeignKey(
        "cascade.CascadeStrategy", models.PROTECT, null=True, blank=True, related_name="+"
    )
    explored_share = models.FloatField(
        "share of turns explored",
        default=0.0,
        validators=SHARE,
        help_text="Of answered turns, so many also ask the models that were not needed, after the reply; 0.05 is 5 %.",
    )
    explored_micros_a_day = models.BigIntegerField(
        "exploring costs at most, a day",
        default=0,
        validators=[MinValueValidator(0)],
        help_text="In millionths of a dollar, of what the providers charge; 0: nothing is explored.",
    )
    explored_models = ArrayField(
        models.CharField(max_length=100),
        default=list,
        blank=True,
        help_text="Models to try, separated by commas: explored turns ask them as well.",
    )
    reference_model = models.CharField(
        max_length=100,
        blank=True,
        help_text="Explored turns ask it as well; other answers are judged by the facts that it names.",
    )
    record_source_url = models.URLField(blank=True, help_text="Asked for fresh records at the start of a turn.")
    record_source_secret = models.BinaryField(null=True, blank=True)  # sealed; None without a source
    record_source_ttl = models.DurationField(default=timedelta(minutes=1))
    wrong_hits = models.FloatField(
        default=0.01,
        validators=[MinValueValidator(0.0), MaxValueValidator(0.1)],
        help_text="The share of remembered answers that may be wrong ones; 0: nothing is remembered.",
    )
    check_share = models.FloatField(
        default=0.02,
        validators=SHARE,
        help_text="Of the questions that memory could answer, so many are answered afresh, to check it.",
    )
    remembered_for = models.DurationField(
        default=timedelta(days=30), help_text="A remembered answer is forgotten after so long."
    )
    most_remembered = models.PositiveIntegerField(
        default=20_000, help_text="Of more answers, those that save least are forgotten."
    )
    knowledge_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="Of the index of its articles; another with every change. 0: none yet."
    )

    def __str__(self) -> str:
        return self.name


class CascadeStrategy(TenantRow):
    """An immutable version of a chatbot's cascade.

    `tiers` is a list, cheapest first, of {"model", "threshold", "deadline_seconds", "max_output_tokens"};
    the last tier's threshold is the chatbot's floor, whatever stands here.
    """

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="strategies")
    version = models.PositiveIntegerField()
    tiers = models.JSONField()
    deadline_seconds = models.FloatField()

    class Meta:
        verbose_name_plural = "cascade strategies"
        constraints = [unique("one_strategy_a_version", "chatbot", "version")]

    def __str__(self) -> str:
        return f"{self.chatbot} v{self.version}"

    @property
    def asks(self) -> str:
        """The tiers in one line."""
        return " → ".join(f"{tier['model']} (≥ {tier['threshold']:g})" for tier in self.tiers)


class Article(TenantRow):
    """One of a tenant's help articles; what is found of it and put before the models are its passages."""

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


# --- what happens -------------------------------------------------------------------------


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


class Feedback(TenantRow):
    """What a customer thought of a reply: the scorer's labels."""

    message = models.OneToOneField(Message, models.CASCADE, related_name="feedback")
    rating = models.SmallIntegerField(help_text="1 good, -1 bad.")
    comment = models.TextField(max_length=2000, blank=True)

    class Meta:
        verbose_name_plural = "feedback"
        constraints = [models.CheckConstraint(condition=Q(rating__in=[-1, 1]), name="rating_is_up_or_down")]

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


# --- who judges the answers ---------------------------------------------------------------


class ScorerVersion(TenantRow):
    """Weights of a tenant's own. A tenant without a live version is judged by the shipped weights.

    `cascade.scorer_versions` is the only writer.
    """

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        SHADOW = "shadow", "shadow: its scores are recorded, not acted on"
        LIVE = "live"
        RETIRED = "retired"

    weights_version = models.CharField(max_length=64, help_text="As the weights' manifest has it.")
    folder = models.CharField(max_length=200, help_text="Below VAR_DIR/scorers.")
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    learnt_from = models.JSONField(default=dict, help_text="How many labels of which kind.")
    metrics = models.JSONField(default=dict, help_text="On the tenant's own validation customers, by slice.")
    comparison = models.JSONField(default=dict, help_text="With the live version, when it was last compared.")
    promoted_at = models.DateTimeField(null=True)  # None: never live
    promoted_by = models.CharField(max_length=150, blank=True)
    retired_at = models.DateTimeField(null=True)  # None: not retired
    retired_by = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints = [
            unique("one_live_scorer_a_tenant", "tenant", condition=Q(state="live")),
            unique("one_shadow_scorer_a_tenant", "tenant", condition=Q(state="shadow")),
            unique("one_row_a_scorer_version", "tenant", "weights_version"),
        ]

    def __str__(self) -> str:
        return self.weights_version


class ShadowScore(TenantRow):
    """What a version that is not live yet says of an answer, beside the score on the model call."""

    call = models.ForeignKey(ModelCall, models.CASCADE, related_name="shadow_scores")
    version = models.ForeignKey(ScorerVersion, models.CASCADE, related_name="shadow_scores")
    score = models.FloatField(null=True)  # None: it could not tell

    class Meta:
        constraints = [unique("one_shadow_score_a_call", "version", "call")]

    def __str__(self) -> str:
        return f"{self.score}"


class ScorerCalibration(TenantRow):
    """What a tenant's labels say of the scores of one set of weights, and of how often accepted answers disappoint."""

    weights_version = models.CharField(max_length=64)
    scale = models.FloatField(default=1.0)
    shift = models.FloatField(default=0.0)
    labels = models.PositiveIntegerField(default=0)
    expected_bad = models.FloatField(validators=SHARE, help_text="The share of rated answers that disappoint.")
    expected_worth = models.FloatField(help_text="So many ratings of one customer weigh as much.")
    fitted_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [unique("one_calibration_a_version", "tenant", "weights_version")]

    def __str__(self) -> str:
        return f"{self.scale:.2f} x + {self.shift:.2f}"


# --- learning the cascade -----------------------------------------------------------------


class StrategyChange(TenantRow):
    """By which strategy a chatbot lives from now on, and who said so. Never changed, never deleted.

    `cascade.strategies` is the only writer, of this and of `Chatbot.live_strategy`.
    """

    class Kind(models.TextChoices):
        PROMOTED = "promoted"
        ROLLED_BACK = "rolled_back", "rolled back"

    chatbot = models.ForeignKey(Chatbot, models.PROTECT, related_name="strategy_changes")
    kind = models.CharField(max_length=11, choices=Kind)
    before = models.ForeignKey(CascadeStrategy, models.PROTECT, null=True, related_name="+")  # None: there was none
    after = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    by = models.CharField(max_length=150)

    class Meta:
        indexes = [models.Index(fields=["chatbot", "created_at"], name="strategy_changes_by_time")]

    def __str__(self) -> str:
        return f"{self.before or 'none'} → {self.after}"


class Exploration(TenantRow):
    """A turn that was looked at for exploring: with which chance it was drawn, and what became of it.

    Its id stands for the turn on the hold and the charges of what was asked.
    """

    class State(models.TextChoices):
        PASSED = "passed", "not drawn"
        ASKING = "asking"
        DONE = "done"
        BROKEN_OFF = "broken_off", "broken off"

    turn = models.OneToOneField(Turn, models.CASCADE, related_name="exploration")
    chance = models.FloatField(validators=SHARE, help_text="Of being drawn; 0: it could not be afforded.")
    state = models.CharField(max_length=10, choices=State, default=State.PASSED)

    class Meta:
        indexes = [models.Index(fields=["tenant"], name="explorations_asking", condition=Q(state="asking"))]

    def __str__(self) -> str:
        return f"{self.get_state_display()}, chance {self.chance:g}"


class Proposal(TenantRow):
    """A search for a better strategy on the chatbot's own turns, and the version that it proposes."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        PROPOSED = "proposed"
        REFUSED = "refused", "no proposal"
        FAILED = "failed"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="proposals")
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    percent = models.PositiveSmallIntegerField(default=0)
    step = models.CharField(max_length=100, blank=True, help_text="What is being done.")
    wish = models.JSONField(default=dict, help_text="What was asked for.")
    report = models.JSONField(default=dict, help_text="What was found.")
    refusal = models.TextField(blank=True, help_text="Why nothing is proposed.")
    strategy = models.OneToOneField(CascadeStrategy, models.PROTECT, null=True, related_name="proposal")
    asked_by = models.CharField(max_length=150)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "created_at"], name="proposals_by_time")]

    def __str__(self) -> str:
        return f"proposal of {self.created_at:%Y-%m-%d %H:%M}"


class ShadowTrial(TenantRow):
    """A strategy that decides beside the live one, unseen, and is compared with it once, after so many turns."""

    class State(models.TextChoices):
        RUNNING = "running"
        COMPARED = "compared"
        STOPPED = "stopped"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="shadow_trials")
    strategy = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    live = models.ForeignKey(CascadeStrategy, models.PROTECT, related_name="+")
    turns = models.PositiveIntegerField(help_text="After so many turns they are compared.")
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    report = models.JSONField(default=dict)
    begun_by = models.CharField(max_length=150)
    ended_at = models.DateTimeField(null=True)  # None: it runs

    class Meta:
        constraints = [unique("one_running_trial_a_chatbot", "chatbot", condition=Q(state="running"))]

    def __str__(self) -> str:
        return f"{self.strategy} beside {self.live}"


class DriftReading(TenantRow):
    """What one measure of a chatbot's week came to, beside the weeks before: an event where it left its band."""

    class Measure(models.TextChoices):
        SCORES = "scores", "scores of first answers"
        ACCEPTED = "accepted", "first answers accepted"
        COST = "cost", "cost of a turn"
        LABELLED = "labelled", "replies that somebody judged"

    chatbot = models.ForeignKey(Chatbot, models.CASCADE, related_name="drift_readings")
    segment = models.CharField(max_length=200, blank=True, help_text="Of customers; empty: all.")
    measure = models.CharField(max_length=8, choices=Measure)
    week = models.DateField(help_text="Its Monday, where the tenant is.")
    turns = models.PositiveIntegerField()
    reference_turns = models.PositiveIntegerField()
    reference = models.FloatField()
    value = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    p_value = models.FloatField()
    out_of_band = models.BooleanField()

    class Meta:
        constraints = [unique("one_reading_a_week", "chatbot", "segment", "measure", "week")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="drift_events", condition=Q(out_of_band=True))]

    def __str__(self) -> str:
        return f"{self.get_measure_display()} in the week of {self.week}"
