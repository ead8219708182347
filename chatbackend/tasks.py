"""Background work, done by `manage.py procrastinate worker`."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from procrastinate.contrib.django import app
from procrastinate.jobs import Status

from accounts import export_jobs, ledger, webhooks
from accounts.rest import idempotency
from accounts.tenancy import in_tenant, set_for_transaction
from accounts.tenants import every_tenant
from cascade import (
    drift_watch,
    gaps,
    knowledge,
    remembered,
    saved_replies,
    scorer_labels,
    scorer_training,
    scorer_versions,
    strategy_proposals,
    strategy_replays,
    uploads,
)
from cascade.embedder import MODEL
from cascade.embedder.serving import Embedder
from cascade.local_models import ModelMissing, path_of
from cascade.wiring import patient_engine
from chatbackend import budget_mail, exploring, recovery
from chatbackend.reporting import report
from chatbackend.supervision import end_with_parent

log = logging.getLogger(__name__)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="settle_dead_turns", pass_context=False)
def settle_dead_turns(timestamp: int) -> None:
    recovery.settle()


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="mail_budget_events", pass_context=False)
def mail_budget_events(timestamp: int) -> None:
    budget_mail.send_due()


@app.periodic(cron="41 2 * * *")
@app.task(queueing_lock="check_ledger", pass_context=False)
def check_ledger(timestamp: int) -> None:
    """What is wrong with the books is logged: ids and amounts alone."""
    for_every_tenant(_check_ledger)


def _check_ledger(tenant_id: UUID) -> None:
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", "120s")  # all books of a tenant; a check that takes longer is reported
        findings = ledger.check(tenant_id)
    for finding in findings:
        log.error("the books of tenant %s are wrong: %s", tenant_id, finding)


# --- exports of the books: deferred by name from `accounts.export_jobs` ------------------------


@app.task(pass_context=False)
def write_export(tenant_id: str, export_id: str) -> None:
    export_jobs.write(UUID(tenant_id), UUID(export_id))


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="resume_exports", pass_context=False)
async def resume_exports(timestamp: int) -> None:
    """An export whose worker died is written anew."""
    await _resume(write_export.name)


@app.periodic(cron="23 * * * *")
@app.task(queueing_lock="forget_exports", pass_context=False)
def forget_exports(timestamp: int) -> None:
    for_every_tenant(export_jobs.forget)


# --- the doors for programs -----------------------------------------------------------------


@app.task(pass_context=False)
def deliver_webhook(tenant_id: str, delivery_id: str) -> None:
    """Deferred by name, with the event (`accounts.webhooks`)."""
    webhooks.deliver(UUID(tenant_id), UUID(delivery_id))


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="defer_lost_webhooks", pass_context=False)
def defer_lost_webhooks(timestamp: int) -> None:
    for_every_tenant(webhooks.defer_lost)


@app.periodic(cron="53 3 * * *")
@app.task(queueing_lock="forget_answers", pass_context=False)
def forget_answers(timestamp: int) -> None:
    """Of the API, and what became of old deliveries."""
    for_every_tenant(idempotency.forget_old)
    for_every_tenant(webhooks.forget_old)


@app.periodic(cron="23 * * * *")
@app.task(queueing_lock="forget_old_answers", pass_context=False)
def forget_old_answers(timestamp: int) -> None:
    """Remembered ones: past their time, of a former strategy, or more than the chatbot keeps."""
    for_every_tenant(remembered.forget_old)


# --- tenants' own scorers: deferred by name from `manage.py train_scorer` and `manage.py scorer` ---


@app.task(lock="train_scorer", pass_context=False)
def train_scorer(arguments: list[str]) -> None:
    """In a process of its own, for it takes long and all of a processor; one at a time. `arguments`: the command's."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "train_scorer", *arguments]
    subprocess.run(command, check=True, preexec_fn=end_with_parent)  # noqa: S603  (our own command)


@app.task(lock="promote_scorer", pass_context=False)
def promote_scorer(tenant_id: str, version: str, by: str) -> None:
    """Why it was not promoted is on record with the version."""
    with suppress(scorer_versions.NotPromoted):
        scorer_versions.promote(UUID(tenant_id), version, by)


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="resume_training", pass_context=False)
async def resume_training(timestamp: int) -> None:
    """A training whose worker died goes on where it stood, a search for a strategy begins again."""
    await _resume(train_scorer.name, optimise_cascade.name)


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="score_in_shadow", lock="score_in_shadow", pass_context=False)
def score_in_shadow(timestamp: int) -> None:
    for_every_tenant(scorer_versions.score_in_shadow)


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="calibrate_scorers", pass_context=False)
def calibrate_scorers(timestamp: int) -> None:
    """And forget what is too old to learn from."""
    for_every_tenant(scorer_labels.forget)
    scorer_training.forget_unfinished()
    scorer_training.calibrate(every_tenant())


# --- learning the cascade ---


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="explore", pass_context=False)
async def explore(timestamp: int) -> None:
    await exploring.explore(patient_engine())


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="compare_shadows", pass_context=False)
def compare_shadows(timestamp: int) -> None:
    for_every_tenant(strategy_replays.compare_due)


@app.periodic(cron="23 4 * * *")
@app.task(queueing_lock="watch_drift", pass_context=False)
def watch_drift(timestamp: int) -> None:
    for_every_tenant(drift_watch.watch)


@app.task(pass_context=False)
def optimise_cascade(tenant_id: str, proposal_id: str) -> None:
    """Deferred by name from the page of proposals; how it ended stands on the proposal."""
    strategy_proposals.propose(UUID(tenant_id), UUID(proposal_id))


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="let_go_of_dead_jobs", pass_context=False)
async def let_go_of_dead_jobs(timestamp: int) -> None:
    """Whose worker died: they have failed, and keep the next of their lock waiting no longer.

    Of those that are not resumed. A promotion has to be asked for again, the others are deferred again as it is.
    """
    for task in (read_uploads, index_knowledge, score_in_shadow, promote_scorer):
        for job in await app.job_manager.get_stalled_jobs(task_name=task.name):
            await app.job_manager.finish_job(job, Status.FAILED, delete_job=False)


async def _resume(*task_names: str) -> None:
    for name in task_names:
        for job in await app.job_manager.get_stalled_jobs(task_name=name):
            await app.job_manager.retry_job(job)


# --- knowledge: deferred by name from `cascade.knowledge` and `cascade.uploads` ---------------------


@app.task(pass_context=False)
def read_uploads(tenant_id: str, chatbot_id: str) -> None:
    uploads.read_waiting(UUID(tenant_id), UUID(chatbot_id))


@app.task(pass_context=False)
async def index_knowledge(tenant_id: str, chatbot_id: str) -> None:
    """By an embedder of its own, so that no customer's question waits behind ten thousand articles."""
    try:
        embedder = Embedder(path_of(MODEL, settings.MODELS_ROOT))
    except ModelMissing as problem:
        log.warning("articles are not indexed: %s", problem)
        return
    try:
        await embedder.start()
        await knowledge.index(UUID(tenant_id), UUID(chatbot_id), embedder.embed_many)
        await saved_replies.embed_examples(UUID(tenant_id), embedder.embed_many)
    finally:
        await embedder.close()


@app.periodic(cron="*/2 * * * *")
@app.task(queueing_lock="keep_knowledge", pass_context=False)
def keep_knowledge(timestamp: int) -> None:
    """What was changed without a word, or could not be done before: a page tells at once, others are found here."""
    for_every_tenant(uploads.resume)
    for_every_tenant(_index_outdated)


def _index_outdated(tenant_id: UUID) -> None:
    with in_tenant(tenant_id):
        for chatbot in {*knowledge.outdated(), *saved_replies.chatbots_waiting()}:
            knowledge.index_soon(chatbot)


@app.periodic(cron="29 3 * * *")
@app.task(queueing_lock="learn_from_questions", pass_context=False)
def learn_from_questions(timestamp: int) -> None:
    """Saved replies are proposed; old look-ups are forgotten."""
    for_every_tenant(saved_replies.propose)
    for_every_tenant(gaps.forget)


def for_every_tenant(deed: Callable[[UUID], object]) -> None:
    """One tenant's trouble is reported and keeps no other waiting."""
    for tenant_id in every_tenant():
        try:
            deed(tenant_id)
        except Exception as problem:
            report(problem)
