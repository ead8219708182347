"""Accounts and money as the API tells them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from rest_framework import serializers

from accounts import models
from accounts.export_formats import FORMATS
from accounts.identity import VISITOR_PREFIX
from accounts.permissions import SCOPES
from accounts.rest.fields import Dollars, Id, JSONObject, Matching, PositiveDollars, Text, Whole
from accounts.rest.problems import Problem
from accounts.rest.rows import Row, Shape
from accounts.webhooks import EVENTS

MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"


class Tenant(Row):
    balance = Dollars(source="account.balance_micros", read_only=True)
    held = Dollars(source="account.held_micros", read_only=True)

    class Meta:
        model = models.Tenant
        fields = ("id", "name", "slug", "time_zone", "balance", "held", "created_at")
        read_only_fields = ("slug",)
        extra_kwargs: ClassVar[Any] = {"time_zone": {"validators": []}}

    def validate_time_zone(self, name: str) -> str:
        try:
            models.check_time_zone(name)
        except ValidationError as error:
            raise Problem("not_found", str(error.message), pointer="/time_zone") from None
        return name


class Member(Row):
    email = serializers.CharField(source="user.email", read_only=True)
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = models.Member
        fields = ("id", "email", "username", "role", "created_at")


class NewMember(Shape):
    email = Matching(r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,3}\Z", max_length=150)
    role = serializers.ChoiceField(models.Member.Role.choices)


class ApiKey(Row):
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), min_length=1, max_length=len(SCOPES))

    class Meta:
        model = models.ApiKey
        fields: Any = ("id", "name", "prefix", "scopes", "expires_at", "last_used_at", "revoked_at", "created_at")
        read_only_fields = ("prefix", "last_used_at", "revoked_at")


class NewApiKey(ApiKey):
    secret = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(ApiKey.Meta):
        fields: Any = (*ApiKey.Meta.fields, "secret")


class Customer(Row):
    external_id = Text(max_length=200)
    attributes = JSONObject(required=False)
    locale = Text(max_length=35, required=False, allow_blank=True)

    class Meta:
        model = models.Customer
        fields: Any = ("id", "external_id", "attributes", "locale", "verified", "created_at")
        read_only_fields: Any = ("verified",)
        validators: list[Any] = []


class ChangedCustomer(Customer):
    class Meta(Customer.Meta):
        read_only_fields: Any = ("external_id", "verified")


class Record(Row):
    type = Text(max_length=40)
    external_id = Text(max_length=200)
    data = JSONObject()

    class Meta:
        model = models.CustomerRecord
        fields = ("id", "type", "external_id", "as_of", "data", "created_at")
        validators: list[Any] = []


class CustomerWithRecords(Customer):
    """A customer with what the tenant knows of them; records that are not mentioned stay."""

    records = serializers.ListField(child=Record(), required=False, max_length=100)

    class Meta(Customer.Meta):
        fields: Any = (*Customer.Meta.fields, "records")

    def validate_external_id(self, external_id: str) -> str:
        if external_id.startswith(VISITOR_PREFIX):
            raise serializers.ValidationError(f"a customer's id does not begin with {VISITOR_PREFIX}")
        return external_id


class Customers(Shape):
    customers = serializers.ListField(child=CustomerWithRecords(), min_length=1, max_length=1000)


class Upserted(Shape):
    created = Whole()
    updated = Whole()


class Budget(Row):
    limit = PositiveDollars(source="limit_micros")
    subject = Text(max_length=200, required=False, allow_blank=True)
    shares = serializers.ListField(child=Whole(min_value=1, max_value=1000), required=False, max_length=10)
    cheapest_tiers = Whole(min_value=1, max_value=10, required=False, allow_null=True)
    refusal = Text(max_length=1000, required=False)

    class Meta:
        model = models.Budget
        fields = (
            "id",
            "scope",
            "subject",
            "period",
            "limit",
            "hard",
            "shares",
            "cheapest_tiers",
            "refusal",
            "created_at",
        )


class ChangedBudget(Budget):
    """Whom a budget is for, for how long, and whether it refuses is chosen once."""

    subject = Text(read_only=True)

    class Meta(Budget.Meta):
        read_only_fields = ("scope", "period", "hard")


class Spending(Shape):
    starts = serializers.DateField()
    subject = serializers.CharField()
    spent = Dollars()
    held = Dollars()


class Tariff(Row):
    """Either `margin` on top of what the providers charge (0.25: 25 %), or `reply` for each accepted reply."""

    reply = Dollars(source="reply_micros", allow_null=True)
    included = Dollars(source="included_micros", help_text="Of each month's charges, the first that are free.")

    class Meta:
        model = models.Tariff
        fields = ("id", "valid_from", "margin", "reply", "included", "created_at")
        read_only_fields = fields


class LedgerEntry(Row):
    received = Dollars(source="received_micros")
    amount = Dollars(source="amount_micros")
    cost = Dollars(source="cost_micros")
    result = Dollars(source="result_micros")
    included = Dollars(source="included_micros")
    dearest = Dollars(source="dearest_micros")
    corrects = Id(source="corrects_id", allow_null=True)

    class Meta:
        model = models.LedgerEntry
        fields = (
            "id", "created_at", "kind", "period", "received", "amount", "cost", "result", "included", "dearest",
            "source", "memo", "estimated", "corrects", "turn_id", "call_id", "conversation_id", "chatbot_id", "number",
            "provider", "model", "tier", "outcome", "price_version", "input_tokens", "output_tokens",
        )  # fmt: skip
        read_only_fields = fields


class Line(Shape):
    kind = serializers.CharField()
    source = serializers.CharField()
    chatbot_id = serializers.CharField(help_text="Empty: no chatbot's.")
    provider = serializers.CharField()
    model = serializers.CharField()
    outcome = serializers.CharField()
    entries = Whole()
    input_tokens = Whole()
    output_tokens = Whole()
    amount = Dollars()
    included = Dollars()
    cost = Dollars()
    dearest = Dollars()


class Month(Shape):
    period = serializers.DateField(help_text="The first day of the month, where the tenant is.")
    number = Whole(allow_null=True, help_text="None: a draft.")
    opening = Dollars()
    received = Dollars()
    credited = Dollars()
    charged = Dollars()
    included = Dollars()
    corrected = Dollars()
    closing = Dollars()
    cost = Dollars()
    dearest = Dollars()
    saved = Dollars()
    lines = Line(many=True)


class StatementRow(Row):
    opening = Dollars(source="opening_micros")
    closing = Dollars(source="closing_micros")

    class Meta:
        model = models.Statement
        fields = ("id", "number", "period", "opening", "closing", "created_at")


class ClosedMonth(Shape):
    month = Matching(MONTH, max_length=7)


class Export(Row):
    class Meta:
        model = models.Export
        fields = (
            "id", "format", "first", "last", "equal", "asked_by", "state", "rows", "manifest", "error", "begun_at",
            "done_at", "created_at",
        )  # fmt: skip


class NewExport(Shape):
    """`first` and `last` are months, `since` and `until` days within them, all included; the rest chooses entries."""

    format = serializers.ChoiceField(sorted(FORMATS))
    first = Matching(MONTH, max_length=7)
    last = Matching(MONTH, max_length=7)
    since = serializers.DateField(required=False)
    until = serializers.DateField(required=False)
    kind = serializers.ChoiceField(models.LedgerEntry.Kind.choices, required=False)
    source = Text(max_length=10, required=False)
    chatbot_id = Id(required=False)
    provider = Text(max_length=40, required=False)
    model = Text(max_length=100, required=False)
    outcome = Text(max_length=10, required=False)


URL = ("^https?" if settings.PRIVATE_RECORD_SOURCES else "^https") + (
    r"://[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,4}(:[0-9]{1,5})?(/[A-Za-z0-9._~=&%+-]{0,60}){0,4}\Z"
)


class Webhook(Row):
    url = Matching(URL, max_length=500)
    events = serializers.ListField(child=serializers.ChoiceField(EVENTS), min_length=1, max_length=len(EVENTS))

    class Meta:
        model = models.Webhook
        fields: Any = ("id", "url", "events", "enabled", "created_at")


class NewWebhook(Webhook):
    secret = serializers.CharField(read_only=True, help_text="Signs each delivery. Shown this once.")

    class Meta(Webhook.Meta):
        fields: Any = (*Webhook.Meta.fields, "secret")
        read_only_fields = ("enabled",)


class Delivery(Row):
    webhook = Id(source="webhook_id", read_only=True)

    class Meta:
        model = models.Delivery
        fields = (
            "id", "webhook", "event", "happened_at", "content", "state", "attempts", "due_at", "problem",
            "delivered_at", "created_at",
        )  # fmt: skip


class AuditEntry(Row):
    class Meta:
        model = models.AuditEntry
        fields = ("id", "created_at", "actor", "address", "request_id", "action", "thing", "row_id", "changes")
