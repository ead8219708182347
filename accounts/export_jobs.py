"""Exports made in the background: asked for, written to a file below VAR_DIR/exports, kept for a while, downloaded.

A job that died begins again, from a new moment of the books, so that a file is always one moment: what is half
written is never offered. A finished file never changes. What is in it is `accounts.exports`'.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from procrastinate.contrib.django import app

from accounts import exports, webhooks
from accounts.bounds import make_room
from accounts.export_formats import ENDINGS, FORMATS
from accounts.exports import Selection
from accounts.models import Export
from accounts.tenancy import DB_THREADS, in_tenant

KEPT = timedelta(days=7)
TOLD_AFTER = 50_000  # rows


class NoFile(LookupError):
    """The export has no file that could be downloaded; the message says why, for a person."""


def request(tenant_id: UUID, selection: Selection, form: str, asked_by: str) -> Export:
    """Have a file written in the background, the tenant's files one after another.

    Raises:
        TooMany: as many as may be are not finished.
        ValueError: there is no format `form`.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form}: {', '.join(FORMATS)}")
    with in_tenant(tenant_id):
        refuse_too_many()
        asked = Export.objects.create(
            tenant_id=tenant_id,
            format=form,
            first=selection.first,
            last=selection.last,
            equal=selection.equal,
            asked_by=asked_by,
        )
        job = app.configure_task("chatbackend.tasks.write_export", lock=f"exports of {tenant_id}")
        job.defer(tenant_id=str(tenant_id), export_id=str(asked.id))
        return asked


def refuse_too_many() -> None:
    """In the tenant's transaction. Raises TooMany."""
    make_room(Export.objects.filter(state__in=Export.UNFINISHED), "exports that are not finished yet")


def find(tenant_id: UUID, export_id: UUID) -> Export:
    """How far an export is. Raises Export.DoesNotExist: the tenant has none of this id."""
    with in_tenant(tenant_id):
        return Export.objects.get(id=export_id)


def write(tenant_id: UUID, export_id: UUID) -> None:
    """The job: nothing where the export is finished or forgotten. What goes wrong is on record, and raised."""
    with in_tenant(tenant_id):
        asked = Export.objects.filter(id=export_id, state__in=Export.UNFINISHED).first()
        if asked is None:
            return
    _note(asked, state=Export.State.RUNNING, rows=0, begun_at=Now())
    folder = _folder(tenant_id)
    unfinished = folder / f"{asked.id}-{uuid4()}.unfinished"  # its own, should a job that seemed dead go on
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as out:
            manifest = exports.export(tenant_id, _selection(asked), asked.format, out, _Progress(asked))
            out.flush()
            os.fsync(out.fileno())
        asked.manifest = asdict(manifest)
        unfinished.replace(_file(asked))
        _note(asked, state=Export.State.DONE, rows=manifest.rows, manifest=asked.manifest, done_at=Now())
    except Exception as problem:
        _note(asked, state=Export.State.FAILED, error=type(problem).__name__, done_at=Now())
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def file_of(export: Export) -> Path:
    """The finished file. Raises NoFile."""
    if export.state != Export.State.DONE:
        raise NoFile(f"this export is {export.get_state_display()}")
    file = _file(export)
    if not file.exists():
        raise NoFile("the file of this export is not on this machine")
    return file


def download_name(export: Export) -> str:
    """`ledger-2026-10.parquet`, `ledger-2026-10-to-2026-12-focus-1.0.csv`."""
    months = [f"{month:%Y-%m}" for month in sorted({export.first, export.last})]
    ending = ENDINGS[export.format]
    profile = [export.format] if export.format != ending else []
    return f"{'-'.join(['ledger', '-to-'.join(months), *profile])}.{ending}"


def forget(tenant_id: UUID) -> None:
    """Exports that were asked for longer than KEPT ago, and files that belong to none."""
    files = list(_folder(tenant_id).glob("*"))  # before the exports: one asked for meanwhile is among those kept
    with in_tenant(tenant_id):
        Export.objects.filter(created_at__lt=Now() - KEPT).delete()
        kept = {str(export_id) for export_id in Export.objects.values_list("id", flat=True)}
    for file in files:
        if file.name[:36] not in kept:
            file.unlink(missing_ok=True)


class _Progress:
    """Notes how many rows are written, now and then."""

    def __init__(self, export: Export) -> None:
        self._export, self._noted = export, 0

    def __call__(self, rows: int) -> None:
        if rows - self._noted >= TOLD_AFTER:
            self._noted = rows
            _note(self._export, rows=rows)


def _note(export: Export, **columns: Any) -> None:
    """In a transaction of its own, whatever this thread's is reading: others see it at once."""

    def alone() -> None:
        try:
            with in_tenant(export.tenant_id):
                done = _open(export).update(**columns) and columns.get("state") == Export.State.DONE
                if done:
                    told = {"export_id": str(export.id), "format": export.format, "rows": columns["rows"]}
                    webhooks.tell(export.tenant_id, "export.ready", told)
        finally:
            connection.close()

    DB_THREADS.submit(alone).result()


def _open(export: Export) -> QuerySet[Export]:
    return Export.objects.filter(id=export.id, state__in=Export.UNFINISHED)


def _selection(export: Export) -> Selection:
    return Selection(export.first, export.last, export.equal)


def _folder(tenant_id: UUID) -> Path:
    return Path(settings.VAR) / "exports" / str(tenant_id)


def _file(export: Export) -> Path:
    """Named by what is in it too: a manifest never stands beside another run's file."""
    assert export.manifest is not None
    return _folder(export.tenant_id) / f"{export.id}-{export.manifest['sha256'][:16]}.{ENDINGS[export.format]}"
