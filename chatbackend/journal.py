"""When the database is gone at the end of a turn, its result waits on disk and is replayed once.

A file a turn, whole or not there. Replaying closes the turn, which a turn allows once
(`cascade.conversations.close_turn`), so a file that is replayed twice charges nobody twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from pydantic import TypeAdapter

from cascade.conversations import TurnResult, close_turn

RESULT: TypeAdapter[TurnResult] = TypeAdapter(TurnResult)
log = logging.getLogger(__name__)


def keep(result: TurnResult) -> None:
    """On disk, and flushed to it, when this returns."""
    path = _folder() / f"{result.turn_id}.json"
    unfinished = path.with_suffix(".unfinished")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(RESULT.dump_json(result))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    _flush_folder()


def replay() -> int:
    """Close every turn that waits here; how many. Raises what the database raises, and then keeps the rest."""
    closed = 0
    for path in waiting():
        close_turn(RESULT.validate_json(path.read_bytes()))
        path.unlink()
        closed += 1
    return closed


def waiting() -> Iterator[Path]:
    return iter(sorted(_folder().glob("*.json")))


def _folder() -> Path:
    folder = settings.VAR / "journal"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _flush_folder() -> None:
    """The file's name is on disk too."""
    folder = os.open(_folder(), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
