"""When the database is gone at the end of a turn, its result waits on disk and is replayed once.

A file a turn, whole or not there. Replaying closes the turn, which a turn allows once
(`cascade.conversations.close_turn`), so a file that is replayed twice charges nobody twice.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import InterfaceError, OperationalError
from pydantic import TypeAdapter

from cascade.conversations import TurnResult, close_turn

RESULT: TypeAdapter[TurnResult] = TypeAdapter(TurnResult)
LEAST_ROOM = 16 * 1024 * 1024  # bytes
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
    """Close every turn that waits here; how many. Raises what a lost database raises, and then keeps the rest.

    A file that cannot be replayed for any other reason is set aside as `.rejected`, for a person to look at.
    """
    return sum(_replay(path) for path in waiting())


def _replay(path: Path) -> bool:
    try:
        close_turn(RESULT.validate_json(path.read_bytes()))
    except (OperationalError, InterfaceError):
        raise
    except FileNotFoundError:
        return False  # another process was faster
    except Exception as problem:
        log.error("%s cannot be replayed: %s", path.name, type(problem).__name__)
        path.rename(path.with_suffix(".rejected"))
        return False
    path.unlink(missing_ok=True)
    return True


def has_room() -> bool:
    """Whether a turn that ends without a database could be kept here."""
    return shutil.disk_usage(_folder()).free >= LEAST_ROOM


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
