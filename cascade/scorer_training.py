"""Weights of a tenant's own, trained on its own labels, and its calibration; run from a command or a background job.

The labels leave the database for one private file, which is gone when training is over. A run that was killed goes on
where it stood, with the same rows, for a day. What becomes of the weights is `scorer_versions`'s business.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import Max
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Tenant
from accounts.tenancy import in_tenant
from cascade import scorer_labels, scorer_versions
from cascade.models import ScorerCalibration, ScorerVersion
from cascade.scorer import manifest, own_rows
from cascade.scorer.calibration import TENANTS_DIFFER, Spread, fit_shrunk, logit, spread_of
from cascade.scorer.own_rows import Label, part
from cascade.scorer.rows import fingerprint
from cascade.scorer_tuning import folder_of, is_outdated, live_folder
from cascade.strategy_check import MOST_TIERS
from cascade.strictness import Ratings, expectation

if TYPE_CHECKING:
    from cascade.scorer.fitting import TrainingConfig

JOB = "chatbackend.tasks.train_scorer"
JOB_STATES = {"todo": "waiting", "doing": "running", "succeeded": "done", "failed": "failed"}
LEAST_LABELS = 200
LABELS_OF_A_TURN = 1 + MOST_TIERS  # at most: what staff wrote, and each draft before it
LEAST_OF_A_KIND = 40  # good, and bad
LEAST_CUSTOMERS = 30
RESUMED_WITHIN = 24 * 3600.0  # seconds; an older unfinished run is forgotten, and its rows deleted
MOST_CALIBRATING = 2_000  # replies of a tenant, the newest: a few minutes of one processor
LEAST_TO_TELL, LEAST_TENANTS = 50, 10  # labels of a tenant, and such tenants, to tell how far tenants differ

log = structlog.get_logger(__name__)

Progress = Callable[[int, int, float], None]


class TooFewLabels(ValueError):
    """The tenant's labels do not make a training; the message says what there is and what is needed."""


class AlreadyTraining(RuntimeError):
    """A training for this tenant is under way."""


def train_later(tenant: Tenant, *options: str) -> int:
    """By the worker, in a process of its own; the job's number. `options` of `manage.py train_scorer`.

    Refused now where it is plain already; which labels count is told by the training. In the tenant's transaction.
    Raises TooFewLabels, AlreadyTraining.
    """
    Tenant.objects.select_for_update(no_key=True).get()  # who asks takes turns
    if last(tenant)["state"] in ("waiting", "running"):
        raise AlreadyTraining("a training for this tenant is under way; wait for its version")
    if (judged := scorer_labels.judged()) * LABELS_OF_A_TURN < LEAST_LABELS:
        days = scorer_labels.REMEMBERED.days
        raise TooFewLabels(
            f"{judged} replies were judged or written by staff in the last {days} days; needed are"
            f" {LEAST_LABELS} labels"
        )
    return app.configure_task(JOB).defer(arguments=[f"--tenant={tenant.slug}", *options])


def last(tenant: Tenant) -> dict[str, Any]:
    """The number of the newest training that was left to the worker, and how far it is; in the tenant's transaction.

    The worker forgets jobs that succeeded: a version is their trace. None twice: there is no trace of any.
    """
    its = ProcrastinateJob.objects.filter(task_name=JOB, args__arguments__contains=[f"--tenant={tenant.slug}"])
    job = its.annotate(heard=Max("procrastinateevent__at")).order_by("-id").first()
    made = ScorerVersion.objects.aggregate(newest=Max("created_at"))["newest"]
    if job is None or (job.status not in ("todo", "doing") and made and made > job.heard):
        return {"job": None, "state": "done" if made else None}
    return {"job": job.id, "state": JOB_STATES.get(job.status, "failed")}


def train_for(
    tenant_id: UUID,
    config: TrainingConfig,
    *,
    beside: Sequence[Path] = (),
    start: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Progress = lambda step, steps, loss: None,
) -> ScorerVersion:
    """A candidate trained on the tenant's labels and the rows of the files `beside`; from `start`, else what is live.

    Raises TooFewLabels, AlreadyTraining, UnfitWeights (of `start`).
    """
    from cascade.scorer.training import train  # torch: only here

    with _alone(tenant_id) as folder:
        rows, weights = folder / "rows.jsonl", folder / "weights"
        begin = start or _live(tenant_id)
        terms = {"config": asdict(config), "start": manifest.read(begin).version, "beside": fingerprint(beside)}
        learnt_from = _prepare(tenant_id, folder, rows, terms, say)
        try:
            written = train([rows], begin, weights, config, beside=beside, say=say, progress=progress)
        except Exception:
            shutil.rmtree(folder)  # not killed but failed: it would fail again, and the rows are not to stay
            raise
        kept = _root() / str(tenant_id) / written.version
        if kept.exists():
            shutil.rmtree(weights)
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            weights.rename(kept)
        shutil.rmtree(folder)
    return scorer_versions.register(tenant_id, kept, learnt_from)


def counted(labels: Sequence[Label]) -> dict[str, int]:
    """How many of each kind. Raises TooFewLabels."""
    good = sum(label.good for label in labels)
    customers = len({label.customer for label in labels})
    halves = Counter((part(label.customer), own_rows.half(label.customer), label.good) for label in labels)
    measured = min(halves["validation", half, kind] for half in (0, 1) for kind in (True, False))
    enough = len(labels) >= LEAST_LABELS and min(good, len(labels) - good) >= LEAST_OF_A_KIND
    if not enough or customers < LEAST_CUSTOMERS or not measured:
        raise TooFewLabels(
            f"{len(labels)} labelled answers ({good} good, {len(labels) - good} bad) of {customers} customers in the"
            f" last {scorer_labels.REMEMBERED.days} days; needed are {LEAST_LABELS}, {LEAST_OF_A_KIND} of each kind, of"
            f" {LEAST_CUSTOMERS} customers, some of each kind among those who calibrate and those who measure"
        )
    return dict(Counter(label.kind for label in labels))


def _prepare(
    tenant_id: UUID, folder: Path, rows: Path, terms: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """The rows on disk, as they were when an unfinished run on the same terms began, or new ones; how many labels."""
    labels = scorer_labels.labels(tenant_id)
    learnt_from = counted(labels)
    began, now = folder / "terms.json", json.dumps(terms, sort_keys=True)
    recent = rows.exists() and time.time() - rows.stat().st_mtime < RESUMED_WITHIN
    if recent and began.exists() and began.read_text() == now:
        say("going on with the rows of the run that was not finished")
        return learnt_from
    shutil.rmtree(folder / "weights", ignore_errors=True)
    say(f"making rows of {len(labels)} labels")
    unfinished = rows.with_suffix(".unfinished")
    own_rows.write(own_rows.rows(labels, terms["config"]["seed"]), unfinished)
    began.write_text(now)
    unfinished.rename(rows)
    return learnt_from


def _live(tenant_id: UUID) -> Path:
    with in_tenant(tenant_id):
        return live_folder()


@contextmanager
def _alone(tenant_id: UUID) -> Iterator[Path]:
    """A private folder for the tenant's run, and nobody else's on this machine. Raises AlreadyTraining."""
    folder = _root() / "training" / str(tenant_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    with (folder.parent / f"{tenant_id}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyTraining("another process trains for this tenant") from None
        yield folder


def forget_unfinished() -> int:
    """Delete the rows of runs that were killed and not resumed in time, and not of any under way; how many runs."""
    late = [
        rows.parent
        for rows in (_root() / "training").glob("*/rows.*")
        if time.time() - rows.stat().st_mtime >= RESUMED_WITHIN
    ]
    forgotten = 0
    for folder in late:
        with suppress(AlreadyTraining), _alone(UUID(folder.name)):
            shutil.rmtree(folder, ignore_errors=True)
            forgotten += 1
    return forgotten


def _root() -> Path:
    """Of all tenants' weights: nobody else's business on this machine."""
    root = Path(settings.VAR) / "scorers"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


# --- what the tenant's labels say of scores -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """The replies of one tenant that were shown and judged, as the weights score them that are live, or in shadow."""

    tenant_id: UUID
    version: str
    logits: list[float]
    good: list[bool]
    customers: list[Ratings]
    in_shadow: bool = False


def calibrate(tenants: Sequence[UUID]) -> dict[UUID, int]:
    """Fit each tenant's map and what to expect of its customers; how many labels it had, for those that had some.

    How far tenants differ is estimated from them all, once enough have labels (empirical Bayes): of a tenant nothing
    but its scale and shift bears on another's, and on its spread alone. One tenant's trouble keeps no other waiting.
    """
    known = [each for folder, those in _judges(tenants).items() for each in _judged_by(folder, those) if each.logits]
    live = [each for each in known if not each.in_shadow]
    telling = [(each.logits, each.good) for each in live if len(each.logits) >= LEAST_TO_TELL]
    spread = spread_of(telling) if len(telling) >= LEAST_TENANTS else TENANTS_DIFFER
    for each in known:
        _keep(each, spread)
    return {each.tenant_id: len(each.logits) for each in live}


def _judges(tenants: Sequence[UUID]) -> dict[Path, list[tuple[UUID, bool]]]:
    """Folders of weights, and for which tenants they judge, live or in shadow: many share the shipped ones."""
    found: dict[Path, list[tuple[UUID, bool]]] = defaultdict(list)
    for tenant_id in tenants:
        with in_tenant(tenant_id):
            found[live_folder()].append((tenant_id, False))
            shadow = ScorerVersion.objects.filter(state=ScorerVersion.State.SHADOW).first()
        if shadow and not is_outdated(shadow):
            found[folder_of(shadow)].append((tenant_id, True))
    return found


def _judged_by(folder: Path, those: Sequence[tuple[UUID, bool]]) -> Iterator[Judged]:
    """What one folder of weights says, by one process. One tenant's trouble is reported and keeps no other waiting."""
    with ExitStack() as stack:
        scored = None
        for tenant_id, in_shadow in those:
            try:
                scored = scored or stack.enter_context(scorer_versions.scoring_by(folder))
                yield _judged(tenant_id, folder, scored, in_shadow)
            except (ValueError, OSError, TimeoutError) as problem:
                log.error("scorer_not_calibrated", tenant_id=str(tenant_id), problem=type(problem).__name__)


def _judged(tenant_id: UUID, folder: Path, scored: scorer_versions.Scored, in_shadow: bool) -> Judged:
    """Scored again, as they come: the scores on record may have been read through earlier maps.

    Weights of the tenant's own are calibrated by customers that they did not learn from.
    """
    shown = [label for label in scorer_labels.labels(tenant_id) if label.kind == "reply"][:MOST_CALIBRATING]
    heard = shown if folder == Path(settings.SCORER_WEIGHTS) else scorer_versions.unlearnt(shown)
    scores = scored([(label.context, label.answer) for label in heard])
    known = [(logit(score), label.good) for score, label in zip(scores, heard, strict=True) if score is not None]
    logits, good = [x for x, _ in known], [y for _, y in known]
    version = manifest.read(folder).version
    return Judged(tenant_id, version, logits, good, _by_customer(shown), in_shadow)


def _keep(judged: Judged, spread: Spread) -> None:
    fitted, hoped = fit_shrunk(judged.logits, judged.good, spread), expectation(judged.customers)
    found = {"scale": fitted.scale, "shift": fitted.shift, "labels": len(judged.logits)}
    found |= {"expected_bad": hoped.bad, "expected_worth": hoped.worth}
    with in_tenant(judged.tenant_id):
        ScorerCalibration.objects.update_or_create(
            tenant_id=judged.tenant_id, weights_version=judged.version, defaults=found
        )


def _by_customer(shown: Sequence[Label]) -> list[Ratings]:
    good = Counter(label.customer for label in shown if label.good)
    bad = Counter(label.customer for label in shown if not label.good)
    return [Ratings(good[customer], bad[customer]) for customer in good.keys() | bad.keys()]
