"""From rows to the values that the engine takes; the engine itself never sees a row.

Runs inside `in_tenant`, in the caller's transaction, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from pydantic import TypeAdapter

from accounts import models as accounts
from accounts.budgets import Spender, cheapest_tiers
from accounts.money import ZERO, Money
from accounts.sealing import CannotOpen, unseal
from cascade import compute, models, pricing
from cascade.context import Instructions
from cascade.record_source import RecordSource
from cascade.scorer.pool import Scoring
from cascade.scorer_tuning import expected, ratings, scoring
from cascade.strategy_check import LONGEST_SEGMENT, threshold
from cascade.strictness import stricter, strictness
from cascade.values import (
    Context,
    Customer,
    LanguageModel,
    LongPrompt,
    Passage,
    Price,
    Record,
    Strategy,
    Tier,
    Usage,
    Utterance,
)

MOST_RECORDS = 200  # of a customer, the newest
MOST_ARTICLES = 500  # of a chatbot

FIGURES = ("input", "output", "cached_input", "cache_write", "per_request", "reasoning", "batch")
LONG_PROMPTS: TypeAdapter[list[LongPrompt]] = TypeAdapter(list[LongPrompt])
log = structlog.get_logger(__name__)


class NoStrategy(Exception):
    """The chatbot cannot answer: `code` says why, the message names the model."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Remembering:
    """How a chatbot remembers answers."""

    strategy_id: UUID
    wrong_hits: float  # the share of hits that may be wrong
    check_share: float  # of what memory could answer, so much is answered afresh


@dataclass(frozen=True, slots=True)
class Material:
    """All that a turn starts from, read in one transaction."""

    instructions: Instructions
    strategy: Strategy
    context: Context
    record_source: RecordSource | None  # None: there is none, it cannot be asked, or it was just now
    source_error: str | None = None  # code: why a source that the chatbot has cannot be asked
    scoring: Scoring = field(default_factory=Scoring)  # who judges the answers
    strictness: float = 0.0  # by how much this customer's ratings have raised the thresholds, in log odds
    remembering: Remembering | None = None  # None: nothing is remembered
    spender: Spender | None = None  # whose budgets the turn touches; None: the tenant's alone
    has_saved_replies: bool = False
    knowledge_version: int = 0  # of the index of the articles, which moves with each change; 0: there is none
    compute: compute.Prices = field(default_factory=dict)  # of what is computed here


def gather(
    chatbot: models.Chatbot,
    customer: accounts.Customer,
    conversation: models.Conversation,
    question: str,
    now: datetime,
) -> Material:
    """`now`: by the database's clock, as everything on the books, so prices and tariffs change at one moment.

    Raises NoStrategy.
    """
    source, source_error = record_source(chatbot, conversation, now)
    raised = strictness(ratings(customer.id), expected())
    pays = spender(chatbot, customer)
    affordable = cheapest(strategy(chatbot, now, pays.segment), cheapest_tiers(chatbot.tenant_id, pays))
    return Material(
        instructions=instructions(chatbot),
        strategy=with_strictness(affordable, raised),
        context=Context(
            customer=customer_value(customer),
            question=question,
            now=now,
            history=history(conversation),
            summary=conversation.summary,
            passages=() if chatbot.knowledge_version else articles(chatbot),  # else `cascade.knowledge` finds them
        ),
        record_source=source,
        source_error=source_error,
        scoring=scoring(),
        strictness=raised,
        remembering=remembering(chatbot),
        spender=pays,
        has_saved_replies=chatbot.saved_replies.filter(state=models.SavedReply.State.APPROVED).exists(),
        knowledge_version=chatbot.knowledge_version,
        compute=compute_prices(now),
    )


def articles(chatbot: models.Chatbot) -> tuple[Passage, ...]:
    """Whole, as long as there is no index of them."""
    rows = chatbot.articles.order_by("slug")[:MOST_ARTICLES]
    return tuple(Passage(source_id=article.slug, title=article.title, text=article.body) for article in rows)


def spender(chatbot: models.Chatbot, customer: accounts.Customer) -> Spender:
    return Spender(chatbot.id, customer.id, segment(customer))


def segment(customer: accounts.Customer) -> str:
    return segment_of(customer.attributes)


def segment_of(attributes: Mapping[str, Any]) -> str:
    """The tenant's own word for a group of customers; "": the customer is in none."""
    return str(attributes.get("segment") or "")[:LONGEST_SEGMENT]


def remembering(chatbot: models.Chatbot) -> Remembering | None:
    """A chatbot whose answers nobody judges remembers none: nothing could tell for whom they are good."""
    if not chatbot.wrong_hits or not chatbot.floor or chatbot.live_strategy_id is None:
        return None
    return Remembering(chatbot.live_strategy_id, chatbot.wrong_hits, chatbot.check_share)


def instructions(chatbot: models.Chatbot) -> Instructions:
    return Instructions(
        name=chatbot.name,
        instructions=chatbot.instructions,
        tone=chatbot.tone,
        stale_after=chatbot.stale_after,
    )


def customer_value(customer: accounts.Customer) -> Customer:
    return Customer(
        external_id=customer.external_id,
        verified=customer.verified,
        locale=customer.locale or None,
        attributes=customer.attributes,
        records=tuple(
            record_value(record) for record in customer.records.order_by("-as_of", "type", "external_id")[:MOST_RECORDS]
        ),
    )


def record_value(record: accounts.CustomerRecord) -> Record:
    return Record(type=record.type, external_id=record.external_id, as_of=record.as_of, data=record.data)


def history(conversation: models.Conversation) -> tuple[Utterance, ...]:
    """What the summary does not stand for, oldest first, without the question itself."""
    messages = conversation.messages.order_by("seq")[conversation.summarised :]
    return tuple(Utterance(role=message.role, text=message.text) for message in messages)  # type: ignore[arg-type]


def record_source(
    chatbot: models.Chatbot, conversation: models.Conversation, now: datetime
) -> tuple[RecordSource | None, str | None]:
    """`Material.record_source` and `Material.source_error`."""
    fetched = conversation.records_fetched_at
    asked_just_now = fetched is not None and now - fetched < chatbot.record_source_ttl
    if not chatbot.record_source_url or chatbot.record_source_secret is None or asked_just_now:
        return None, None
    try:
        secret = unseal(chatbot.record_source_secret)
    except CannotOpen:
        log.error("record_source_secret_cannot_be_opened", chatbot_id=str(chatbot.id))
        return None, "secret_unreadable"
    source = RecordSource(url=chatbot.record_source_url, secret=secret, allow_private=settings.PRIVATE_RECORD_SOURCES)
    return source, None


# --- the strategy and its prices ------------------------------------------------------------


def strategy(chatbot: models.Chatbot, now: datetime, segment: str) -> Strategy:
    """The live strategy at today's prices, for customers of a segment; the last tier's threshold is the floor.

    Disabled models are left out. Raises NoStrategy, before anything is called: no strategy, no model
    left, or a model without a price.
    """
    row = chatbot.live_strategy
    if row is None:
        raise NoStrategy("no_strategy", f"{chatbot} has no live strategy")
    known = {model.name: model for model in models.LanguageModel.objects.filter(enabled=True)}
    wanted = [tier for tier in row.tiers if tier["model"] in known]
    if not wanted:
        raise NoStrategy("no_model", f"no model of {row} is available")
    prices = current_prices((known[tier["model"]] for tier in wanted), now)
    tiers = [tier_value(tier, known[tier["model"]], prices[tier["model"]], segment) for tier in wanted]
    return Strategy(
        version=str(row.version), tiers=with_floor(tiers, chatbot.floor), deadline_seconds=row.deadline_seconds
    )


def tier_value(tier: Mapping[str, Any], model: models.LanguageModel, price: Price, segment: str) -> Tier:
    """`tier`: as `CascadeStrategy.tiers` has it."""
    return Tier(
        model=language_model(model, price),
        threshold=threshold(tier, segment),
        deadline_seconds=tier["deadline_seconds"],
        max_output_tokens=tier["max_output_tokens"],
    )


def with_floor(tiers: list[Tier], floor: float) -> tuple[Tier, ...]:
    last = tiers[-1]
    return (*tiers[:-1], Tier(last.model, floor, last.deadline_seconds, last.max_output_tokens))


def cheapest(found: Strategy, tiers: int | None) -> Strategy:
    """The strategy with so many of its cheapest tiers (None: all), under the same floor."""
    if tiers is None:
        return found
    floor = found.tiers[-1].threshold
    return replace(found, tiers=with_floor(list(found.tiers[:tiers]), floor))


def with_strictness(found: Strategy, raised: float) -> Strategy:
    """The strategy for a customer whose thresholds are raised by so many log odds."""
    if not raised:
        return found
    tiers = tuple(replace(tier, threshold=stricter(tier.threshold, raised)) for tier in found.tiers)
    return replace(found, tiers=tiers)


def current_prices(wanted: Iterable[models.LanguageModel], now: datetime) -> dict[str, Price]:
    """By model name. Raises NoStrategy when a model has no price today: an unknown price is never free."""
    wanted = list(wanted)
    found = {row.model.name: price_value(row) for row in prices_at(wanted, now)}
    for model in wanted:
        if model.name not in found:
            raise NoStrategy("unknown_price", f"{model.name} has no price")
    return found


def prices_at(wanted: Iterable[models.LanguageModel], moment: datetime) -> list[models.Price]:
    """What each model costs the tenant at `moment`: by its own override where one is in force, else by the list."""
    rows = models.Price.objects.filter(model__in=wanted, valid_from__lte=moment).select_related("model")
    latest = {(row.model_id, row.tenant_id is not None): row for row in rows.order_by("valid_from")}
    overrides = {
        model_id: row
        for (model_id, own), row in latest.items()
        if own and (row.valid_until is None or row.valid_until > moment)
    }
    listed = {model_id: row for (model_id, own), row in latest.items() if not own}
    return list((listed | overrides).values())


def compute_prices(moment: datetime) -> compute.Prices:
    wanted = models.LanguageModel.objects.filter(provider=compute.PROVIDER, name__in=compute.NAMES)
    return {row.model.name: price_value(row) for row in prices_at(wanted, moment)}


def dearest_cost(call: models.ModelCall) -> Money:
    """What the usage of `call` would have cost at the dearest model of its turn's strategy, at the turn's prices."""
    usage = Usage(
        input_tokens=call.input_tokens or 0,
        output_tokens=call.output_tokens or 0,
        cached_input_tokens=call.cached_input_tokens,
        cache_write_tokens=call.cache_write_tokens,
        reasoning_tokens=call.reasoning_tokens,
    )
    return dearest(call.turn, usage)


def dearest(turn: models.Turn, usage: Usage) -> Money:
    tiers = turn.strategy.tiers if turn.strategy else []
    wanted = models.LanguageModel.objects.filter(enabled=True, name__in=[tier["model"] for tier in tiers])
    return max((pricing.cost(usage, price_value(row)) for row in prices_at(wanted, turn.created_at)), default=ZERO)


def price_value(row: models.Price) -> Price:
    return Price(
        version=str(row.id),
        **{name: getattr(row, name) for name in FIGURES},
        long_prompts=tuple(LONG_PROMPTS.validate_python(row.long_prompts)),
    )


def price_columns(price: Price) -> dict[str, Any]:
    """A price as the columns of a row."""
    figures = {name: getattr(price, name) for name in FIGURES}
    return figures | {"long_prompts": LONG_PROMPTS.dump_python(list(price.long_prompts), mode="json")}


def language_model(row: models.LanguageModel, price: Price) -> LanguageModel:
    return LanguageModel(
        name=row.name, provider=row.provider, remote_name=row.remote_name, price=price, base_url=row.base_url
    )
