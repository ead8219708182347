"""Who asks and who pays: tenants, their members, keys, widgets and customers, and the books.

Every row but `User` belongs to one tenant and is hidden from all others by row-level security
(`accounts.tenancy`). Money is written by `accounts.ledger` alone.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import origins


class User(AbstractUser):
    """Somebody who can log in. What they may see is decided by their `Member` rows."""


def check_time_zone(name: str) -> None:
    """For forms: the database refuses what PostgreSQL does not know, this what Python does not."""
    if name not in available_timezones():
        raise ValidationError(f"{name} is no time zone: it has a name like Europe/Berlin")


class Tenant(models.Model):
    """A company that puts the widget on its site, and pays."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200)
    slug = models.SlugField(unique=True)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[check_time_zone])
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name

    def midnight(self) -> datetime:
        """When today began where the tenant is."""
        return timezone.now().astimezone(ZoneInfo(self.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0)


class TenantRow(models.Model):
    """What belongs to one tenant. The id is a UUIDv7: unguessable to others, ordered by time.

    `created_at` is the database's time: the books do not depend on the clock of a web server.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        abstract = True


class Member(TenantRow):
    """A user's role in one tenant."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        ANALYST = "analyst"
        SUPPORT = "support"

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_a_member")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ApiKey(TenantRow):
    """A program's key. The secret is shown once; only its hash is kept."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_hash = models.CharField(max_length=128)
    scopes = ArrayField(models.CharField(max_length=40), default=list)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: does not expire.")
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


def eighty_and_all() -> list[int]:
    """Per cent; for columns."""
    return [80, 100]


def check_origins(allowed: list[str]) -> None:
    """For forms: what `origins.check_allowed` says."""
    try:
        origins.check_allowed(allowed)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class Widget(TenantRow):
    """The chat widget on a tenant's site: its public key, where it may stand, how customers are known."""

    class Identity(models.TextChoices):
        OFF = "off", "everybody is a visitor"
        OPTIONAL = "optional", "signed customers and visitors"
        REQUIRED = "required", "signed customers only"

    public_key = models.CharField(max_length=40, unique=True)
    allowed_origins = ArrayField(models.CharField(max_length=255), default=list, blank=True, validators=[check_origins])
    identity = models.CharField(max_length=10, choices=Identity, default=Identity.OPTIONAL)

    def __str__(self) -> str:
        return self.public_key


class WidgetSecret(TenantRow):
    """A secret with which the tenant signs its customers' identity tokens; two live ones at most."""

    widget = models.ForeignKey(Widget, models.CASCADE, related_name="secrets")
    kid = models.CharField(max_length=40)
    sealed = models.BinaryField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["widget", "kid"], name="one_secret_a_kid")]

    def __str__(self) -> str:
        return self.kid


class Customer(TenantRow):
    """The end user who asks. Attributes are the tenant's word, never the customer's own."""

    external_id = models.CharField(max_length=200)
    attributes = models.JSONField(default=dict, blank=True)
    verified = models.BooleanField(default=False, help_text="False: a visitor nobody vouched for.")
    locale = models.CharField(max_length=35, blank=True)
    signed_at = models.DateTimeField(null=True, editable=False)  # the newest identity that was applied; None: none was

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "external_id"], name="one_customer_an_external_id")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="customers_by_time")]

    def __str__(self) -> str:
        return str(self.attributes.get("name") or self.external_id)


class CustomerRecord(TenantRow):
    """One thing the tenant knows of a customer: an order, a plan, a reservation."""

    customer = models.ForeignKey(Customer, models.CASCADE, related_name="records")
    type = models.CharField(max_length=40)
    external_id = models.CharField(max_length=200)
    as_of = models.DateTimeField(help_text="When the tenant last vouched for it.")
    data = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer", "type", "external_id"], name="one_record_an_external_id")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.external_id}"


class Account(models.Model):
    """A tenant's money at one glance: what is left and what is on hold. `check_ledger` proves it."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, primary_key=True)
    balance_micros = models.BigIntegerField(default=0)
    held_micros = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(held_micros__gte=0), name="held_is_not_negative")]

    def __str__(self) -> str:
        return f"account of {self.tenant_id}"


class Tariff(TenantRow):
    """What the tenant pays from a moment on: never edited, only superseded (`accounts.tariffs`).

    Either `margin` on top of what the providers charge, or `reply_micros` for each accepted reply.
    """

    valid_from = models.DateTimeField(db_default=Now())
    margin = models.DecimalField(
        max_digits=8, decimal_places=4, null=True, blank=True, help_text="0.25 is 25 % on top of the providers' charge."
    )
    reply_micros = models.BigIntegerField(null=True, blank=True, help_text="For an accepted reply.")
    included_micros = models.BigIntegerField(default=0, help_text="Of each month's charges, the first that are free.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "valid_from"], name="one_tariff_a_moment"),
            models.CheckConstraint(
                condition=Q(margin__isnull=False, margin__gte=0, reply_micros=None)
                | Q(margin=None, reply_micros__isnull=False, reply_micros__gte=0),
                name="a_tariff_has_one_price",
            ),
            models.CheckConstraint(condition=Q(included_micros__gte=0), name="included_is_not_negative"),
            models.CheckConstraint(condition=Q(valid_from__gte=F("created_at")), name="no_tariff_begins_in_the_past"),
        ]

    def __str__(self) -> str:
        return f"tariff from {self.valid_from:%Y-%m-%d}"


class Allowance(TenantRow):
    """How much of a month's included quota is used, and reserved by open holds."""

    period = models.DateField()
    used_micros = models.BigIntegerField(default=0)
    held_micros = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "period"], name="one_allowance_a_month"),
            models.CheckConstraint(condition=Q(used_micros__gte=0, held_micros__gte=0), name="allowance_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.used_micros} µ$ of the quota used in {self.period:%Y-%m}"


class Budget(TenantRow):
    """A limit on what turns may cost the tenant, before any quota (`accounts.budgets`).

    Hard: a turn that might exceed it is refused before any call. Soft: it is told of, and from the limit
    on only the cheapest tiers are asked. Without a subject each chatbot, segment or customer has the limit.
    """

    class Scope(models.TextChoices):
        TENANT = "tenant", "everything together"
        CHATBOT = "chatbot"
        SEGMENT = "segment", "segment of customers"
        CUSTOMER = "customer"

    class Period(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        TOTAL = "total"

    scope = models.CharField(max_length=8, choices=Scope)
    subject = models.CharField(
        max_length=200, blank=True, help_text="A chatbot's or customer's id or a segment's name; empty: each has this."
    )
    period = models.CharField(max_length=5, choices=Period)
    limit_micros = models.BigIntegerField("limit (millionths of a dollar)", validators=[MinValueValidator(0)])
    hard = models.BooleanField(default=True, help_text="Refuses turns; a soft one tells, and asks cheaper models.")
    shares = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1)]),
        default=eighty_and_all,
        blank=True,
        help_text="At these per cent of the limit the tenant is told.",
    )
    cheapest_tiers = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Past a soft limit only so many of the cheapest tiers are asked; empty: all.",
    )
    refusal = models.TextField(
        max_length=1000,
        default="I cannot answer any more questions right now. Please try again later.",
        help_text="What the customer is told when a hard limit is reached.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit_micros__gte=0), name="limit_is_not_negative"),
            models.CheckConstraint(condition=~Q(scope="tenant") | Q(subject=""), name="tenant_budget_has_no_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()}, {self.get_period_display()}"


class BudgetSpending(TenantRow):
    """What one subject has spent of a budget since a day, and may still spend in open turns."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="spendings")
    starts = models.DateField()  # where the tenant is; of a budget without a period: 1970-01-01
    subject = models.CharField(max_length=200, blank=True)
    spent_micros = models.BigIntegerField(default=0)
    held_micros = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "starts", "subject"], name="one_spending_a_subject_and_period"),
            models.CheckConstraint(condition=Q(held_micros__gte=0), name="spending_held_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.spent_micros} µ$ since {self.starts}"


class BudgetEvent(TenantRow):
    """A share of a budget was reached; told once."""

    spending = models.ForeignKey(BudgetSpending, models.CASCADE, related_name="events")
    share = models.PositiveSmallIntegerField(help_text="Per cent of the limit.")
    spent_micros = models.BigIntegerField()
    mailed_at = models.DateTimeField(null=True)  # None: nobody has been written to

    class Meta:
        constraints = [models.UniqueConstraint(fields=["spending", "share"], name="a_share_is_told_once")]

    def __str__(self) -> str:
        return f"{self.share} % of a budget"


class Hold(TenantRow):
    """Money set aside for one turn before any model is called; settled exactly once.

    The tariff and the month are those of the moment it was made, whatever changes while the turn runs.
    """

    turn_id = models.UUIDField(unique=True)
    period = models.DateField()  # the first day of the month, where the tenant is
    tariff = models.ForeignKey(Tariff, models.PROTECT, null=True, related_name="+")  # None: at the providers' charge
    included_micros = models.BigIntegerField(default=0)  # of the month's quota, reserved beside the amount
    amount_micros = models.BigIntegerField()
    spendings = ArrayField(models.UUIDField(), default=list)  # of budgets, in which the turn is reserved
    settled_at = models.DateTimeField(null=True)  # None: still open
    spent_micros = models.BigIntegerField(null=True)  # None until settled

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_micros__gte=0), name="hold_is_not_negative"),
            models.CheckConstraint(
                condition=Q(settled_at=None, spent_micros=None) | Q(settled_at__isnull=False, spent_micros__gte=0),
                name="settled_hold_says_what_was_spent",
            ),
            models.CheckConstraint(condition=Q(included_micros__gte=0), name="reserved_quota_is_not_negative"),
        ]
        indexes = [models.Index(F("created_at"), name="open_holds", condition=Q(settled_at=None))]

    def __str__(self) -> str:
        return f"hold of {self.amount_micros} µ$ for turn {self.turn_id}"


class LedgerEntry(TenantRow):
    """One movement of money. Never changed, never deleted; corrected by another entry.

    Four amounts keep the accounting equation in every row: what was received equals what the tenant's
    credit, the debt to the provider and our own result grow by. What a statement needs of the turn
    stands here as plain columns, so that the books read without the conversations they came from.
    """

    class Kind(models.TextChoices):
        TOP_UP = "top_up"
        CREDIT = "credit"
        CHARGE = "charge"
        ADJUSTMENT = "adjustment"

    kind = models.CharField(max_length=10, choices=Kind)
    period = models.DateField(help_text="The month it belongs to, where the tenant is.")
    received_micros = models.BigIntegerField(default=0, help_text="Money that came in.")
    amount_micros = models.BigIntegerField(help_text="The tenant's credit. Negative: the tenant pays.")
    cost_micros = models.BigIntegerField(default=0, help_text="What the provider charges.")
    result_micros = models.BigIntegerField(default=0, help_text="What is left to the operator.")
    included_micros = models.BigIntegerField(default=0, help_text="Of the charge, what the month's quota covered.")
    dearest_micros = models.BigIntegerField(
        default=0, help_text="What the strategy's dearest model would have cost; on one charge of each turn."
    )
    tariff = models.ForeignKey(Tariff, models.PROTECT, null=True, related_name="+")  # None: at the providers' charge
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="entries")
    corrects = models.ForeignKey("self", models.PROTECT, null=True, related_name="corrections")
    estimated = models.BooleanField(default=False, help_text="The provider did not report the usage.")
    memo = models.CharField(max_length=200, blank=True)
    # What is charged: a model call, or what else was used under an id of its own; null for top-ups and credits.
    source = models.CharField(max_length=10, blank=True, help_text="model, scorer, embedding or cache")
    call_id = models.UUIDField(null=True)
    turn_id = models.UUIDField(null=True)
    conversation_id = models.UUIDField(null=True)
    chatbot_id = models.UUIDField(null=True)
    number = models.PositiveSmallIntegerField(null=True)
    provider = models.CharField(max_length=40, blank=True)
    model = models.CharField(max_length=100, blank=True)
    tier = models.PositiveSmallIntegerField(null=True)
    outcome = models.CharField(max_length=10, blank=True)
    price_version = models.CharField(max_length=64, blank=True)
    input_tokens = models.IntegerField(default=0)
    output_tokens = models.IntegerField(default=0)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(fields=["call_id"], condition=Q(kind="charge"), name="a_call_is_charged_once"),
            models.CheckConstraint(
                condition=Q(received_micros=F("amount_micros") + F("cost_micros") + F("result_micros")),
                name="every_entry_balances",
            ),
            models.CheckConstraint(
                condition=Q(kind="top_up", amount_micros__gt=0, received_micros=F("amount_micros"), cost_micros=0)
                | Q(kind="credit", amount_micros__gt=0, received_micros=0, cost_micros=0)
                | Q(kind="charge", amount_micros__lte=0, received_micros=0, cost_micros__gte=0, included_micros__gte=0)
                | Q(kind="adjustment", received_micros=0),
                name="the_signs_fit_the_kind",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["top_up", "credit"], hold=None, call_id=None, corrects=None)
                | Q(kind="charge", hold__isnull=False, call_id__isnull=False, corrects=None)
                | Q(kind="adjustment", hold__isnull=False, call_id__isnull=False, corrects__isnull=False),
                name="an_entry_says_what_it_is_for",
            ),
            models.CheckConstraint(
                condition=Q(kind="adjustment") | Q(input_tokens__gte=0, output_tokens__gte=0),
                name="only_a_correction_takes_tokens_back",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="entries_by_time"),
            models.Index(fields=["tenant", "period", "id"], name="entries_by_period"),
            models.Index(fields=["call_id"], name="entries_by_call", condition=Q(call_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_micros} µ$"


class Statement(TenantRow):
    """A closed month: what the entries of that month came to, numbered without gaps. Never changed, never deleted.

    `lines` is what `accounts.statements.Line` says, a JSON object each, amounts in whole micro-dollars. `printed` is
    the page as it was when the month was closed, names and all: what is renamed later does not change it.
    """

    number = models.PositiveIntegerField()
    period = models.DateField()
    opening_micros = models.BigIntegerField(help_text="The tenant's credit before the month.")
    closing_micros = models.BigIntegerField(help_text="The tenant's credit after it.")
    lines = models.JSONField()
    printed = models.TextField(default="", help_text="A complete HTML page. Empty: it was closed without one.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "number"], name="one_statement_a_number"),
            models.UniqueConstraint(fields=["tenant", "period"], name="one_statement_a_month"),
            models.CheckConstraint(condition=Q(number__gte=1), name="statements_count_from_one"),
        ]

    def __str__(self) -> str:
        return f"statement {self.number}, {self.period:%B %Y}"


class Export(TenantRow):
    """A file of ledger entries that somebody asked for (`accounts.export_jobs`)."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "being written"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    UNFINISHED = (State.WAITING, State.RUNNING)

    format = models.CharField(max_length=10)
    first = models.DateField("from")
    last = models.DateField("to")
    equal = models.JSONField(default=dict, help_text="Column: value; nothing: every entry of these months.")
    asked_by = models.CharField(max_length=150)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    rows = models.PositiveBigIntegerField(default=0, help_text="Written so far.")
    manifest = models.JSONField(null=True)  # None until done: an `accounts.exports.Manifest`
    error = models.CharField(max_length=100, blank=True)
    begun_at = models.DateTimeField(null=True)  # None: waiting
    done_at = models.DateTimeField(null=True)  # None: neither done nor failed

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state="done", manifest__isnull=False) | ~Q(state="done") & Q(manifest__isnull=True),
                name="a_finished_export_has_a_manifest",
            )
        ]
        indexes = [models.Index(fields=["tenant", "-created_at"], name="exports_by_time")]

    def __str__(self) -> str:
        return f"{self.format}, {self.first:%Y-%m} to {self.last:%Y-%m}"


# --- doors for programs ----------------------------------------------------------------------


class KeptAnswer(TenantRow):
    """The answer to a POST with an Idempotency-Key, given again for a day (`accounts.rest.idempotency`)."""

    caller = models.CharField(max_length=60)  # "key:ID" or "user:ID"
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)  # of method, address and body
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    sealed = models.BinaryField()  # the body; it may hold a secret that is shown once

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "caller", "key"], name="one_answer_a_key")]
        indexes = [models.Index(fields=["tenant", "created_at"], name="answers_by_time")]

    def __str__(self) -> str:
        return f"answer {self.status} to {self.key}"


class AuditEntry(TenantRow):
    """Who changed what, from where. Written by triggers alone (`accounts.audit`), never changed, never deleted."""

    actor = models.CharField(max_length=60)  # "user:ID", "key:ID"; "system": a command or a job
    address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    action = models.CharField(max_length=6)  # insert, update or delete
    thing = models.CharField(max_length=40)  # a table
    row_id = models.CharField(max_length=40)
    changes = models.JSONField(help_text="Column: [before, after]; of what is personal or secret only the column.")

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["tenant", "created_at"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.thing}"


class Webhook(TenantRow):
    """An address of the tenant's that is told of events (`accounts.webhooks`)."""

    url = models.CharField(max_length=500)
    events = ArrayField(models.CharField(max_length=40))
    enabled = models.BooleanField(default=True)
    secret = models.BinaryField()  # sealed; it signs
    earlier_secret = models.BinaryField(
        null=True
    )  # sealed; signs too, while receivers change over; None: there is none

    def __str__(self) -> str:
        return self.url


class Delivery(TenantRow):
    """One event on its way to one webhook. Holds ids alone, nothing that was said; the row's id is the message's."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead", "given up after a day"
        DROPPED = "dropped", "whom it was about is erased, or the webhook is off"

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    happened_at = models.DateTimeField()
    content = models.JSONField()
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    problem = models.CharField(max_length=40, blank=True)  # of the last attempt
    delivered_at = models.DateTimeField(null=True)  # None: not delivered

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="deliveries_by_time"),
            models.Index(fields=["tenant", "due_at"], name="deliveries_due", condition=Q(state="pending")),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook_id}"
