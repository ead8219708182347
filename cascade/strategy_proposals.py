"""Searches a chatbot's own turns for a better strategy, and proposes it as a version that nobody has promoted yet.

Run from a command or a background job; how far it is stands on the `Proposal`. What is found is compared with the
strategy that is live now, on questions that did not choose it (`cascade.optimiser`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts.tenancy import in_tenant
from cascade import strategies, turn_table
from cascade.exploration import extra_models
from cascade.learning import intervals
from cascade.learning.replaying import Replayed, replay
from cascade.learning.table import LEAST_QUESTIONS, BadTable, EvaluationTable
from cascade.models import CascadeStrategy, Chatbot, Proposal
from cascade.optimiser import Choice, Estimate, Goal, Unreachable, optimise
from cascade.optimiser import Proposal as Found
from cascade.turn_table import Recorded

JOB = "chatbackend.tasks.optimise_cascade"
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
    """What to look for: the same for less, or more for the same; both numbers None: as the live strategy does."""

    aim: str = "cheaper"  # or "better"
    quality: float | None = None  # of "cheaper": mean, 0..1
    budget_micros: float | None = None  # of "better": mean a turn
    latency_seconds: float | None = None  # within which 95 % of the turns are answered

    def __post_init__(self) -> None:
        if self.aim not in ("cheaper", "better"):
            raise ValueError("the aim is cheaper or better")
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise ValueError("a quality is from 0 to 1")
        for name in ("budget_micros", "latency_seconds"):
            if (value := getattr(self, name)) is not None and not 0 < value < 1e12:
                raise ValueError(f"{name.split('_')[0]} must be above 0")

    def goal(self, live: Replayed, floor: float) -> Goal:
        budget = (self.budget_micros or live.mean_cost_micros) if self.aim == "better" else None
        quality = live.mean_quality if self.quality is None else self.quality
        return Goal(budget, quality if budget is None else None, self.latency_seconds, floor)


def begin(chatbot: Chatbot, wish: Wish, by: str) -> Proposal:
    """A search that waits to be done. Raises Searching."""
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
        report, strategy = _search(row.chatbot, Wish(**row.wish), tell)
        ended: dict[str, Any] = {"state": State.PROPOSED, "report": report, "strategy": strategy}
    except (BadTable, Unreachable, NothingBetter, strategies.UnfitTiers) as refusal:
        told = refusal.args[1] if len(refusal.args) > 1 else {}
        ended = {"state": State.REFUSED, "refusal": str(refusal.args[0]), "report": told}
    except Exception:
        _note(tenant_id, proposal_id, state=State.FAILED, refusal="it broke off; the operator's log says why")
        raise
    log.info("strategy_searched", tenant_id=str(tenant_id), proposal_id=str(proposal_id), state=ended["state"])
    return _note(tenant_id, proposal_id, percent=100, step="", **ended)


def _note(tenant_id: UUID, proposal_id: UUID, **columns: Any) -> Proposal:
    with in_tenant(tenant_id):
        Proposal.objects.filter(id=proposal_id).update(updated_at=timezone.now(), **columns)
        return Proposal.objects.select_related("strategy__chatbot", "chatbot").get(id=proposal_id)


def _search(chatbot: Chatbot, wish: Wish, tell: Progress) -> tuple[dict[str, Any], CascadeStrategy]:
    """Raises BadTable, Unreachable, NothingBetter."""
    live = chatbot.live_strategy
    if live is None:
        raise BadTable("the chatbot has no live strategy to compare with; promote one first")
    tell(5, f"reading the turns of the last {DAYS} days")
    now = timezone.now()
    recorded = turn_table.read(chatbot, now - timedelta(days=DAYS), now)
    chain = [tier["model"] for tier in live.tiers]
    table = _learnable(recorded, chatbot, chain)
    tell(50, f"searching: {len(table.questions)} turns, {len(table.models)} models")
    present = replay(table, chain, limits(live))
    found = optimise(table, wish.goal(present, chatbot.floor))
    tell(90, "comparing with the live strategy")
    report = about(recorded, table) | _compared(table, present, live, found)
    _require_better(wish, found, live, report)
    made = strategies.add_version(chatbot, tiers_of(found, live), live.deadline_seconds)
    return report, made


def limits(strategy: CascadeStrategy) -> list[float]:
    """Its thresholds; the last is the chatbot's floor."""
    return [*(tier["threshold"] for tier in strategy.tiers[:-1]), strategy.chatbot.floor]


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
    same = list(found.chain) == [tier["model"] for tier in live.tiers] and list(found.thresholds) == limits(live)
    asked = wish.quality is not None or wish.budget_micros is not None
    gained = report["saved"] if wish.aim == "cheaper" else report["quality_difference"]
    if same or (not asked and gained["mean"] <= 0):
        what = "cheaper at its quality" if wish.aim == "cheaper" else "better at its cost"
        raise NothingBetter(f"on turns that did not choose it, nothing was {what} than the live strategy", report)


def tiers_of(found: Found, live: CascadeStrategy) -> list[dict[str, Any]]:
    """As a `CascadeStrategy` keeps them; a model that is new gets the time and the length of the live one's last."""
    known = {tier["model"]: tier for tier in live.tiers}
    return [
        known.get(model, live.tiers[-1]) | {"model": model, "threshold": threshold}
        for model, threshold in zip(found.chain, found.thresholds, strict=True)
    ]


# --- what is told ---------------------------------------------------------------------------


def about(recorded: Recorded, table: EvaluationTable) -> dict[str, Any]:
    """What the search rests on."""
    free = ~recorded.explored.any(axis=1)
    return {
        "turns": len(recorded.table.questions),
        "complete": len(table.questions),
        "explored": int((~free).sum()),
        "judged_by": dict(recorded.judged_by),
        "other_weights": recorded.other_weights,
        "models": [
            {"model": model, "quality": float(quality), "cost_micros": float(cost)}
            for model, quality, cost in zip(table.models, table.mean_quality, table.mean_cost_micros, strict=True)
        ],
        "left_out": [model for model in recorded.table.models if model not in table.models],
    }


def _compared(table: EvaluationTable, present: Replayed, live: CascadeStrategy, found: Found) -> dict[str, Any]:
    samples, weight = intervals.drawn(table.weight), table.weight
    unseen = found.unseen
    return {
        "present": {
            "version": live.version,
            "asks": live.asks,
            "quality": told(intervals.of_mean(present.quality, samples, weight)),
            "cost_micros": told(intervals.of_mean(present.cost_micros, samples, weight)),
        },
        "proposed": {
            "asks": asks(found.chain, found.thresholds),
            "quality": told(found.quality),
            "cost_micros": told(found.cost_micros),
        },
        "saved": told(intervals.of_saving(unseen.cost_micros, present.cost_micros, samples, weight)),
        "quality_difference": told(intervals.of_mean(unseen.quality - present.quality, samples, weight)),
        "best_single": found.best_single,
        "saved_vs_best_single": told(found.saved),
        "dominated": list(found.dominated),
        "frontier": [point(choice) for choice in found.frontier],
    }


def point(choice: Choice) -> dict[str, Any]:
    return {
        "asks": asks(choice.chain, choice.thresholds),
        "quality": choice.quality,
        "cost_micros": choice.cost_micros,
    }


def asks(chain: tuple[str, ...], thresholds: tuple[float, ...]) -> str:
    return " → ".join(f"{model} (≥ {limit:.3g})" for model, limit in zip(chain, thresholds, strict=True))


def told(estimate: Estimate) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), astuple(estimate), strict=True))
