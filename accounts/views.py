"""The REST API of accounts and money: each resource translates, and leaves the work to the module that does it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers as fields
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts import api_keys, customers, members, models, serializers, statements, webhooks
from accounts.months import first_of
from accounts.rest.fields import Flag, Id, Moment
from accounts.rest.lists import Filter, text
from accounts.rest.problems import Problem
from accounts.rest.views import Changed, Listed, Removed, Resource, Shown

# --- the tenant and its people ------------------------------------------------------------


class Tenant(Changed, Shown, Resource):
    """The caller's own tenant."""

    resource, rows, related = "tenant", models.Tenant, ("account",)
    serializer_class = serializers.Tenant
    fleeting = frozenset({"balance", "held"})

    def get_object(self) -> Any:
        self.kwargs["pk"] = self.caller.tenant_id
        return super().get_object()


class Members(Listed, Shown, Changed, Removed, Resource):
    """Who works for the tenant, and in which role. Owners are made, changed and removed by owners alone."""

    resource, rows, related = "members", models.Member, ("user",)
    serializer_class = serializers.Member
    filters = {"role": Filter("role", fields.ChoiceField(models.Member.Role.choices))}

    @extend_schema(request=serializers.NewMember, responses={201: serializers.Member})
    def create(self, request: Any) -> Response:
        told = serializers.NewMember(data=request.data)
        told.is_valid(raise_exception=True)
        try:
            return self.made(members.add(self.caller.tenant_id, **told.validated_data, by_owner=self.caller.is_owner))
        except members.NotAllowed as refused:
            raise Problem("forbidden", str(refused)) from None
        except members.AlreadyMember as refused:
            raise Problem("already_exists", str(refused), pointer="/email") from None

    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        member = self.get_object()
        told = self.get_serializer(member, data=request.data, partial=True)
        told.is_valid(raise_exception=True)
        role = told.validated_data.get("role", member.role)
        self._as_owner(lambda by_owner: members.change_role(member, role, by_owner=by_owner))
        return self.shown(member)

    def destroy(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        member = self.get_object()
        self._as_owner(lambda by_owner: members.remove(member, by_owner=by_owner))
        return Response(status=204)

    def _as_owner(self, deed: Any) -> None:
        try:
            deed(self.caller.is_owner)
        except members.NotAllowed as refused:
            raise Problem("forbidden", str(refused)) from None
        except members.LastOwner as refused:
            raise Problem("conflict", str(refused)) from None


class ApiKeys(Listed, Shown, Resource):
    """Keys of the tenant's programs. A secret is shown once; no key makes one that may do more than itself."""

    resource, rows = "api-keys", models.ApiKey
    serializer_class = serializers.ApiKey
    fleeting = frozenset({"last_used_at"})

    @extend_schema(request=serializers.ApiKey, responses={201: serializers.NewApiKey})
    def create(self, request: Any) -> Response:
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        return self._new(**told.validated_data)

    @extend_schema(request=None, responses={201: serializers.NewApiKey})
    @action(detail=True, methods=["post"])
    def rotate(self, request: Any, pk: Any) -> Response:
        """A new key with the same name, scopes and end. The old one holds until it is revoked."""
        key = self.get_object()
        return self._new(name=key.name, scopes=key.scopes, expires_at=key.expires_at)

    @extend_schema(request=None, responses=serializers.ApiKey)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Any, pk: Any) -> Response:
        """From now on the key is nobody's. A key does not revoke itself: a program would lock itself out."""
        key = self.get_object()
        if self.caller.name == f"key:{key.id}":
            raise Problem("conflict", "this is the key of the request; revoke it with another, or as a member")
        api_keys.revoke_api_key(key)
        key.refresh_from_db()
        return self.shown(key)

    def _new(self, name: str, scopes: list[str], expires_at: datetime | None = None) -> Response:
        if self.caller.role is None and (more := sorted(set(scopes) - self.caller.scopes)):
            raise Problem("forbidden", f"this key has not itself the scopes {', '.join(more)}")
        key, secret = api_keys.create_api_key(self.caller.tenant_id, name, scopes, expires_at)
        key.refresh_from_db()
        response = self.made(key, secret=secret)
        response["Location"] = f"/api/v1/api-keys/{key.pk}"
        return response


# --- customers ----------------------------------------------------------------------------


class Customers(Listed, Shown, Changed, Resource):
    """The tenant's own customers, by its own ids of them."""

    resource, rows = "customers", models.Customer
    serializer_class = serializers.Customer
    filters = {
        "external_id": text("external_id"),
        "verified": Filter("verified", Flag()),
        "created_after": Filter("created_at__gte", Moment()),
        "created_before": Filter("created_at__lt", Moment()),
    }

    def get_serializer_class(self) -> Any:
        return serializers.ChangedCustomer if self.action == "partial_update" else self.serializer_class

    @extend_schema(
        request=serializers.CustomerWithRecords, responses={200: serializers.Customer, 201: serializers.Customer}
    )
    def create(self, request: Any) -> Response:
        """Upsert by `external_id`: 201 when the customer is new, 200 when they were known."""
        told = serializers.CustomerWithRecords(data=request.data)
        told.is_valid(raise_exception=True)
        made, _ = self._upsert([told.validated_data])
        row = models.Customer.objects.get(external_id=told.validated_data["external_id"])
        return self.made(row) if made else self.shown(row)

    @extend_schema(request=serializers.Customers, responses=serializers.Upserted)
    @action(detail=False, methods=["post"])
    def bulk(self, request: Any) -> Response:
        """Upsert up to 1,000 customers with their records, all or none."""
        told = serializers.Customers(data=request.data)
        told.is_valid(raise_exception=True)
        made, changed = self._upsert(told.validated_data["customers"])
        return Response({"created": made, "updated": changed})

    def _upsert(self, told: list[Any]) -> tuple[int, int]:
        try:
            return customers.upsert(self.caller.tenant_id, told)
        except customers.Twice as refused:
            raise Problem("conflict", str(refused)) from None


class Records(Listed, Shown, Removed, Resource):
    """What the tenant knows of one customer, and since when (`as_of`)."""

    resource, rows = "customers", models.CustomerRecord
    serializer_class = serializers.Record
    filters = {"type": text("type", 40)}

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(customer_id=self.kwargs["customer_pk"])

    def list(self, request: Any, customer_pk: Any) -> Response:
        self._customer()
        return super().list(request)

    @extend_schema(request=serializers.Record, responses={201: serializers.Record})
    def create(self, request: Any, customer_pk: Any) -> Response:
        """Put a record in place of the one with the same type and external id."""
        told = self.get_serializer(data=request.data)
        told.is_valid(raise_exception=True)
        return self.made(customers.put_record(self._customer(), told.validated_data))

    def _customer(self) -> models.Customer:
        found = models.Customer.objects.filter(pk=self.kwargs["customer_pk"]).first()
        if found is None:
            raise Problem("not_found")
        return found


# --- the books ----------------------------------------------------------------------------


class Budgets(Listed, Shown, Changed, Removed, Resource):
    """What turns may cost: in a day, a month or in all; of the tenant, a chatbot, a segment or a customer."""

    resource, rows = "budgets", models.Budget
    serializer_class = serializers.Budget
    filters = {
        "scope": Filter("scope", fields.ChoiceField(models.Budget.Scope.choices)),
        "period": Filter("period", fields.ChoiceField(models.Budget.Period.choices)),
    }

    def get_serializer_class(self) -> Any:
        return serializers.ChangedBudget if self.action == "partial_update" else self.serializer_class

    @extend_schema(responses=serializers.Spending(many=True))
    @action(detail=True, methods=["get"], pagination_class=None, filters={})
    def spending(self, request: Any, pk: Any) -> Response:
        """What was spent of it in its newest periods, a hundred at most."""
        rows = self.get_object().spendings.order_by("-starts", "subject")[:100]
        told = [
            {"starts": s.starts, "subject": s.subject, "spent": s.spent_micros, "held": s.held_micros} for s in rows
        ]
        return Response(serializers.Spending(told, many=True).data)


class Tariffs(Listed, Shown, Resource):
    """What the tenant pays from when on; set by the operator. Without one: what the providers charge."""

    resource, rows = "tariffs", models.Tariff
    serializer_class = serializers.Tariff
    orderings = ("-valid_from", "valid_from")


class Ledger(Listed, Shown, Resource):
    """Every movement of money; none is ever changed."""

    resource, rows = "ledger", models.LedgerEntry
    serializer_class = serializers.LedgerEntry
    filters = {
        "kind": Filter("kind", fields.ChoiceField(models.LedgerEntry.Kind.choices)),
        "conversation": Filter("conversation_id", Id()),
        "turn": Filter("hold__turn_id", Id()),  # by the index of holds: entries have none of turns
        "model": text("model", 100),
        "outcome": text("outcome", 10),
        "created_after": Filter("created_at__gte", Moment()),
        "created_before": Filter("created_at__lt", Moment()),
    }


class Statements(Listed, Resource):
    """Months, to read."""

    resource, rows = "statements", models.Statement
    serializer_class = serializers.StatementRow
    orderings = ("-period", "period")

    def get_queryset(self) -> Any:
        return super().get_queryset().defer("lines", "printed")  # whole pages

    @extend_schema(responses=serializers.Month)
    def retrieve(self, request: Any, month: str) -> Response:
        """One month, such as `2026-11`: as it was closed, else its draft."""
        return Response(told_month(statements.month(self.caller.tenant_id, named(month))))


def named(month: str) -> date:
    try:
        return first_of(month)
    except ValueError as problem:
        raise Problem("not_found", str(problem)) from None


def told_month(month: statements.Month) -> dict[str, Any]:
    lines = [
        {name: getattr(line, name, None) for name in serializers.Line().fields}
        | {name: getattr(line, f"{name}_micros") for name in ("amount", "included", "cost", "dearest")}
        for line in month.lines
    ]
    told = {name: getattr(month, name) for name in serializers.Month().fields if name != "lines"}
    return serializers.Month(told | {"lines": lines}).data


# --- webhooks -----------------------------------------------------------------------------


class Webhooks(Listed, Shown, Changed, Removed, Resource):
    """Addresses of the tenant's that are told of events, signed (Standard Webhooks)."""

    resource, rows = "webhooks", models.Webhook
    serializer_class = serializers.Webhook

    @extend_schema(request=serializers.NewWebhook, responses={201: serializers.NewWebhook})
    def create(self, request: Any) -> Response:
        told = serializers.NewWebhook(data=request.data)
        told.is_valid(raise_exception=True)
        hook, secret = webhooks.create(self.caller.tenant_id, **told.validated_data)
        hook.refresh_from_db()
        return self.made(hook, secret=secret)

    @extend_schema(request=None, responses=serializers.NewWebhook)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Any, pk: Any) -> Response:
        """A new secret. Both sign until the next rotation."""
        hook = self.get_object()
        return Response({**self.told(hook), "secret": webhooks.rotate(hook)})


class Deliveries(Listed, Shown, Resource):
    """Events on their way to webhooks, and what became of them, for 30 days."""

    resource, rows = "webhooks", models.Delivery
    serializer_class = serializers.Delivery
    filters = {
        "webhook": Filter("webhook_id", Id()),
        "state": Filter("state", fields.ChoiceField(models.Delivery.State.choices)),
        "event": Filter("event", fields.ChoiceField(webhooks.EVENTS)),
    }

    @extend_schema(request=None, responses=serializers.Delivery)
    @action(detail=True, methods=["post"])
    def replay(self, request: Any, pk: Any) -> Response:
        """Send it again, from the first attempt on."""
        delivery = self.get_object()
        webhooks.replay(delivery)
        return self.shown(delivery)


# --- who did what -------------------------------------------------------------------------


class AuditLog(Listed, Shown, Resource):
    """Who changed what, from where. Of what is personal or secret it says that it was changed, not to what."""

    resource, rows = "audit-log", models.AuditEntry
    serializer_class = serializers.AuditEntry
    filters = {
        "actor": text("actor", 60),
        "thing": text("thing", 40),
        "row_id": text("row_id", 40),
        "created_after": Filter("created_at__gte", Moment()),
        "created_before": Filter("created_at__lt", Moment()),
    }
