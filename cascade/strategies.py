"""A chatbot's strategies: new versions, which one it lives by, and the record of who changed that.

A version never changes. The only writer of strategies, of `Chatbot.live_strategy` and of `StrategyChange`.
Functions join the tenant's transaction, or open it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from django.db.models import Max, QuerySet

from accounts import webhooks
from accounts.tenancy import in_tenant
from cascade.models import CascadeStrategy, Chatbot, LanguageModel, Price, StrategyChange
from cascade.strategy_check import LONGEST_SECONDS, problem

Kind = StrategyChange.Kind
log = structlog.get_logger(__name__)


class NoSuchStrategy(LookupError):
    """The tenant has no such chatbot, or the chatbot no such version."""


class NotChanged(Exception):
    """The chatbot lives by what it lived by before; the message says why."""


class UnfitTiers(ValueError):
    """The tiers could not be asked; the message names the tier or the model."""


def add_version(chatbot: Chatbot, tiers: Sequence[dict[str, Any]], deadline_seconds: float) -> CascadeStrategy:
    """The chatbot's next version, which is not live yet. Raises UnfitTiers."""
    if not 0 < deadline_seconds <= LONGEST_SECONDS:
        raise UnfitTiers(f"a strategy's deadline is above 0, up to {LONGEST_SECONDS} seconds")
    with in_tenant(chatbot.tenant_id):
        check(list(tiers))
        _locked(chatbot.id)
        latest = CascadeStrategy.objects.filter(chatbot=chatbot).aggregate(version=Max("version"))["version"]
        return CascadeStrategy.objects.create(
            tenant_id=chatbot.tenant_id,
            chatbot=chatbot,
            version=(latest or 0) + 1,
            tiers=list(tiers),
            deadline_seconds=deadline_seconds,
        )


def check(tiers: object) -> None:
    """In `in_tenant`. Raises UnfitTiers: they are written wrongly, or ask a model that is not offered or priced."""
    if wrong := problem(tiers):
        raise UnfitTiers(wrong)
    assert isinstance(tiers, list)
    known = offered()
    if unknown := [tier["model"] for tier in tiers if tier["model"] not in known]:
        raise UnfitTiers(f"not offered, or without a price: {', '.join(unknown)}")


def offered() -> list[str]:
    """The models that can be asked, by name: on offer, and with a price. In `in_tenant`."""
    priced = Price.objects.filter(model__enabled=True).values("model")
    return list(LanguageModel.objects.filter(id__in=priced).order_by("name").values_list("name", flat=True))


def find(tenant_id: UUID, chatbot: str, version: int) -> CascadeStrategy:
    """By the chatbot's name or id. Raises NoSuchStrategy."""
    found = find_chatbot(tenant_id, chatbot)
    with in_tenant(tenant_id):
        rows = CascadeStrategy.objects.select_related("chatbot__live_strategy")
        strategy = rows.filter(chatbot=found, version=version).first()
    if strategy is None:
        raise NoSuchStrategy(f"{found} has no strategy v{version}")
    return strategy


def find_chatbot(tenant_id: UUID, name: str) -> Chatbot:
    """By name, where no other has it, or id. Raises NoSuchStrategy."""
    with in_tenant(tenant_id):
        found = [bot for bot in Chatbot.objects.select_related("live_strategy") if name in (bot.name, str(bot.id))]
    if len(found) != 1:
        raise NoSuchStrategy(f"{len(found) or 'no'} chatbots are called {name}" + (", say its id" if found else ""))
    return found[0]


def promote(strategy: CascadeStrategy, by: str) -> StrategyChange:
    """From its next turn on the chatbot lives by this version. Raises NotChanged: it does already."""
    with in_tenant(strategy.tenant_id):
        chatbot = _locked(strategy.chatbot_id)
        if chatbot.live_strategy_id == strategy.id:
            raise NotChanged(f"{strategy} is live already")
        return _change(chatbot, Kind.PROMOTED, strategy, by)


def rollback(chatbot: Chatbot, by: str) -> StrategyChange:
    """Back to the version that the live one replaced. Raises NotChanged: it replaced none."""
    with in_tenant(chatbot.tenant_id):
        chatbot = _locked(chatbot.id)
        earlier = replaced_by_live(chatbot)
        if earlier is None:
            raise NotChanged(f"{chatbot} has no earlier strategy to go back to")
        return _change(chatbot, Kind.ROLLED_BACK, earlier, by)


def changes(chatbot: Chatbot) -> QuerySet[StrategyChange]:
    """Newest first."""
    return chatbot.strategy_changes.select_related("before__chatbot", "after__chatbot").order_by("-created_at", "-id")


def replaced_by_live(chatbot: Chatbot) -> CascadeStrategy | None:
    """What the live version was promoted in place of; what a roll-back left does not come back."""
    replaced: list[CascadeStrategy | None] = []
    for change in changes(chatbot).reverse():
        if change.kind == Kind.PROMOTED:
            replaced.append(change.before)
        else:
            replaced.pop()
    return replaced[-1] if replaced else None


def _locked(chatbot_id: UUID) -> Chatbot:
    """The chatbot, whose strategies nobody else changes until we commit."""
    return Chatbot.objects.select_for_update(of=("self",)).select_related("live_strategy").get(id=chatbot_id)


def _change(chatbot: Chatbot, kind: str, after: CascadeStrategy, by: str) -> StrategyChange:
    change = StrategyChange.objects.create(
        tenant_id=chatbot.tenant_id, chatbot=chatbot, kind=kind, before=chatbot.live_strategy, after=after, by=by
    )
    Chatbot.objects.filter(id=chatbot.id).update(live_strategy=after)
    told = {"chatbot_id": str(chatbot.id), "strategy_id": str(after.id), "version": after.version, "kind": kind}
    webhooks.tell(chatbot.tenant_id, "strategy.promoted", told)
    log.info("strategy_changed", tenant_id=str(chatbot.tenant_id), chatbot_id=str(chatbot.id), kind=kind, by=by)
    return change
