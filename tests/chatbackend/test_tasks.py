"""Background work is known to the worker, done by it, and refused with a reason where there is too little to go by."""

from __future__ import annotations

import io

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection, connections
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Account
from accounts.tenancy import in_tenant
from cascade import scorer_training, scorer_versions
from cascade.models import ScorerVersion
from cascade.scorer.calibration import Calibration
from chatbackend import tasks
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")
EQUAL = scorer_versions.Comparison(40, 40, 40, 0.9, 0.9), Calibration()


def work() -> dict[str, str]:
    """Do all that is deferred, as a worker does; what became of each."""

    async def until_done() -> None:
        async with app.with_connector(app.connector.get_worker_connector()).open_async() as worker:
            await worker.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    deferred = list(ProcrastinateJob.objects.values_list("id", flat=True))
    async_to_sync(until_done)()
    return {job.task_name.rsplit(".")[-1]: job.status for job in ProcrastinateJob.objects.filter(id__in=deferred)}


def candidate(shop) -> None:
    with in_tenant(shop.tenant_id):
        ScorerVersion.objects.create(tenant_id=shop.tenant_id, weights_version="v1", folder="v1")


def test_what_commands_defer_by_name_is_known_to_the_worker():
    app.perform_import_paths()
    assert {"chatbackend.tasks.train_scorer", "chatbackend.tasks.promote_scorer"} <= set(app.tasks)


def test_a_promotion_is_done_in_the_background_under_the_name_of_who_asked(monkeypatch):
    shop = open_shop("alice", "http://127.0.0.1:1")
    candidate(shop)
    monkeypatch.setattr(scorer_versions, "compare_folders", lambda *args: EQUAL)
    call_command("scorer", "promote", "alice", "v1", "--background", stdout=io.StringIO())
    assert work() == {"promote_scorer": "succeeded"}
    with in_tenant(shop.tenant_id):
        live = ScorerVersion.objects.get()
    assert (live.state, bool(live.promoted_by)) == ("live", True)


def test_a_promotion_that_is_refused_leaves_its_reason(monkeypatch):
    shop = open_shop("alice", "http://127.0.0.1:1")
    candidate(shop)
    call_command("scorer", "promote", "alice", "v1", "--background", stdout=io.StringIO())
    assert work() == {"promote_scorer": "succeeded"}
    said = io.StringIO()
    call_command("scorer", "list", "alice", stdout=said)
    assert "too few labels" in said.getvalue()


def test_one_tenants_trouble_keeps_no_other_waiting(monkeypatch):
    shops = [open_shop(name, "http://127.0.0.1:1") for name in ("alice", "charlie")]
    seen = []

    def deed(tenant_id):
        seen.append(tenant_id)
        raise ValueError

    tasks.for_every_tenant(deed)
    assert set(seen) == {shop.tenant_id for shop in shops}


def test_each_night_all_books_are_proven_and_what_is_wrong_is_logged(caplog):
    charlie, _ = (open_shop(name, "http://127.0.0.1:1").tenant_id for name in ("charlie", "alice"))
    tasks.check_ledger(0)
    assert caplog.messages == []
    with in_tenant(charlie):
        Account.objects.update(balance_micros=7)
    tasks.check_ledger(0)
    assert caplog.messages == [
        f"the books of tenant {charlie} are wrong: the balance is 7, the entries come to 1000000"
    ]


def test_each_night_old_contexts_go_and_maps_are_fitted(monkeypatch):
    shop = open_shop("alice", "http://127.0.0.1:1")
    fitted = []
    monkeypatch.setattr(scorer_training, "calibrate", fitted.append)
    tasks.calibrate_scorers(0)
    assert fitted == [[shop.tenant_id]]


def test_a_training_whose_worker_died_is_begun_again():
    tasks.train_scorer.defer(arguments=["--tenant=nobody"])
    with connections["owner"].cursor() as cursor:  # taken by a worker that is no more
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    tasks.resume_training.defer(timestamp=0)
    assert work()["train_scorer"] == "failed"  # it was tried, and there is no such tenant


def test_a_training_runs_in_a_process_of_its_own_and_fails_aloud():
    open_shop("alice", "http://127.0.0.1:1")
    tasks.train_scorer.defer(arguments=["--tenant=alice"])
    assert work() == {"train_scorer": "failed"}  # too few labels


def test_a_job_whose_worker_died_keeps_the_next_one_of_its_lock_waiting_no_longer():
    tasks.score_in_shadow.defer(timestamp=0)
    with connection.cursor() as cursor:  # taken by a worker that is gone
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    tasks.score_in_shadow.defer(timestamp=60)
    tasks.let_go_of_dead_jobs.defer(timestamp=60)
    work()
    shadows = ProcrastinateJob.objects.filter(task_name=tasks.score_in_shadow.name).order_by("id")
    assert [job.status for job in shadows] == ["failed", "succeeded"]
