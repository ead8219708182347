"""Asks, of a small random share of answered turns, the models that were not needed: what would they have said?

Without it the cascade is blind where it stopped: of a question that the first model answered nobody knows what the
others would have said. It happens in the background after the reply, nobody sees the answers, and each is charged
with the outcome `explored` on a hold of its own, so that no customer's turn ever waits or is refused for it.

With which chance a turn was drawn is on record (`Exploration.chance`), whether it was drawn or not, and 0 where nothing
was left to ask, or that day's bound or the tenant's money had no room for it: estimates weight what is known of a drawn
turn with one over its chance (Horvitz and Thompson 1952; for logged decisions Bottou et al. 2013). One process explores
at a time, under an advisory lock of the database: what is found half done under it was left by a dead one, and settled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet, Subquery, Sum
from django.utils import timezone

from accounts import ledger
from accounts.budgets import BudgetExceeded, Spender
from accounts.models import LedgerEntry, Tenant
from accounts.money import Money
from accounts.tenancy import in_db, in_tenant
from cascade import compute, context, conversations, material, scorer_tuning
from cascade.conversations import CallRecord
from cascade.models import Chatbot, Exploration, LanguageModel, ModelCall, ShadowTrial, Turn
from cascade.providers.remembered import MEMORY
from cascade.runner import Engine, Scorer
from cascade.scorer.pool import Pool, Scoring
from cascade.scorer.rows import CONTEXT
from cascade.values import Attempt, Context, Outcome, Prompt, Strategy, Tier

WITHIN = timedelta(hours=1)  # after its reply; what was not looked at by then is not explored
MOST_AT_ONCE = 200  # turns of a tenant that are looked at in one go
SCORE_SECONDS = 120.0  # for one answer in the background, where nobody waits
NEVER = 2.0  # a threshold that no score reaches: every model is asked

State = Exploration.State
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A turn that may be explored: what asking the rest would take."""

    turn: Turn
    context: Context
    prompt: Prompt
    tiers: tuple[Tier, ...]  # with the thresholds they have in the strategy
    places: tuple[int, ...]  # of each in the turn's strategy; past its end: in none
    attempts: int  # that the turn made
    spender: Spender


async def explore(tenant_id: UUID, engine: Engine, draw: Callable[[], float] = random.random) -> int:
    """Look at the tenant's latest turns, and explore those that are drawn; how many were.

    Under the lock that lets one process explore. `engine`'s scorer takes its time: nobody waits.
    """
    await in_db(bury)(tenant_id)
    if (scoring := await in_db(_scoring)(tenant_id)) is None:
        return 0
    judge = await _judge(engine.scorer, scoring)
    version, drawn = getattr(judge, "version", ""), 0
    for turn_id in await in_db(_waiting)(tenant_id, version):
        planned = await in_db(_plan)(tenant_id, turn_id, version)
        if planned and (exploration := await in_db(_begin)(planned, engine.ceiling, draw())):
            await _ask(planned, exploration, engine, judge)
            drawn += 1
    return drawn


async def _judge(scorer: Scorer, scoring: Scoring) -> Scorer:
    if not isinstance(scorer, Pool):
        return scorer
    await scorer.start()
    return scorer.judge(scoring)


# --- which turns, and what of them ----------------------------------------------------------


def _scoring(tenant_id: UUID) -> Scoring | None:
    """How the tenant's turns are judged by now; None: none waits, and no scorer need be started."""
    with in_tenant(tenant_id):
        return scorer_tuning.scoring() if _unseen().exists() else None


def _waiting(tenant_id: UUID, scorer_version: str) -> list[UUID]:
    """The oldest turns to look at that these weights judged: those of others must not keep the later ones waiting."""
    calls = ModelCall.objects.filter(turn=OuterRef("pk")).order_by("number").values("scorer_version")
    with in_tenant(tenant_id):
        judged = _unseen().annotate(judged_by=Subquery(calls[:1])).filter(judged_by=scorer_version)
        return list(judged.order_by("created_at").values_list("id", flat=True)[:MOST_AT_ONCE])


def _unseen() -> QuerySet[Turn]:
    """Turns of exploring chatbots that nobody has looked at: answered, or by no model well enough. In `in_tenant`."""
    return Turn.objects.filter(
        conversation__chatbot__in=Chatbot.objects.filter(explored_share__gt=0, explored_micros_a_day__gt=0),
        state__in=(Turn.State.ANSWERED, Turn.State.HANDED_OVER),
        created_at__gte=timezone.now() - WITHIN,
        context__isnull=False,
        exploration=None,
    ).filter(~Exists(ModelCall.objects.filter(turn=OuterRef("pk"), model=MEMORY, outcome=Outcome.ACCEPTED)))


def _plan(tenant_id: UUID, turn_id: UUID, scorer_version: str) -> Planned | None:
    """None: nothing is left to ask, or other weights judge by now, so that the scores could not be compared."""
    with in_tenant(tenant_id):
        about = ("conversation__chatbot", "conversation__customer", "context", "strategy")
        turn = Turn.objects.select_related(*about).get(id=turn_id)
        calls = list(turn.calls.all())
        if not calls or turn.strategy is None or any(call.scorer_version != scorer_version for call in calls):
            return None
        chatbot, customer = turn.conversation.chatbot, turn.conversation.customer
        tiers = unasked(turn, {call.model for call in calls}, timezone.now())
        if not tiers:
            Exploration.objects.create(tenant_id=tenant_id, turn=turn, chance=0)  # not to be looked at again
            return None
        known: Context = CONTEXT.validate_python(turn.context.context)
        instructions = material.instructions(chatbot)
        spender = material.spender(chatbot, customer)
    built = context.build(known, instructions, input_token_budget=settings.PROMPT_TOKEN_BUDGET)
    asked, places = tuple(tier for tier, _ in tiers), tuple(place for _, place in tiers)
    return Planned(turn, known, built.prompt, asked, places, len(calls), spender)


def unasked(turn: Turn, asked: set[str], now: datetime) -> list[tuple[Tier, int]]:
    """Every model of the chatbot that the turn did not ask, with its place in the turn's strategy. In `in_tenant`."""
    assert turn.strategy is not None
    chatbot, tiers = turn.conversation.chatbot, turn.strategy.tiers
    segment = material.segment(turn.conversation.customer)
    tiers = [*tiers[:-1], tiers[-1] | {"threshold": chatbot.floor}]
    wanted = {tier["model"]: (tier, place) for place, tier in enumerate(tiers)}
    for name in extra_models(chatbot):
        wanted.setdefault(name, (tiers[-1] | {"model": name}, len(wanted)))
    known = {row.name: row for row in LanguageModel.objects.filter(enabled=True, name__in=wanted.keys() - asked)}
    try:
        prices = material.current_prices(known.values(), now)
    except material.NoStrategy:
        return []
    return [
        (material.tier_value(tier, known[name], prices[name], segment), place)
        for name, (tier, place) in wanted.items()
        if name in known
    ]


def extra_models(chatbot: Chatbot) -> list[str]:
    """Asked in explored turns beside the strategy's own: those to try, the reference, a shadow's. In `in_tenant`."""
    trial = chatbot.shadow_trials.filter(state=ShadowTrial.State.RUNNING).select_related("strategy").first()
    shadowed = [tier["model"] for tier in trial.strategy.tiers] if trial else []
    return [name for name in (*chatbot.explored_models, chatbot.reference_model, *shadowed) if name]


# --- drawn or not, and paid for -------------------------------------------------------------


def _begin(planned: Planned, ceiling: Callable[[Prompt, Strategy], Money], drawn: float) -> Exploration | None:
    """Put on record whether the turn is explored, and set the money aside; None: it is not."""
    turn, most = planned.turn, ceiling(planned.prompt, _strategy(planned))
    with in_tenant(turn.tenant_id):
        most += compute.most(material.compute_prices(turn.created_at), len(planned.tiers))
        chatbot = turn.conversation.chatbot
        room = most.micros <= chatbot.explored_micros_a_day - spent_today(chatbot)
        chance = chatbot.explored_share if room and ledger.available(turn.tenant_id) >= most else 0.0
        state = State.ASKING if drawn < chance else State.PASSED
        exploration = Exploration(tenant_id=turn.tenant_id, turn=turn, chance=chance, state=state)
        exploration.save(force_insert=True)
        try:
            if state == State.ASKING:
                ledger.hold(turn.tenant_id, exploration.id, most, planned.spender)
        except (ledger.InsufficientFunds, BudgetExceeded):  # a budget of the tenant's is used up
            exploration.state, exploration.chance = State.PASSED, 0.0
            exploration.save()
    return exploration if exploration.state == State.ASKING else None


def spent_today(chatbot: Chatbot) -> int:
    """What the providers charged since midnight, where the tenant is, for exploring (micro-dollars). In `in_tenant`."""
    since = Tenant.objects.get(id=chatbot.tenant_id).midnight()
    explored = LedgerEntry.objects.filter(chatbot_id=chatbot.id, outcome=Outcome.EXPLORED, created_at__gte=since)
    return explored.aggregate(spent=Sum("cost_micros"))["spent"] or 0


def _strategy(planned: Planned) -> Strategy:
    """One that asks everything that is left, whatever the scores."""
    tiers = tuple(replace(tier, threshold=NEVER) for tier in planned.tiers)
    return Strategy("explore", tiers, sum(tier.deadline_seconds for tier in tiers) + len(tiers) * SCORE_SECONDS)


# --- asked, scored, charged -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Puts the attempts on record after those of the turn (`cascade.runner.Recorder`)."""

    planned: Planned
    record: CallRecord
    after: int  # the number of the turn's last attempt

    async def asked(self, attempt_id: str, number: int, tier: int, tier_value: Tier) -> None:
        await in_db(self._asked)(attempt_id, number, tier)

    def _asked(self, attempt_id: str, number: int, tier: int) -> None:
        asked, place = self.planned.tiers[tier], self.planned.places[tier]
        with in_tenant(self.record.tenant_id):
            self.record.put(attempt_id, self.after + number, place, asked, Outcome.EXPLORED)

    async def wrote(self, attempt_id: str, characters: int) -> None:
        await in_db(self.record.wrote)(attempt_id, characters)

    async def billed(self, attempt: Attempt) -> None:
        await in_db(self.record.billed)(attempt)


async def _ask(planned: Planned, exploration: Exploration, engine: Engine, judge: Scorer) -> None:
    turn = planned.turn
    record = CallRecord(turn.tenant_id, turn.id, planned.prompt.input_tokens, getattr(judge, "version", ""))
    recorder = _Recorder(planned, record, planned.attempts)
    run = engine.run(planned.context, planned.prompt, _strategy(planned), recorder, judge)
    try:
        async for _ in run:
            pass
    finally:
        await run.aclose()
        await in_db(_close)(exploration, run.attempts)


def _close(exploration: Exploration, attempts: Sequence[Attempt]) -> None:
    """What was said and what it cost, in one transaction."""
    with in_tenant(exploration.tenant_id):
        for attempt in attempts:
            ModelCall.objects.filter(id=attempt.id).update(score=attempt.score, **conversations.columns(attempt))
        _settle(exploration, State.DONE)


def _settle(exploration: Exploration, state: str) -> None:
    Exploration.objects.filter(id=exploration.id).update(state=state)
    turn = Turn.objects.select_related("conversation").get(id=exploration.turn_id)
    explored = turn.calls.filter(outcome=Outcome.EXPLORED, cost_micros__isnull=False)
    calls = list(explored.select_related("price__model").order_by("number"))
    texts = {compute.SCORER: sum(call.score is not None for call in calls)}
    prices = material.compute_prices(turn.created_at)
    judged = conversations.computed(turn, exploration.id, texts, prices, Outcome.EXPLORED)
    conversations.settle(turn.tenant_id, exploration.id, [*map(conversations.charge, calls), *judged])


def bury(tenant_id: UUID) -> int:
    """Settle what a dead process left half done, at the usage on record or an estimate; how many."""
    with in_tenant(tenant_id):
        left = list(Exploration.objects.select_for_update(of=("self",)).filter(state=State.ASKING))
        for exploration in left:
            calls = ModelCall.objects.filter(turn_id=exploration.turn_id, outcome=Outcome.EXPLORED)
            for call in calls.filter(cost_micros=None).select_related("price"):
                conversations.estimate(call)
                call.error = "process_died"
                call.save()
            _settle(exploration, State.BROKEN_OFF)
    if left:
        log.warning("explorations_buried", tenant_id=str(tenant_id), count=len(left))
    return len(left)
