"""What another strategy would have done: with a past period (replay), or with the turns of a trial to come (shadow).

Nothing is asked for it: the strategy is played over what is on record. A turn is known where it would have asked only
models that were asked; where it needed another, only turns that were explored tell, and stand for the rest. A shadow
trial is compared once, when its turns are over; nobody looks before, for who looks often finds something by chance.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade import turn_table
from cascade.exploration import WITHIN
from cascade.learning import intervals
from cascade.learning.replaying import HANDED_OVER, UNKNOWN, Replayed, replay
from cascade.learning.sampling import strata, weights
from cascade.learning.table import BadTable
from cascade.models import CascadeStrategy, Chatbot, ShadowTrial
from cascade.proposal_report import told
from cascade.strategies import NoSuchStrategy
from cascade.strategy_proposals import limits, limits_by_segment
from cascade.turn_table import MOST_TURNS, Recorded

MOST_REPLAYED = 2_000  # turns of a period, the newest: somebody waits for the page
DRAWS = 500  # of the bootstrap, likewise
LEAST_TURNS = 50  # of a trial
State = ShadowTrial.State
log = structlog.get_logger(__name__)


class NoTrial(Exception):
    """A trial cannot be begun or stopped; the message says why."""


def compare(
    strategy: CascadeStrategy, since: datetime, until: datetime, most: int = MOST_REPLAYED, draws: int = DRAWS
) -> dict[str, Any]:
    """What the strategy would have done to the chatbot's turns of a period, beside what was done.

    Raises BadTable: there is none, or none can be replayed.
    """
    recorded = turn_table.read(strategy.chatbot, since, until, most)
    if not recorded.table.questions:
        raise BadTable("no turn of this period was answered by models")
    chain = [tier["model"] for tier in strategy.tiers]
    if missing := [model for model in chain if model not in recorded.asked]:
        raise BadTable(
            f"nobody has asked {missing[0]} in this period: name it among the chatbot's models to try, or begin a"
            " shadow trial, so that explored turns ask it"
        )
    thresholds, others = limits(strategy), limits_by_segment(strategy)
    with_explored, as_it_was = (
        replay(table, chain, thresholds, by_segment=others) for table in (recorded.table, recorded.live)
    )
    return _report(recorded, chain, with_explored, as_it_was, draws)


def _report(recorded: Recorded, chain: list[str], played: Replayed, as_it_was: Replayed, draws: int) -> dict[str, Any]:
    free, known = as_it_was.tier != UNKNOWN, played.tier != UNKNOWN
    weight = weights(free, known, recorded.chance, strata(recorded.table.segment, free, known))
    judged = (weight > 0) & ~np.isnan(played.quality) & ~np.isnan(recorded.quality)
    counts = {
        "turns": len(known),
        "as_recorded": int(free.sum()),
        "by_exploring": int((known & ~free).sum()),
        "unknown": int((~known).sum()),
        "unrepresented": int((~free).sum()) if not (known & ~free).any() else 0,
        "unjudged": int((weight > 0).sum() - judged.sum()),
        "judged_by": dict(recorded.judged_by),
        "other_weights": recorded.other_weights,
    }
    if not judged.any():
        raise BadTable(f"none of the {len(known)} turns can be replayed: {counts['unknown']} need models not asked")
    mine, live = (played.quality[judged], played.cost_micros[judged]), _live(recorded, judged)
    w = weight[judged]
    samples = intervals.drawn(w, draws)
    return counts | {
        "compared": int(judged.sum()),
        "quality": told(intervals.of_mean(mine[0], samples, w)),
        "cost_micros": told(intervals.of_mean(mine[1], samples, w)),
        "live_quality": told(intervals.of_mean(live[0], samples, w)),
        "live_cost_micros": told(intervals.of_mean(live[1], samples, w)),
        "quality_difference": told(intervals.of_mean(mine[0] - live[0], samples, w)),
        "saved": told(intervals.of_saving(mine[1], live[1], samples, w)) if live[1].any() else None,
        "answers": [
            {"by": name, "share": float(np.average(played.tier[judged] == tier, weights=w))}
            for tier, name in [*enumerate(chain), (HANDED_OVER, "a person")]
        ],
        "live_handed_over": float(np.average(recorded.handed_over[judged], weights=w)),
    }


def _live(recorded: Recorded, judged: turn_table.Mask) -> tuple[turn_table.Numbers, turn_table.Numbers]:
    return recorded.quality[judged], recorded.cost_micros[judged]


# --- a trial in the shadow ------------------------------------------------------------------


def begin(strategy: CascadeStrategy, turns: int, by: str) -> ShadowTrial:
    """From now on explored turns ask this strategy's models as well, until so many turns are over. Raises NoTrial."""
    if not LEAST_TURNS <= turns <= MOST_TURNS:
        raise NoTrial(f"a trial takes {LEAST_TURNS} to {MOST_TURNS} turns")
    with in_tenant(strategy.tenant_id):
        chatbot = Chatbot.objects.select_for_update().get(id=strategy.chatbot_id)
        if chatbot.live_strategy_id in (None, strategy.id):
            raise NoTrial(f"{strategy} is live: another version is needed to compare with it")
        if chatbot.shadow_trials.filter(state=State.RUNNING).exists():
            raise NoTrial("a trial of this chatbot is running; stop it first")
        return ShadowTrial.objects.create(
            tenant_id=strategy.tenant_id,
            chatbot=chatbot,
            strategy=strategy,
            live_id=chatbot.live_strategy_id,
            turns=turns,
            begun_by=by,
        )


def stop(tenant_id: UUID, trial_id: UUID) -> None:
    """Without a comparison. Raises NoSuchStrategy: no such trial runs."""
    if not _end(tenant_id, trial_id, State.STOPPED, {"refusal": "somebody stopped it"}):
        raise NoSuchStrategy("no such trial is running")


def compare_due(tenant_id: UUID) -> int:
    """Compare the trials whose turns are over, and end those whose live strategy was changed meanwhile; how many."""
    with in_tenant(tenant_id):
        about = ("strategy__chatbot__live_strategy", "chatbot")
        running = list(ShadowTrial.objects.filter(state=State.RUNNING).select_related(*about))
    return sum(_compare(trial) for trial in running)


def so_far(trial: ShadowTrial) -> int:
    """How many of its turns there were; all that is told before the end."""
    with in_tenant(trial.tenant_id):
        return min(trial.turns, turn_table.turns(trial.chatbot, trial.created_at, timezone.now()).count())


def _compare(trial: ShadowTrial) -> bool:
    if trial.chatbot.live_strategy_id != trial.live_id:
        changed = "the live strategy was changed before the trial was over"
        return _end(trial.tenant_id, trial.id, State.STOPPED, {"refusal": changed})
    with in_tenant(trial.tenant_id):
        its = turn_table.turns(trial.chatbot, trial.created_at, timezone.now()).order_by("created_at")
        last = its.values_list("created_at", flat=True)[trial.turns - 1 : trial.turns].first()
    if last is None or last > timezone.now() - WITHIN:  # the last of them may still be explored
        return False
    try:
        report = compare(trial.strategy, trial.created_at, last + timedelta(microseconds=1), trial.turns)
    except BadTable as refusal:
        report = {"refusal": str(refusal)}
    return _end(trial.tenant_id, trial.id, State.COMPARED, report)


def _end(tenant_id: UUID, trial_id: UUID, state: str, report: dict[str, Any]) -> bool:
    """False: it had ended before."""
    ended = {"state": state, "report": report, "ended_at": timezone.now()}
    with in_tenant(tenant_id):
        changed = bool(ShadowTrial.objects.filter(id=trial_id, state=State.RUNNING).update(**ended))
    if changed:
        log.info("shadow_trial_ended", tenant_id=str(tenant_id), trial_id=str(trial_id), state=state)
    return changed
