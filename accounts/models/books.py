"""What it costs: tariffs, holds, entries, statements and exports. `accounts.ledger` alone writes money."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models.tenants import Tenant, TenantRow


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


class Hold(TenantRow):
    """Money set aside for one turn before any model is called; settled exactly once.

    The tariff and the month are those of the moment it was made, whatever changes while the turn runs.
    """

    turn_id = models.UUIDField(unique=True)
    period = models.DateField()  # the first day of the month, where the tenant is
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="+", db_index=False)
    # None: at the providers' charge
    tariff = models.ForeignKey(Tariff, models.PROTECT, null=True, related_name="+", db_index=False)
    included_micros = models.BigIntegerField(default=0)  # of the month's quota, reserved beside the amount
    amount_micros = models.BigIntegerField()
    spendings = ArrayField(models.UUIDField(), default=list)  # of budgets, in which the turn is reserved
    settled_at = models.DateTimeField(null=True)  # None: still open
    spent_micros = models.BigIntegerField(null=True)  # None until settled
    unheld = models.BooleanField(db_default=False, default=False)  # nothing was: the turn is at the operator's expense

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_micros__gte=0), name="hold_is_not_negative"),
            models.CheckConstraint(
                condition=Q(settled_at=None, spent_micros=None) | Q(settled_at__isnull=False, spent_micros__gte=0),
                name="settled_hold_says_what_was_spent",
            ),
            models.CheckConstraint(condition=Q(included_micros__gte=0), name="reserved_quota_is_not_negative"),
        ]
        indexes = [models.Index(fields=["tenant", "period"], name="open_holds", condition=Q(settled_at=None))]

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

    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="+", db_index=False)
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
    # None: at the providers' charge
    tariff = models.ForeignKey(Tariff, models.PROTECT, null=True, related_name="+", db_index=False)
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="entries", db_index=False)
    corrects = models.ForeignKey("self", models.PROTECT, null=True, related_name="corrections", db_index=False)
    estimated = models.BooleanField(default=False, help_text="The provider did not report the usage.")
    memo = models.CharField(max_length=200, blank=True)
    # What is charged: a model call, or what else was used under an id of its own; null for top-ups and credits.
    source = models.CharField(max_length=10, blank=True, help_text="model, scorer, embedding or cache")
    call_id = models.UUIDField(null=True)
    turn_id = models.UUIDField(null=True)
    conversation_id = models.UUIDField(null=True)
    chatbot_id = models.UUIDField(null=True)
    # which attempt of the turn; of the scorer and of embeddings: how many texts
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
            models.Index(fields=["tenant", "hold"], name="entries_by_hold", condition=Q(hold__isnull=False)),
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
    MOST = 10  # that are not finished

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
