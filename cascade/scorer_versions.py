"""The life of a tenant's own weights: candidate, shadow, live, retired. The only writer of versions.

A version replaces the live one only if it is not worse on the tenant's own recent labels (`scorer.comparing`), of
customers that neither learnt from. Going back takes one step and no test. Whatever is live here judges the next turn in
every process (`scorer_tuning`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade import scorer_labels
from cascade.models import ModelCall, ScorerVersion, ShadowScore
from cascade.scorer import manifest
from cascade.scorer.calibration import Calibration
from cascade.scorer.comparing import Comparison, Judged, compare
from cascade.scorer.own_rows import Label, name, part
from cascade.scorer.rows import CONTEXT
from cascade.scorer.serving import Scorer
from cascade.scorer_tuning import folder_of, scoring
from cascade.values import Context

AT_ONCE = 16  # answers under way to a scorer's process
SHADOWED_AT_ONCE = 500  # calls scored in one go
PATIENCE = 120.0  # seconds for one answer in the background, where nobody waits

State = ScorerVersion.State
log = structlog.get_logger(__name__)


class NotPromoted(Exception):
    """The version must not become live; the message says why."""


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
        live = ScorerVersion.objects.filter(state=State.LIVE).first()
        maps = scoring().maps
    labels = unlearnt(scorer_labels.labels(tenant_id))
    old = folder_of(live) if live else Path(settings.SCORER_WEIGHTS)
    found = compare_folders(labels, old, folder_of(row), maps)
    with in_tenant(tenant_id):
        ScorerVersion.objects.filter(id=row.id).update(comparison=found.as_json())
        if found.refusal:
            log.info("scorer_not_promoted", tenant_id=str(tenant_id), version=version)
        else:
            _go_live(row, live, by)
    if found.refusal:
        raise NotPromoted(found.refusal)
    log.info("scorer_promoted", tenant_id=str(tenant_id), version=version, by=by)
    return found


def rollback(tenant_id: UUID, by: str) -> str:
    """Back to what was live before, in the end the shipped weights; the version that is live now ("": shipped).

    Raises NoSuchVersion when the shipped weights are live already.
    """
    with in_tenant(tenant_id):
        live = _locked().filter(state=State.LIVE).first()
        if live is None:
            raise NoSuchVersion("the shipped weights are live, there is nothing to go back to")
        before = ScorerVersion.objects.filter(state=State.RETIRED, promoted_at__lt=live.promoted_at)
        earlier = before.order_by("-promoted_at").first()
        _retire(live, by)
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
    if live:
        _retire(live, by)
    _move(
        row.weights_version,
        {State.CANDIDATE, State.SHADOW},
        state=State.LIVE,
        promoted_at=timezone.now(),
        promoted_by=by,
    )


def _retire(row: ScorerVersion, by: str) -> None:
    changed = {"state": State.RETIRED, "retired_at": timezone.now(), "retired_by": by}
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


def compare_folders(
    labels: Sequence[Label], old: Path, new: Path, maps: Mapping[str, Calibration] = MappingProxyType({})
) -> Comparison:
    """Both folders on the same labels, each as it would be served. Raises UnfitWeights, NotPromoted."""
    if (too_few := compare([Judged(name(label.customer), label.good, 0.5, 0.5) for label in labels])).area_new is None:
        return too_few  # before a process is started for nothing
    asked = [(label.context, label.answer) for label in labels]
    said = [asyncio.run(scores(folder, asked, maps)) for folder in (old, new)]
    if any(score is None for scored in said for score in scored):
        raise NotPromoted("an answer could not be scored")
    return compare(
        [
            Judged(name(label.customer), label.good, before, after)  # type: ignore[arg-type]  # checked above
            for label, before, after in zip(labels, *said, strict=True)
        ]
    )


async def scores(
    folder: Path, asked: Sequence[tuple[Context, str]], maps: Mapping[str, Calibration] = MappingProxyType({})
) -> list[float | None]:
    """By a process of its own, as it would be served, which is gone when this returns. Raises UnfitWeights."""
    scorer, room = Scorer(folder), asyncio.Semaphore(AT_ONCE)
    own = maps.get(scorer.version, Calibration())

    async def one(context: Context, answer: str) -> float | None:
        async with room:
            found = await scorer.score(context, answer, deadline_seconds=PATIENCE)
        return None if found is None else own.again(found)

    try:
        await scorer.start()
        return await asyncio.gather(*(one(*each) for each in asked))
    finally:
        await scorer.close()


def score_in_shadow(tenant_id: UUID) -> int:
    """What the tenant's shadow version says of the latest answers, put on record beside the live scores; how many."""
    with in_tenant(tenant_id):
        row = ScorerVersion.objects.filter(state=State.SHADOW).first()
        asked = _unshadowed(row) if row else []
    if row is None or not asked:
        return 0
    found = asyncio.run(scores(folder_of(row), [(context, answer) for _, context, answer in asked]))
    with in_tenant(tenant_id):
        ShadowScore.objects.bulk_create(
            [
                ShadowScore(tenant_id=tenant_id, call_id=call_id, version=row, score=score)
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
