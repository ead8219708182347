"""Webhooks: the tenant's own servers are told of what happens, signed after Standard Webhooks, at least once.

An event is written in the very transaction in which it happens, one row for each webhook that wants it, together with
the job that delivers it. The row holds ids alone; what is said of a customer is read when it is sent, so that nothing
is sent of one who has been erased. Addresses are not trusted (`accounts.pinned`).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts.bounds import make_room
from accounts.models import Customer, Delivery, Webhook
from accounts.pinned import PostFailed, Target, post
from accounts.sealing import CannotOpen, seal, unseal
from accounts.tenancy import in_tenant

EVENTS = (
    "conversation.handed_over", "reply.accepted", "feedback.created", "budget.threshold", "statement.closed",
    "strategy.promoted", "drift.detected", "export.ready",
)  # fmt: skip
DELAYS = (10, 60, 300, 1800, 7200, 21_600, 28_800, 28_800)  # seconds before each further attempt: a day in all
DEADLINE_SECONDS = 15.0
MAX_BYTES = 65_536  # of an answer, which is not looked at
LEASE = timedelta(minutes=5)  # a worker that took a delivery and is not heard of for so long has died
KEPT = timedelta(days=30)  # what became of a delivery
JOB = "chatbackend.tasks.deliver_webhook"
GONE = 410

State = Delivery.State
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sending:
    """One attempt, ready to be made."""

    delivery_id: UUID
    url: str
    secrets: tuple[bytes, ...]  # of the webhook; the newest first
    body: bytes


# --- what the tenant sets up ------------------------------------------------------------------


def create(tenant_id: UUID, url: str, events: Iterable[str]) -> tuple[Webhook, str]:
    """A webhook and the secret that signs for it, `whsec_...`, which is shown this once. Raises TooMany."""
    secret = secrets.token_bytes(32)
    with in_tenant(tenant_id):
        make_room(Webhook.objects.all())
        made = Webhook.objects.create(tenant_id=tenant_id, url=url, events=sorted(set(events)), secret=seal(secret))
    return made, _shown(secret)


def rotate(webhook: Webhook) -> str:
    """A new secret. Both sign from now on, until the next rotation drops the older."""
    secret = secrets.token_bytes(32)
    with in_tenant(webhook.tenant_id):
        locked = Webhook.objects.select_for_update().get(pk=webhook.pk)
        locked.secret, locked.earlier_secret = seal(secret), locked.secret
        locked.save(update_fields=["secret", "earlier_secret"])
    return _shown(secret)


def _shown(secret: bytes) -> str:
    return f"whsec_{b64encode(secret).decode()}"


# --- what happens -----------------------------------------------------------------------------


def tell(tenant_id: UUID, event: str, content: dict[str, Any]) -> None:
    """In the transaction in which it happens. `content` is JSON of ids, codes and amounts, with nothing personal."""
    wanted = Webhook.objects.filter(tenant_id=tenant_id, enabled=True, events__contains=[event])
    now = timezone.now()
    for webhook_id in wanted.values_list("id", flat=True):
        told = {"event": event, "content": content, "happened_at": now, "due_at": now}
        _defer(Delivery.objects.create(tenant_id=tenant_id, webhook_id=webhook_id, **told))


def replay(delivery: Delivery) -> None:
    """From the beginning again, whatever became of it."""
    with in_tenant(delivery.tenant_id):
        delivery.state, delivery.attempts, delivery.due_at = State.PENDING, 0, timezone.now()
        delivery.save(update_fields=["state", "attempts", "due_at"])
        _defer(delivery)


def defer_lost(tenant_id: UUID) -> None:
    """Deliveries that nobody seems to be at any more: their job was lost, or its worker died."""
    with in_tenant(tenant_id):
        for delivery in Delivery.objects.filter(state=State.PENDING, due_at__lt=timezone.now() - LEASE)[:1000]:
            _defer(delivery)


def forget_old(tenant_id: UUID) -> None:
    with in_tenant(tenant_id):
        old = Delivery.objects.exclude(state=State.PENDING).filter(created_at__lt=timezone.now() - KEPT)
        old.delete()


def _defer(delivery: Delivery) -> None:
    """Part of the transaction: the job is there if and only if the delivery is."""
    seconds = max(0.0, (delivery.due_at - timezone.now()).total_seconds())
    told = {"tenant_id": str(delivery.tenant_id), "delivery_id": str(delivery.id)}
    app.configure_task(JOB, schedule_in={"seconds": seconds}).defer(**told)


# --- one delivery -----------------------------------------------------------------------------


def deliver(tenant_id: UUID, delivery_id: UUID) -> None:
    """One attempt, if it is due; what became of it, and when the next is, is on record."""
    with in_tenant(tenant_id):
        sending = _take(delivery_id)
    if sending is None:
        return
    status, problem = _send(sending)
    with in_tenant(tenant_id):
        _record(delivery_id, status, problem)


def _take(delivery_id: UUID) -> Sending | None:
    """The delivery is ours for LEASE. None: it is done, not due, somebody else's, or not to be sent any more."""
    waiting = Delivery.objects.select_for_update(skip_locked=True, of=("self",)).select_related("webhook")
    delivery = waiting.filter(pk=delivery_id, state=State.PENDING, due_at__lte=timezone.now()).first()
    if delivery is None:
        return None
    content = _content(delivery)
    if content is None or not delivery.webhook.enabled:
        delivery.state, delivery.problem = State.DROPPED, "disabled" if content is not None else "erased"
        delivery.save(update_fields=["state", "problem"])
        return None
    delivery.attempts += 1
    delivery.due_at = timezone.now() + LEASE
    delivery.save(update_fields=["attempts", "due_at"])
    moment = delivery.happened_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = json.dumps({"type": delivery.event, "timestamp": moment, "data": content}).encode()
    return Sending(delivery.id, delivery.webhook.url, _secrets(delivery.webhook), body)


def _content(delivery: Delivery) -> dict[str, Any] | None:
    """With the tenant's own id of the customer, if it is about one. None: the customer has been erased."""
    content: dict[str, Any] = delivery.content
    if "customer_id" not in content:
        return content
    customer = Customer.objects.filter(pk=content["customer_id"]).first()
    return content | {"customer_external_id": customer.external_id} if customer else None


def _secrets(webhook: Webhook) -> tuple[bytes, ...]:
    """Those that can be opened; a sealing key may be gone."""
    found = []
    for sealed in filter(None, (webhook.secret, webhook.earlier_secret)):
        try:
            found.append(unseal(bytes(sealed)))
        except CannotOpen:
            log.error("webhook_secret_cannot_be_opened", webhook=str(webhook.pk))
    return tuple(found)


def _send(sending: Sending) -> tuple[int, str]:
    """Status (0: no answer) and problem ("": none)."""
    if not sending.secrets:
        return 0, "secret_unreadable"
    target = Target(sending.url, settings.PRIVATE_RECORD_SOURCES, DEADLINE_SECONDS, MAX_BYTES)
    try:
        status, _ = asyncio.run(post(target, sending.body, message_id(sending.delivery_id), sending.secrets))
    except PostFailed as failed:
        return 0, failed.code
    return status, "" if 200 <= status < 300 else f"http_{status}"


def message_id(delivery_id: UUID) -> str:
    """The same for every attempt, so that a receiver knows what it has seen."""
    return f"msg_{delivery_id.hex}"


def _record(delivery_id: UUID, status: int, problem: str) -> None:
    delivery = Delivery.objects.select_for_update().filter(pk=delivery_id, state=State.PENDING).first()
    if delivery is None:  # the webhook was removed meanwhile
        return
    delivery.problem = problem
    if not problem:
        delivery.state, delivery.delivered_at = State.DELIVERED, timezone.now()
    elif status == GONE or delivery.attempts > len(DELAYS):
        delivery.state = State.DEAD
        log.warning("webhook_delivery_dead", tenant_id=str(delivery.tenant_id), delivery_id=str(delivery_id))
    else:
        made = max(delivery.attempts, 1)  # 0: it was replayed meanwhile
        delivery.due_at = timezone.now() + timedelta(seconds=DELAYS[made - 1])
        _defer(delivery)
    delivery.save(update_fields=["state", "problem", "delivered_at", "due_at"])
    if status == GONE:  # as Standard Webhooks has it: the receiver wants no more
        Webhook.objects.filter(pk=delivery.webhook_id).update(enabled=False)
