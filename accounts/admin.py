"""Accounts and money on the admin pages. Who may see and do what: `accounts.staff_pages`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, F, OuterRef, QuerySet, Subquery, Sum, Window
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.decorators import display

from accounts import webhooks
from accounts.focus import BY_THE_TEXT
from accounts.models import (
    ApiKey,
    AuditEntry,
    Customer,
    CustomerRecord,
    Delivery,
    Hold,
    LedgerEntry,
    Member,
    Tariff,
    Tenant,
    Webhook,
    Widget,
    WidgetSecret,
)
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin, TenantInline
from accounts.templatetags.money import dollars

# --- the tenant and its people --------------------------------------------------------------


@admin.register(Tenant)
class TenantPage(TenantAdmin):
    list_display = ("name", "slug", "time_zone", "created_at")


@admin.register(Member)
class MemberPage(TenantAdmin):
    seen_by = BOOKS
    list_display = ("user", "email", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user",)
    search_fields = ("user__username", "user__email")
    fields = ("email", "role", "created_at")

    @display(description="email")
    def email(self, member: Member) -> str:
        return member.user.email or member.user.username


@admin.register(ApiKey)
class ApiKeyPage(TenantAdmin):
    """The prefix alone is shown; the secret itself is not kept."""

    seen_by = LEAD
    list_display = ("name", "prefix", "scopes", "expires_at", "last_used_at", "revoked_at")
    search_fields = ("name", "prefix")
    fields = list_display


@admin.register(AuditEntry)
class AuditPage(TenantAdmin):
    """Who changed what, from where; written by the database, changed by nobody."""

    seen_by = LEAD
    list_display = ("created_at", "actor", "action", "thing", "row_id", "address")
    list_filter = ("thing", "action", "created_at")
    search_fields = ("actor", "=row_id", "=request_id")
    ordering = ("-created_at", "-id")
    fields = (*list_display, "request_id", "changes")


@admin.register(Webhook)
class WebhookPage(TenantAdmin):
    """Where the tenant's servers are told of events. The secrets are on no page."""

    seen_by = LEAD
    list_display = ("url", "events", "enabled", "created_at")
    fields = list_display


@admin.register(Delivery)
class DeliveryPage(TenantAdmin):
    """Events on their way to webhooks, and what became of them; what is dead, or was lost, is sent again."""

    seen_by = LEAD
    actions = ("send_again",)
    list_display = ("happened_at", "event", "webhook", "state", "attempts", "problem", "due_at", "delivered_at")
    list_filter = ("state", "event", "happened_at")
    list_select_related = ("webhook",)
    ordering = ("-created_at",)
    fields = (*list_display, "content")

    @admin.action(description="Send again, from the first attempt on")
    def send_again(self, request: HttpRequest, deliveries: QuerySet[Delivery]) -> None:
        for delivery in deliveries:
            webhooks.replay(delivery)
        self.message_user(request, f"{len(deliveries)} on their way again.", messages.SUCCESS)


class SecretRows(TenantInline):
    model = WidgetSecret
    fields = readonly_fields = ("kid", "created_at", "revoked_at")  # never what is sealed


@admin.register(Widget)
class WidgetPage(TenantAdmin):
    seen_by = BOOKS
    changed_by = LEAD
    list_display = ("public_key", "identity", "allowed_origins", "created_at")
    readonly_fields = ("public_key", "created_at")
    inlines = (SecretRows,)


class RecordRows(TenantInline):
    model = CustomerRecord
    fields = ("type", "external_id", "as_of", "data")


@admin.register(Customer)
class CustomerPage(TenantAdmin):
    changed_by = LEAD
    list_display = ("__str__", "external_id", "verified", "locale", "created_at")
    list_filter = ("verified", "created_at")
    search_fields = ("external_id", "attributes__name", "attributes__email")
    readonly_fields = ("external_id", "verified", "created_at")
    inlines = (RecordRows,)


# --- the books ------------------------------------------------------------------------------


@admin.register(Hold)
class HoldPage(TenantAdmin):
    seen_by = BOOKS
    list_display = ("turn_id", "created_at", "amount", "spent", "settled_at")
    list_filter = (("settled_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("=turn_id",)
    fields = list_display
    ordering = ("-created_at",)

    @display(description="held", ordering="amount_micros")
    def amount(self, hold: Hold) -> str:
        return dollars(hold.amount_micros)

    @display(description="spent", ordering="spent_micros")
    def spent(self, hold: Hold) -> str:
        return dollars(hold.spent_micros)


@admin.register(Tariff)
class TariffPage(TenantAdmin):
    """What the tenant pays, latest first; a tariff is set by the operator and never edited."""

    seen_by = BOOKS
    list_display = ("valid_from", "price", "included", "state")
    fields = list_display
    ordering = ("-valid_from",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Each with the moment from which on another holds."""
        later = Tariff.objects.filter(tenant_id=OuterRef("tenant_id"), valid_from__gt=OuterRef("valid_from"))
        until = later.order_by("valid_from").values("valid_from")[:1]
        return super().get_queryset(request).annotate(superseded_at=Subquery(until))

    @display(description="price")
    def price(self, tariff: Tariff) -> str:
        if tariff.margin is not None:
            return f"the providers' charge and {tariff.margin:.2%} on top"
        return f"{dollars(tariff.reply_micros)} for each accepted reply"

    @display(description="free each month", ordering="included_micros")
    def included(self, tariff: Tariff) -> str:
        return dollars(tariff.included_micros)

    @display(description="state")
    def state(self, tariff: Any) -> str:
        now = timezone.now()
        if tariff.valid_from > now:
            return "to come"
        return "in force" if tariff.superseded_at is None or tariff.superseded_at > now else "superseded"


@admin.register(LedgerEntry)
class LedgerPage(TenantAdmin):
    """Every movement of money, newest first, with the running sum and the total of what is selected."""

    seen_by = BOOKS
    list_display = ("created_at", "kind", "amount", "running", "model", "tier_number", "outcome", "tokens", "usage")
    list_filter = ("kind", "model", "outcome", "estimated", "created_at")
    search_fields = ("memo", "=turn_id", "=conversation_id", "=call_id")
    date_hierarchy = "created_at"
    ordering = ("-created_at", "-id")
    list_before_template = "admin/accounts/ledgerentry/totals.html"
    fields = (
        *("created_at", "kind", "amount", "model", "tier_number", "outcome", "tokens", "usage", "memo"),
        *("price_version", "turn_id", "conversation_id", "call_id"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        so_far = Window(Sum("amount_micros"), order_by=[F("created_at").asc(), F("id").asc()])
        return super().get_queryset(request).annotate(running_micros=so_far)

    def changelist_view(self, request: HttpRequest, extra_context: dict | None = None) -> HttpResponse:
        page = super().changelist_view(request, extra_context)
        if hasattr(page, "context_data") and "cl" in page.context_data:
            page.context_data["totals"] = totals(page.context_data["cl"].queryset)
        return page

    @display(description="amount", ordering="amount_micros")
    def amount(self, entry: LedgerEntry) -> str:
        return dollars(entry.amount_micros)

    @display(description="running sum")
    def running(self, entry: Any) -> str:
        return dollars(entry.running_micros)

    @display(description="tokens in / out")
    def tokens(self, entry: LedgerEntry) -> str:
        if entry.source in BY_THE_TEXT:
            return f"{entry.number} text{'s' if entry.number != 1 else ''}"
        return f"{entry.input_tokens} / {entry.output_tokens}" if entry.call_id else "–"

    @display(description="tier", ordering="tier")
    def tier_number(self, entry: LedgerEntry) -> str:
        return "–" if entry.tier is None else str(entry.tier + 1)

    @display(description="usage", ordering="estimated")
    def usage(self, entry: LedgerEntry) -> str:
        return "–" if entry.source != "model" else "estimated" if entry.estimated else "reported"


def totals(selected: QuerySet) -> list[dict[str, Any]]:
    """Count and sum of the selected entries by kind."""
    entries = LedgerEntry.objects.filter(pk__in=selected.order_by().values("pk")).values("kind").order_by("kind")
    return [
        {"kind": LedgerEntry.Kind(row["kind"]).label, "count": row["count"], "sum": dollars(row["sum"])}
        for row in entries.annotate(count=Count("pk"), sum=Sum("amount_micros"))
    ]
