"""The same cast everywhere: Alice owns a shop, Bob is on her team, Charlie's shop must see nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts import ledger
from accounts.auth import Caller, create_widget
from accounts.models import Customer, CustomerRecord
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from cascade.models import Article, CascadeStrategy, Chatbot, LanguageModel, Price
from cascade.values import Context

ORDER = {"status": "shipped", "item": "desk lamp", "total": "$49.00", "expected_on": "2026-11-25"}


@dataclass(frozen=True)
class Shop:
    """A tenant with one chatbot whose cascade asks "small", then "large"."""

    tenant_id: UUID
    chatbot_id: UUID
    widget_id: UUID
    widget_key: str
    kid: str
    secret: str

    def caller(self, external_id: str = "c1", record: Mapping[str, Any] = ORDER) -> Caller:
        """A signed-in customer with one order."""
        with in_tenant(self.tenant_id):
            customer, new = Customer.objects.get_or_create(
                tenant_id=self.tenant_id,
                external_id=external_id,
                defaults={"verified": True, "attributes": {"name": f"Customer {external_id}"}},
            )
            if new:
                CustomerRecord.objects.create(
                    tenant_id=self.tenant_id,
                    customer=customer,
                    type="order",
                    external_id=f"A-{external_id}",
                    as_of=datetime.now(UTC),
                    data=dict(record),
                )
        return Caller(self.tenant_id, self.widget_id, customer.id, external_id, True, None, None)

    def change(self, **columns: Any) -> None:
        with in_tenant(self.tenant_id):
            Chatbot.objects.filter(id=self.chatbot_id).update(**columns)


def open_shop(
    slug: str, base_url: str, *, funds: str = "1", floor: float = 0.5, thresholds: Sequence[float] = (0.5, 0.5)
) -> Shop:
    """A shop whose models answer at `base_url` (a `tests.model_server`), with `funds` dollars to spend."""
    for name in ("small", "large"):
        make_model(name, base_url)
    tenant = create_tenant(slug.title(), slug, f"{slug}@example.com")
    ledger.top_up(tenant.id, Money.from_usd(funds), "opening balance")
    widget, kid, secret = create_widget(tenant.id, ["http://localhost:8000"])
    with in_tenant(tenant.id):
        chatbot = Chatbot.objects.create(
            tenant=tenant, name=slug.title(), widget=widget, instructions="Answer from the facts.", floor=floor
        )
        Article.objects.create(
            tenant=tenant, chatbot=chatbot, slug="returns", title="Returns", body="Returns are free for 30 days."
        )
        chatbot.live_strategy = CascadeStrategy.objects.create(
            tenant=tenant,
            chatbot=chatbot,
            version=1,
            deadline_seconds=20,
            tiers=[
                {"model": name, "threshold": threshold, "deadline_seconds": 10, "max_output_tokens": 100}
                for name, threshold in zip(("small", "large"), thresholds, strict=True)
            ],
        )
        chatbot.save()
    return Shop(tenant.id, chatbot.id, widget.id, widget.public_key, kid, secret)


def make_model(name: str, base_url: str, *, price: str | None = "1") -> None:
    """A model on the books of the operator; `price` None: without a price."""
    model, _ = LanguageModel.objects.using("owner").update_or_create(
        name=name, defaults={"provider": "openai", "remote_name": name, "base_url": base_url}
    )
    if price is not None and not model.prices.using("owner").exists():
        Price.objects.using("owner").create(
            model=model,
            valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            input=Decimal(price),
            output=Decimal(price) * 4,
            source="tests",
        )


class ScriptedScorer:
    """Scores by the answer: a phrase that it contains decides; no phrase, no score."""

    version = "scripted"

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = scores
        self.seen: list[tuple[Context, str]] = []

    async def score(self, context: Context, answer: str, *, deadline_seconds: float = 2.0) -> float | None:
        self.seen.append((context, answer))
        return next((score for phrase, score in self.scores.items() if phrase in answer), None)
