"""Searches a chatbot's own turns for a better strategy, and proposes it as a version that nobody has promoted yet.

Or for the strictness that keeps a promise; or for what another market would bring, which proposes nothing.

Run from a command or a background job; how far it is stands on the `Proposal`. What is found is compared with the
strategy that is live now, on questions that did not choose it (`cascade.optimiser`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts.tenancy import in_tenant
from cascade import proposal_report, strategies, turn_table
from cascade.exploration import extra_models
from cascade.learning import worth
from cascade.learning.guarantee import CannotPromise, Promise, promised, promised_by_segment
from cascade.learning.replaying import Replayed, replay
from cascade.learning.table import LEAST_QUESTIONS, BadTable, EvaluationTable
from cascade.models import CascadeStrategy, Chatbot, Proposal
from cascade.optimiser import Goal, Unreachable, optimise
from cascade.optimiser import Proposal as Found
from cascade.strategy_check import EXAMPLE_TIER, SEGMENTS, threshold
from cascade.turn_table import Recorded

JOB = "chatbackend.tasks.optimise_cascade"
AIMS = ("cheaper", "better", "promise")
READ_BY = {  # the aims that read a field of a wish
    "quality": ("cheaper",),
    "budget_micros": ("better",),
    "latency_seconds": ("cheaper", "better"),
    "segments": ("cheaper", "better"),
    "most_bad": ("promise",),
    "confidence": ("promise",),
    "prices": ("cheaper", "better"),
    "assumed": ("cheaper", "better"),
}
ASSUMED = "the assumed model"
DAYS = 90  # of turns that are read
INTERRUPTED_AFTER = timedelta(minutes=30)  # without a sign of life: its worker died, and another may be asked for
State = Proposal.State
Progress = Callable[[int, str], None]
log = structlog.get_logger(__name__)


class Searching(Exception):
    """A search for this chatbot is under way already."""


class NothingBetter(Exception):
    """Nothing that was found is better than the strategy that is live."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look for: the same for less, or more for the same; both numbers None: as the live strategy does.

    Or a promise: so few of the answers that are shown are bad.
    """

    aim: str = "cheaper"  # or "better", or "promise"
    quality: float | None = None  # of "cheaper": mean, 0..1
    budget_micros: float | None = None  # of "better": mean a turn
    latency_seconds: float | None = None  # within which 95 % of the turns are answered
    segments: bool = False  # thresholds of their own for segments of customers, where they help; not of "promise"
    most_bad: float = 0.05  # of "promise": share of the answers shown
    confidence: float = 0.95  # of "promise"
    prices: dict[str, float] = field(default_factory=dict)  # what if these models cost so many times as much?
    assumed: dict[str, Any] = field(default_factory=dict)  # what if there were this one? see `worth.with_model`

    def __post_init__(self) -> None:
        if self.aim not in AIMS:
            raise ValueError("the aim is cheaper, better or promise")
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise ValueError("a quality is from 0 to 1")
        for name in ("budget_micros", "latency_seconds"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1e12:
                raise ValueError(f"{name.split('_')[0]} must be above 0")

    @property
    def hypothetical(self) -> bool:
        return bool(self.prices or self.assumed)

    def goal(self, live: Replayed, floor: float) -> Goal:
        budget = (self.budget_micros or live.mean_cost_micros) if self.aim == "better" else None
        quality = live.mean_quality if self.quality is None else self.quality
        return Goal(budget, quality if budget is None else None, self.latency_seconds, floor)


def assumed(quality: float, cost_micros: float | None, like: str) -> dict[str, Any]:
    """Of a wish: a model of this mean quality and cost of a turn, else like a known one."""
    return {"name": ASSUMED, "quality": quality, "cost_micros": cost_micros, "like": like}


def begin(chatbot: Chatbot, wish: Wish, by: str) -> Proposal:
    """A search that waits to be done. Raises Searching, ValueError where the wish says what its aim does not read."""
    usual = Wish(wish.aim)
    for name, aims in READ_BY.items():
        if wish.aim not in aims and getattr(wish, name) != getattr(usual, name):
            raise ValueError(f"a search for {wish.aim} has no {name.split('_')[0]}")
    with in_tenant(chatbot.tenant_id):
        Chatbot.objects.select_for_update().get(id=chatbot.id)
        alive = timezone.now() - INTERRUPTED_AFTER
        if chatbot.proposals.filter(state__in=(State.QUEUED, State.RUNNING), updated_at__gte=alive).exists():
            raise Searching("a search for this chatbot is under way; wait for what it finds")
        told = {name: getattr(wish, name) for name in Wish.__dataclass_fields__}
        return Proposal.objects.create(tenant_id=chatbot.tenant_id, chatbot=chatbot, wish=told, asked_by=by)


def begin_later(chatbot: Chatbot, wish: Wish, by: str) -> Proposal:
    """`begin`, and have the worker do it. Raises Searching."""
    with in_tenant(chatbot.tenant_id):
        begun = begin(chatbot, wish, by)
        app.configure_task(JOB).defer(tenant_id=str(begun.tenant_id), proposal_id=str(begun.id))
        return begun


def propose(tenant_id: UUID, proposal_id: UUID, progress: Progress = lambda percent, step: None) -> Proposal:
    """Do the search; how it ended stands on the row that is returned. A search that was interrupted begins again."""

    def tell(percent: int, step: str) -> None:
        _note(tenant_id, proposal_id, state=State.RUNNING, percent=percent, step=step)
        progress(percent, step)

    with in_tenant(tenant_id):
        row = Proposal.objects.select_related("chatbot__live_strategy__chatbot").get(id=proposal_id)
    if row.state not in (State.QUEUED, State.RUNNING):
        return row
    try:
        done = _note(tenant_id, proposal_id, percent=100, step="", **_ended(row, tell))
    except Exception:
        _note(tenant_id, proposal_id, state=State.FAILED, refusal="it broke off; the operator's log says why")
        raise
    log.info("strategy_searched", tenant_id=str(tenant_id), proposal_id=str(proposal_id), state=done.state)
    return done


def _ended(row: Proposal, tell: Progress) -> dict[str, Any]:
    """The columns of a search that found something, or that was refused."""
    try:
        report, strategy = _search(row.chatbot, Wish(**row.wish), tell)
        return {"state": State.PROPOSED, "report": report, "strategy": strategy}
    except (BadTable, Unreachable, CannotPromise, NothingBetter, strategies.UnfitTiers) as refusal:
        told = refusal.args[1] if len(refusal.args) > 1 else {}
        return {"state": State.REFUSED, "refusal": str(refusal.args[0]), "report": told}


def _note(tenant_id: UUID, proposal_id: UUID, **columns: Any) -> Proposal:
    with in_tenant(tenant_id):
        Proposal.objects.filter(id=proposal_id).update(updated_at=timezone.now(), **columns)
        return Proposal.objects.select_related("strategy__chatbot", "chatbot").get(id=proposal_id)


def _search(chatbot: Chatbot, wish: Wish, tell: Progress) -> tuple[dict[str, Any], CascadeStrategy | None]:
    """No strategy where the wish is hypothetical. Raises BadTable, Unreachable, CannotPromise, NothingBetter."""
    live = chatbot.live_strategy
    if live is None:
        raise BadTable("the chatbot has no live strategy to compare with; promote one first")
    tell(5, f"reading the turns of the last {DAYS} days")
    now = timezone.now()
    # That it agrees with a dearer model is no person's judgement, and no ground for a promise.
    recorded = turn_table.read(chatbot, now - timedelta(days=DAYS), now, by_reference=wish.aim != "promise")
    chain = [tier["model"] for tier in live.tiers]
    if wish.aim == "promise":
        return _promise(recorded, wish, live, chain)
    table = _market(_learnable(recorded, chatbot, chain), wish)
    tell(40, f"searching: {len(table.questions)} turns, {len(table.models)} models")
    present = _played(recorded, table, live, chain)
    goal = wish.goal(present, chatbot.floor)
    found = optimise(table, goal, segments=wish.segments)
    report = proposal_report.about(recorded, table) | proposal_report.compared(table, present, live, found)
    tell(70, "what each model is worth")
    report |= proposal_report.worths(table, goal)
    if wish.hypothetical:
        return report, None
    _require_better(wish, found, live, report)
    tiers = tiers_of(found.chain, found.thresholds, live, found.by_segment)
    return report, strategies.add_version(chatbot, tiers, live.deadline_seconds)


def _market(table: EvaluationTable, wish: Wish) -> EvaluationTable:
    """As it would be with the prices and the model of the wish. Raises BadTable."""
    if wish.assumed:
        table = worth.with_model(table, **wish.assumed)
    return worth.with_prices(table, wish.prices) if wish.prices else table


def _promise(
    recorded: Recorded, wish: Wish, live: CascadeStrategy, chain: list[str]
) -> tuple[dict[str, Any], CascadeStrategy]:
    """The live strategy's models, each as strict as the promise takes. Raises BadTable, CannotPromise.

    Only answers that somebody judged count: a score says what the scorer believes, and it cannot vouch for itself.
    `recorded` was read without the reference model.
    """
    table, promise = recorded.learnable(chain), Promise(wish.most_bad, wish.confidence)
    judged = replace(table, quality=np.where((table.quality == 0) | (table.quality == 1), table.quality, np.nan))
    kept = promised(judged, chain, promise)
    segments = promised_by_segment(judged, chain, promise)
    thresholds = (kept.threshold,) * len(chain)
    present = _played(recorded, table, live, chain)
    strict = replay(table, chain, thresholds)
    report = proposal_report.about(recorded, table)
    report |= proposal_report.beside(table, present, live, strict, proposal_report.asks(tuple(chain), thresholds))
    report["promise"] = proposal_report.kept(kept, segments)
    tiers = tiers_of(tuple(chain), thresholds, live)
    return report, strategies.add_version(live.chatbot, tiers, live.deadline_seconds)


def _played(recorded: Recorded, table: EvaluationTable, live: CascadeStrategy, chain: list[str]) -> Replayed:
    """The live strategy, on the turns of `table`: by the thresholds of each segment, whatever can be learnt of it."""
    segments = dict(zip(recorded.table.questions, recorded.table.segment, strict=True))
    named = replace(table, segment=tuple(segments[turn] for turn in table.questions))
    return replay(named, chain, limits(live), by_segment=limits_by_segment(live))


def limits(strategy: CascadeStrategy, segment: str = "") -> list[float]:
    """Its thresholds for customers of a segment; the last is the chatbot's floor."""
    return [*(threshold(tier, segment) for tier in strategy.tiers[:-1]), strategy.chatbot.floor]


def limits_by_segment(strategy: CascadeStrategy) -> dict[str, list[float]]:
    """Of each segment that has a threshold of its own."""
    names = sorted({name for tier in strategy.tiers for name in tier.get(SEGMENTS, {})})
    return {name: limits(strategy, name) for name in names}


def _learnable(recorded: Recorded, chatbot: Chatbot, chain: list[str]) -> EvaluationTable:
    """Of the live strategy's models, and of others that answered half of the turns that those answered."""
    with in_tenant(chatbot.tenant_id):
        offered, extra = strategies.offered(), extra_models(chatbot)
    if gone := [model for model in chain if model not in offered]:
        raise BadTable(f"the live strategy asks a model that is not offered any more: {', '.join(gone)}")
    table, models = recorded.learnable(chain), chain
    enough = max(LEAST_QUESTIONS, len(table.questions) / 2)
    for name in dict.fromkeys(extra):
        if name in models or name not in offered or name not in recorded.asked:
            continue  # nobody has asked it yet
        wider = recorded.learnable([*models, name])
        if len(wider.questions) >= enough:
            table, models = wider, [*models, name]
    return table


def _require_better(wish: Wish, found: Found, live: CascadeStrategy, report: dict[str, Any]) -> None:
    """Raises NothingBetter, with the report: it tells why."""
    other = {name: list(own) for name, own in found.by_segment.items()} != limits_by_segment(live)
    same = list(found.chain) == [tier["model"] for tier in live.tiers] and list(found.thresholds) == limits(live)
    asked = wish.quality is not None or wish.budget_micros is not None
    gained = report["saved"] if wish.aim == "cheaper" else report["quality_difference"]
    if (same and not other) or (not asked and gained["mean"] <= 0):
        what = "cheaper at its quality" if wish.aim == "cheaper" else "better at its cost"
        raise NothingBetter(f"on turns that did not choose it, nothing was {what} than the live strategy", report)


def tiers_of(
    chain: tuple[str, ...],
    thresholds: tuple[float, ...],
    live: CascadeStrategy,
    by_segment: Mapping[str, tuple[float, ...]] | None = None,
) -> list[dict[str, Any]]:
    """As a `CascadeStrategy` keeps them; a model that is new gets the time and the length of the live one's last."""
    known = {tier["model"]: tier for tier in live.tiers}
    tiers = [
        known.get(model, live.tiers[-1]) | {"model": model, "threshold": limit, SEGMENTS: {}}
        for model, limit in zip(chain, thresholds, strict=True)
    ]
    for name, own in sorted((by_segment or {}).items()):
        for tier, limit in zip(tiers[:-1], own, strict=False):  # the last one's is the floor, for everybody
            if limit != tier["threshold"]:
                tier[SEGMENTS][name] = limit
    return [tier if tier[SEGMENTS] else {key: tier[key] for key in EXAMPLE_TIER} for tier in tiers]
