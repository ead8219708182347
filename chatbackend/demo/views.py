"""The demo's pages, only where settings.DEMO: the shop with its customer picker, and how the last answer was made.

Two of them play the tenant's own server: `identity` signs a customer in, `records` is asked for fresh orders.
"""

from __future__ import annotations

import hmac
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from accounts.auth import mint_identity
from accounts.ledger import available
from accounts.models import LedgerEntry, Widget
from accounts.money import Money
from accounts.pinned import signature
from accounts.sealing import unseal
from accounts.tenancy import in_tenant
from cascade import compute
from cascade.models import Chatbot, ModelCall, Turn
from chatbackend.demo import seeding
from chatbackend.demo.shop import SUGGESTED, TENANT_ID, load

PATIENCE = timedelta(minutes=5)  # how old a signed request may be


@require_GET
@never_cache
@ensure_csrf_cookie
def home(request: HttpRequest) -> HttpResponse:
    """The shop's page with the widget on it."""
    with in_tenant(TENANT_ID):
        widget = Widget.objects.order_by("created_at").first()
    if widget is None:
        return render(request, "demo/unseeded.html", status=503)
    return render(
        request,
        "demo/home.html",
        {
            "shop": load(timezone.localdate()),
            "widget": widget,
            "suggested": SUGGESTED,
            "login": seeding.LOGIN,
            "password": seeding.PASSWORD,
        },
    )


@require_POST
def identity(request: HttpRequest) -> JsonResponse:
    """Sign the picked customer in, as the shop's own server would after its own login."""
    shopper = load(timezone.localdate()).customer(request.POST.get("customer", ""))
    if shopper is None:
        raise Http404("no such customer")
    with in_tenant(TENANT_ID):
        widget = Widget.objects.order_by("created_at")[0]
    return JsonResponse({"jwt": mint_identity(widget, shopper.external_id, shopper.attributes)})


@csrf_exempt
@require_POST
def records(request: HttpRequest) -> JsonResponse:
    """The shop's orders of one customer, told to whoever signs with the secret of the record source."""
    if not _is_signed(request):
        return JsonResponse({"title": "The signature does not fit"}, status=401)
    shopper = load(timezone.localdate()).customer(json.loads(request.body)["customer_id"])
    told = [
        {"type": "order", "external_id": order.external_id, "as_of": timezone.now().isoformat(), "data": order.data}
        for order in (shopper.orders if shopper else ())
    ]
    return JsonResponse({"records": told})


def _is_signed(request: HttpRequest) -> bool:
    try:
        sent = int(request.headers["webhook-timestamp"])
        message_id, given = request.headers["webhook-id"], request.headers["webhook-signature"]
    except (KeyError, ValueError):
        return False
    with in_tenant(TENANT_ID):
        sealed = Chatbot.objects.values_list("record_source_secret", flat=True).first()
    if sealed is None or abs(timezone.now().timestamp() - sent) > PATIENCE.total_seconds():
        return False
    return hmac.compare_digest(given, signature(unseal(sealed), message_id, sent, request.body))


@require_GET
@never_cache
def turn(request: HttpRequest, turn_id: UUID) -> JsonResponse:
    """How one answer was made: the tiers asked, their scores, what they cost."""
    with in_tenant(TENANT_ID):
        found = get_object_or_404(Turn.objects.select_related("strategy"), id=turn_id)
        calls = [_attempt(call) for call in found.calls.exclude(outcome="explored").order_by("number")]
        computed = LedgerEntry.objects.filter(hold__turn_id=turn_id, source__in=compute.NAMES)
        beside = computed.aggregate(cost=Sum("cost_micros"))["cost"] or 0
        return JsonResponse(
            {
                "state": found.get_state_display(),
                "problem": found.problem,
                "tiers": [tier["model"] for tier in found.strategy.tiers] if found.strategy else [],
                "attempts": calls,
                "computed": str(Money(beside)),
                "cost": str(Money(sum(call["cost_micros"] for call in calls) + beside)),
                "context": found.context_report,
                "balance": str(available(TENANT_ID)),
            }
        )


def _attempt(call: ModelCall) -> dict[str, Any]:
    return {
        "model": call.model,
        "tier": call.tier,
        "outcome": call.outcome,
        "error": call.error,
        "score": call.score,
        "threshold": call.threshold,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "estimated": call.estimated,
        "cost_micros": call.cost_micros or 0,
        "cost": str(Money(call.cost_micros or 0)),
        "first_token_seconds": call.first_token_seconds,
        "seconds": call.seconds,
        "text": call.text,
    }
