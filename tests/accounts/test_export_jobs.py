"""An export in the background ends as one whole file or as none, whatever dies; only its tenant has it."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings
from django.db.models.functions import Now

from accounts import export_jobs, exports, ledger
from accounts.bounds import TooMany
from accounts.export_formats import FORMATS
from accounts.export_jobs import NoFile
from accounts.exports import Selection
from accounts.models import Export
from accounts.money import Money
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import at_noon, charge, held_turn, this_month

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice() -> UUID:
    tenant_id = at_noon(create_tenant("Alice's shop", "alice", "alice@shop.example").id)
    ledger.top_up(tenant_id, Money(1_000_000), "invoice 17")
    for number in range(7):
        ledger.settle(tenant_id, held_turn(tenant_id, 900), [charge(number + 11)])
    return tenant_id


def now() -> Selection:
    return Selection(this_month(), this_month())


def asked(tenant_id: UUID, form: str = "csv") -> UUID:
    return export_jobs.request(tenant_id, now(), form, "alice").id


def files(tenant_id: UUID) -> list[Path]:
    return sorted((Path(settings.VAR) / "exports" / str(tenant_id)).glob("*"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_export_has_the_file_that_its_manifest_describes(alice, form):
    export_id = asked(alice, form)
    with pytest.raises(NoFile, match="waiting"):
        export_jobs.file_of(export_jobs.find(alice, export_id))
    export_jobs.write(alice, export_id)
    done = export_jobs.find(alice, export_id)
    assert (done.state, done.rows, done.manifest["rows"]) == ("done", 8, 8)
    told = exports.export(alice, now(), form, io.BytesIO())
    assert done.manifest["bytes"] == export_jobs.file_of(done).stat().st_size
    assert done.manifest["sums"] == told.sums
    month = f"{done.first:%Y-%m}"
    names = {f"ledger-{month}.{form}", f"ledger-{month}-{form}.csv"}
    assert export_jobs.download_name(done) in names
    assert files(alice) == [export_jobs.file_of(done)]


def test_another_tenant_does_not_find_it(alice):
    charlie = create_tenant("Charlie's", "charlie", "charlie@else.example").id
    export_id = asked(alice)
    with pytest.raises(Export.DoesNotExist):
        export_jobs.find(charlie, export_id)
    export_jobs.write(charlie, export_id)
    assert export_jobs.find(alice, export_id).state == "waiting"


def test_progress_is_seen_while_rows_are_written(alice, monkeypatch):
    monkeypatch.setattr(export_jobs, "TOLD_AFTER", 2)
    monkeypatch.setattr(exports, "ROWS_AT_A_TIME", 2)
    seen, export_id = [], asked(alice)
    note = export_jobs._Progress.__call__

    def note_and_look(self, rows):
        note(self, rows)
        seen.append(export_jobs.find(alice, export_id).rows)

    monkeypatch.setattr(export_jobs._Progress, "__call__", note_and_look)
    export_jobs.write(alice, export_id)
    assert seen == [2, 4, 6, 8, 8]


DIES = """
import os, signal, sys, django
django.setup()
from uuid import UUID
from accounts import export_jobs, exports
exports.ROWS_AT_A_TIME = 2
export_jobs._Progress.__call__ = lambda self, rows: rows > 3 and os.kill(os.getpid(), signal.SIGKILL)
export_jobs.write(*map(UUID, sys.argv[1:]))
"""


def test_a_job_that_was_killed_begins_again_and_ends_as_one_moment(alice):
    export_id = asked(alice)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "chatbackend.settings"}
    died = subprocess.run([sys.executable, "-c", DIES, str(alice), str(export_id)], env=environment)
    assert died.returncode == -signal.SIGKILL
    half = export_jobs.find(alice, export_id)
    assert (half.state, [file.suffix for file in files(alice)]) == ("running", [".unfinished"])
    with pytest.raises(NoFile, match="being written"):
        export_jobs.file_of(half)
    ledger.settle(alice, held_turn(alice, 900), [charge(5)])
    export_jobs.write(alice, export_id)
    done = export_jobs.find(alice, export_id)
    with export_jobs.file_of(done).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == done.manifest["rows"] == 9
    assert sum(Decimal(row["amount"]) for row in rows) == ledger.available(alice).usd
    export_jobs.write(alice, export_id)  # once more changes nothing
    assert export_jobs.find(alice, export_id).done_at == done.done_at


def test_what_goes_wrong_is_on_record_and_leaves_no_file(alice, monkeypatch):
    monkeypatch.setitem(FORMATS, "csv", lambda out, tenant_id: 1 / 0)
    export_id = asked(alice)
    with pytest.raises(ZeroDivisionError):
        export_jobs.write(alice, export_id)
    failed = export_jobs.find(alice, export_id)
    assert (failed.state, failed.error, files(alice)) == ("failed", "ZeroDivisionError", [])


def test_a_folder_that_cannot_be_made_is_on_record_too(alice, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "VAR", tmp_path)
    (tmp_path / "exports").touch()
    export_id = asked(alice)
    with pytest.raises(OSError, match="exports"):
        export_jobs.write(alice, export_id)
    failed = export_jobs.find(alice, export_id)
    assert (failed.state, failed.error) == ("failed", "NotADirectoryError")


def test_nobody_waits_for_more_than_ten(alice):
    for _ in range(Export.MOST):
        asked(alice)
    with pytest.raises(TooMany):
        asked(alice)


def test_old_exports_are_forgotten_with_their_files(alice):
    old, new = asked(alice), asked(alice)
    for export_id in (old, new):
        export_jobs.write(alice, export_id)
    with in_tenant(alice):
        Export.objects.filter(id=old).update(created_at=Now() - export_jobs.KEPT - timedelta(minutes=1))
    export_jobs.forget(alice)
    assert files(alice) == [export_jobs.file_of(export_jobs.find(alice, new))]
    with pytest.raises(Export.DoesNotExist):
        export_jobs.find(alice, old)
