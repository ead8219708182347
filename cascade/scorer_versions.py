"""The life of a tenant's own weights: candidate, shadow, live, retired. The only writer of versions.

A version replaces the live one only if it is not worse on the tenant's own recent labels (`scorer.comparing`), of
customers that neither learnt from. Going back takes one step and no test. Whatever is live here judges the next turn in
every process (`scorer_tuning`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from procrastinate.contrib.django import app

from accounts.tenancy import in_tenant
from cascade import scorer_labels
from cascade.models import ModelCall, ScorerCalibration, ScorerVersion, ShadowScore
from cascade.scorer import manifest
from cascade.scorer.calibration import Calibration, fit_shrunk, logit
from cascade.scorer.comparing import Comparison, Judged, compare
from cascade.scorer.legible import judgeable
from cascade.scorer.own_rows import Label, half, name, part
from cascade.scorer.rows import CONTEXT
from cascade.scorer.serving import Scorer
from cascade.scorer_tuning import expected, folder_of, is_outdated, live_folder, scoring
from cascade.values import Context

AT_ONCE = 16  # answers under way to a scorer's process
SHADOWED_AT_ONCE = 500  # calls scored in one go
PATIENCE = 120.0  # seconds for one answer in the background, where nobody waits

State = ScorerVersion.State
Asked = Sequence[tuple[Context, str]]  # answers, each with what it answers
Scored = Callable[[Asked], list[float | None]]
log = structlog.get_logger(__name__)


class NotPromoted(Exception):
    """The version must not become live; the message says why."""


class NotScored(Exception):
    """A scorer had no score for an answer that a comparison needs."""


class NoSuchVersion(LookupError):
    """The tenant has no such version, or none in a state that allows this."""


# --- candidate, shadow, live, retired ---------------------------------------------------------


def register(tenant_id: UUID, folder: Path, learnt_from: dict[str, Any]) -> ScorerVersion:
    """A freshly trained folder below VAR_DIR/scorers as a candidate. Raises UnfitWeights."""
    described = manifest.read(folder)
    with in_tenant(tenant_id):
        version, new = ScorerVersion.objects.get_or_create(
            tenant_id=tenant_id,
            weights_version=described.version,
            defaults={
                "folder": str(folder.relative_to(Path(settings.VAR) / "scorers")),
                "learnt_from": learnt_from,
                "metrics": described.metrics.get("reported half") or {},
            },
        )
    if new:
        log.info("scorer_trained", tenant_id=str(tenant_id), version=described.version)
    return version


def shadow(tenant_id: UUID, version: str) -> None:
    """From now on the version's scores are recorded beside the live ones; one at a time. Raises NoSuchVersion."""
    with in_tenant(tenant_id):
        _locked().filter(state=State.SHADOW).update(state=State.CANDIDATE)
        _move(version, {State.CANDIDATE}, state=State.SHADOW)
    log.info("scorer_shadowed", tenant_id=str(tenant_id), version=version)


def promote(tenant_id: UUID, version: str, by: str) -> Comparison:
    """Compare with what is live, then make it live. Raises NoSuchVersion, NotPromoted (nothing has changed then)."""
    with in_tenant(tenant_id):
        row = _find(version, {State.CANDIDATE, State.SHADOW})
        live, old = ScorerVersion.objects.filter(state=State.LIVE).first(), live_folder()
    labels = unlearnt(scorer_labels.labels(tenant_id))
    found, fitted = compare_folders(labels, old, folder_of(row))
    with in_tenant(tenant_id):
        ScorerVersion.objects.filter(id=row.id).update(comparison=found.as_json())
        if found.refusal:
            log.info("scorer_not_promoted", tenant_id=str(tenant_id), version=version)
        else:
            _go_live(row, live, by)
            _read_through(row, fitted, found)
    if found.refusal:
        raise NotPromoted(found.refusal)
    log.info("scorer_promoted", tenant_id=str(tenant_id), version=version, by=by)
    return found


def promote_later(tenant_id: UUID, version: str, by: str) -> int:
    """`promote` by the worker, for comparing takes minutes; the job's number."""
    told = {"tenant_id": str(tenant_id), "version": version, "by": by}
    return app.configure_task("chatbackend.tasks.promote_scorer").defer(**told)


def rollback(tenant_id: UUID, by: str) -> str:
    """Back to what was live before, in the end the shipped weights; the version that is live now ("": shipped).

    Raises NoSuchVersion when the shipped weights are live already.
    """
    with in_tenant(tenant_id):
        live = _locked().filter(state=State.LIVE).first()
        if live is None:
            raise NoSuchVersion("the shipped weights are live, there is nothing to go back to")
        replaced = ScorerVersion.objects.filter(state=State.RETIRED, retired_at=live.promoted_at)
        earlier = replaced.first()  # none where it was the shipped weights: what a rollback retired stays retired
        _retire(live, by, timezone.now())
        if earlier:
            ScorerVersion.objects.filter(id=earlier.id).update(state=State.LIVE, retired_at=None, retired_by="")
    now_live = earlier.weights_version if earlier else ""
    log.info("scorer_rolled_back", tenant_id=str(tenant_id), version=now_live or "shipped", by=by)
    return now_live


def _go_live(row: ScorerVersion, compared_with: ScorerVersion | None, by: str) -> None:
    """Raises NotPromoted when another version became live while they were compared."""
    live = _locked().filter(state=State.LIVE).first()
    if live != compared_with:
        raise NotPromoted("another version has become live meanwhile; compare again")
    now = timezone.now()  # of both, so that a rollback knows which version made room for this one
    if live:
        _retire(live, by, now)
    _move(
        row.weights_version,
        {State.CANDIDATE, State.SHADOW},
        state=State.LIVE,
        promoted_at=now,
        promoted_by=by,
    )


def _read_through(row: ScorerVersion, fitted: Calibration, found: Comparison) -> None:
    """From its first turn on the version's scores are read as its trial says; each night they are fitted again."""
    hoped = expected()
    told = {"scale": fitted.scale, "shift": fitted.shift, "labels": found.good + found.bad}
    told |= {"expected_bad": hoped.bad, "expected_worth": hoped.worth}
    ScorerCalibration.objects.update_or_create(
        tenant_id=row.tenant_id, weights_version=row.weights_version, defaults=told
    )


def _retire(row: ScorerVersion, by: str, at: datetime) -> None:
    changed = {"state": State.RETIRED, "retired_at": at, "retired_by": by}
    ScorerVersion.objects.filter(id=row.id).update(**changed)


def _locked() -> QuerySet[ScorerVersion]:
    """The tenant's versions, which nobody else changes until we commit."""
    list(ScorerVersion.objects.select_for_update().order_by("id").values_list("id"))
    return ScorerVersion.objects.all()


def _find(version: str, states: set[State]) -> ScorerVersion:
    found = ScorerVersion.objects.filter(weights_version=version, state__in=states).first()
    if found is None:
        raise NoSuchVersion(f"no version {version} that is {' or '.join(sorted(states))}")
    return found


def _move(version: str, states: set[State], **changed: Any) -> None:
    ScorerVersion.objects.filter(id=_find(version, states).id).update(**changed)


# --- what versions say of answers --------------------------------------------------------------


def unlearnt(labels: Sequence[Label]) -> list[Label]:
    """Those of customers that no version of the tenant's has learnt from."""
    return [label for label in labels if part(label.customer) == "validation"]


def compare_folders(labels: Sequence[Label], old: Path, new: Path) -> tuple[Comparison, Calibration]:
    """Both folders on the same labels, and the tenant's map for the new one. Raises UnfitWeights.

    `labels`: `unlearnt` ones. The customers of half 0, on whom the weights were calibrated, fit the tenant's map; those
    of half 1, by whom nothing was fitted, are compared, as they would be served.
    """
    labels = [label for label in labels if judgeable(label.context.question, label.answer)]  # others get no score
    compared = [at for at, label in enumerate(labels) if half(label.customer) == 1]
    nothing = [0.5] * len(labels)
    if (too_few := compare(judged(labels, nothing, nothing, compared))).area_new is None:  # before a process is started
        return too_few, Calibration()
    asked = [(label.context, label.answer) for label in labels]
    try:
        before, after = (known(scores(folder, asked)) for folder in (old, new))
    except (TimeoutError, NotScored):
        return Comparison(0, 0, 0, refusal="the answers could not be scored in time; try again"), Calibration()
    read = judged(labels, as_served(labels, before), as_served(labels, after), compared)
    return compare(judged(labels, before, after, compared), read), own_map(labels, after, {0, 1})


def judged(
    labels: Sequence[Label], before: Sequence[float], after: Sequence[float], compared: Sequence[int]
) -> list[Judged]:
    return [Judged(name(labels[at].customer), labels[at].good, before[at], after[at]) for at in compared]


def as_served(labels: Sequence[Label], said: Sequence[float]) -> list[float]:
    """The scores, read through the map that the customers of half 0 fit."""
    fitted = own_map(labels, said, {0})
    return [fitted.lowered(score) for score in said]


def own_map(labels: Sequence[Label], said: Sequence[float], halves: set[int]) -> Calibration:
    """The tenant's map, fitted as it is each night: by the replies that were shown, here of some customers."""
    heard = [at for at, label in enumerate(labels) if label.kind == "reply" and half(label.customer) in halves]
    return fit_shrunk([logit(said[at]) for at in heard], [labels[at].good for at in heard])


def known(said: Sequence[float | None]) -> list[float]:
    """Raises NotScored when one is missing."""
    found = [score for score in said if score is not None]
    if len(found) < len(said):
        raise NotScored
    return found


def scores(folder: Path, asked: Asked) -> list[float | None]:
    """By a process of its own, which is gone when this returns; see `scoring_by`."""
    with scoring_by(folder) as scored:
        return scored(asked)


@contextmanager
def scoring_by(folder: Path) -> Iterator[Scored]:
    """One process for as many batches as are asked, begun with the first; scores as they come, through no map.

    Raises UnfitWeights; a batch, TimeoutError when the process does not come up.
    """
    scorer = Scorer(folder)

    async def scored(asked: Asked) -> list[float | None]:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(context: Context, answer: str) -> float | None:
            async with room:
                return await scorer.score(context, answer, deadline_seconds=PATIENCE)

        await scorer.start()
        return await asyncio.gather(*(one(*each) for each in asked))

    with asyncio.Runner() as runner:
        try:
            yield lambda asked: runner.run(scored(asked)) if asked else []
        finally:
            runner.run(scorer.close())


def score_in_shadow(tenant_id: UUID) -> int:
    """What the tenant's shadow version says of the latest answers, put on record beside the live scores; how many.

    Read through the tenant's map for that version, as the live scores are through theirs.
    """
    with in_tenant(tenant_id):
        row = ScorerVersion.objects.filter(state=State.SHADOW).first()
        asked = _unshadowed(row) if row and not is_outdated(row) else []
        tenants_map = scoring().maps.get(row.weights_version, Calibration()) if row else Calibration()
    if row is None or not asked:
        return 0
    found = scores(folder_of(row), [(context, answer) for _, context, answer in asked])
    with in_tenant(tenant_id):
        ShadowScore.objects.bulk_create(
            [
                ShadowScore(
                    tenant_id=tenant_id,
                    call_id=call_id,
                    version=row,
                    score=None if score is None else tenants_map.lowered(score),
                )
                for (call_id, _, _), score in zip(asked, found, strict=True)
            ],
            ignore_conflicts=True,
        )
    return len(found)


def _unshadowed(row: ScorerVersion) -> list[tuple[UUID, Context, str]]:
    """Answers that were scored since the version was trained, and not by it; oldest first."""
    calls = ModelCall.objects.filter(score__isnull=False, created_at__gte=row.created_at, turn__context__isnull=False)
    calls = calls.exclude(shadow_scores__version=row).select_related("turn__context").order_by("created_at")
    return [
        (call.id, CONTEXT.validate_python(call.turn.context.context), call.text) for call in calls[:SHADOWED_AT_ONCE]
    ]
