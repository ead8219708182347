"""Writes the demo's shop down, and again at each start: idempotent, with dates counted from today.

What the shop is stands in `chatbackend.demo.shop`, what it asks in `chatbackend.demo.tiers`.
"""

from __future__ import annotations

import secrets
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from accounts import ledger
from accounts.auth import create_widget
from accounts.models import Customer, CustomerRecord, LedgerEntry, Member, Tariff, Tenant, User, Widget
from accounts.money import Money
from accounts.sealing import seal
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from cascade import knowledge, strategies
from cascade.models import Article, Chatbot
from chatbackend.demo import tiers
from chatbackend.demo.shop import TENANT_ID, Shop, load

LOGIN, PASSWORD = "demo", "demo-password"
CREDIT = Money.from_usd(25)
SEEDED_BY = "seed_demo"
MARGIN = Decimal("0.25")  # on what the models cost


def seed() -> list[str]:
    """Make or refresh the shop. Returns the names of the models it asks, cheapest first."""
    shop = load(timezone.localdate())
    owner = _owner()
    with in_tenant(TENANT_ID):
        Tenant.objects.update_or_create(id=TENANT_ID, defaults={"name": shop.name, "slug": shop.slug})
        Member.objects.get_or_create(tenant_id=TENANT_ID, user=owner, defaults={"role": Member.Role.OWNER})
        if not LedgerEntry.objects.exists():
            ledger.top_up(TENANT_ID, CREDIT, "play money of the demo")
        if not Tariff.objects.exists():
            set_tariff(TENANT_ID, margin=MARGIN)
        chatbot = _chatbot(shop, _widget())
        _articles(shop, chatbot)
        _customers(shop)
        return _strategy(chatbot)


def _owner() -> User:
    owner, made = User.objects.get_or_create(username=LOGIN)
    if made:
        owner.set_password(PASSWORD)
        owner.save()
    return owner


def _widget() -> Widget:
    origins = [f"http://{host}:{settings.WEB_PORT}" for host in ("localhost", "127.0.0.1")]
    widget = Widget.objects.first()
    if widget is None:
        widget, _, _ = create_widget(TENANT_ID, origins, Widget.Identity.OPTIONAL)
    widget.allowed_origins = origins
    widget.save()
    return widget


def _chatbot(shop: Shop, widget: Widget) -> Chatbot:
    chatbot = Chatbot.objects.filter(widget=widget).first() or Chatbot(tenant_id=TENANT_ID, widget=widget)
    if chatbot.record_source_secret is None:
        chatbot.record_source_secret = seal(secrets.token_bytes(32))
    for field, text in shop.chatbot.items():
        setattr(chatbot, field, text)
    chatbot.floor = tiers.FLOOR
    chatbot.record_source_url = f"http://127.0.0.1:{settings.WEB_PORT}/demo/records"
    chatbot.save()
    return chatbot


def _articles(shop: Shop, chatbot: Chatbot) -> None:
    for article in shop.articles:
        Article.objects.update_or_create(
            chatbot=chatbot,
            slug=article.slug,
            defaults={"tenant_id": TENANT_ID, "title": article.title, "body": article.body},
        )
    knowledge.index_soon(chatbot)


def _customers(shop: Shop) -> None:
    now = timezone.now()
    for shopper in shop.customers:
        customer, _ = Customer.objects.update_or_create(
            tenant_id=TENANT_ID,
            external_id=shopper.external_id,
            defaults={"attributes": shopper.attributes, "verified": True, "locale": shopper.locale},
        )
        for order in shopper.orders:
            CustomerRecord.objects.update_or_create(
                customer=customer,
                type="order",
                external_id=order.external_id,
                defaults={"tenant_id": TENANT_ID, "as_of": now, "data": order.data},
            )


def _strategy(chatbot: Chatbot) -> list[str]:
    """The tiers that this machine can ask, unless somebody has promoted others; names of models, cheapest first."""
    wanted = tiers.tiers(timezone.now())
    live = chatbot.live_strategy
    chosen_by_others = chatbot.strategy_changes.exclude(by=SEEDED_BY).exists()
    if wanted and not chosen_by_others and (live is None or live.tiers != wanted):
        strategies.promote(strategies.add_version(chatbot, wanted, tiers.TURN_SECONDS), SEEDED_BY)
    return [tier["model"] for tier in wanted]
