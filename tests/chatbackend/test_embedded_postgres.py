"""The embedded PostgreSQL comes up anywhere, opens nothing to anybody, and outlives being killed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import psycopg
import pytest

from chatbackend import embedded_postgres, postgres_programs
from chatbackend.embedded_postgres import PostgresError, ensure_running, is_running, remove, stop

AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def var():
    folder = Path(tempfile.mkdtemp(prefix="chatbackend-pg-")).resolve()
    yield folder / "var"
    remove(folder / "var")
    shutil.rmtree(folder)


def modes(*paths: Path) -> dict[Path, int]:
    """The modes of all directories above these paths that exist."""
    above = {parent for path in paths for parent in path.resolve().parents if parent.exists()}
    return {folder: stat.S_IMODE(folder.stat().st_mode) for folder in above}


def everywhere(var: Path) -> tuple[Path, ...]:
    return (var, postgres_programs._packaged() / "bin", postgres_programs.SYSTEM_HOME / "anything")


def postmaster_of(var: Path) -> int:
    process = embedded_postgres._postmaster(embedded_postgres._data_folder(var))
    assert process
    return process.pid


def test_no_existing_directory_changes_its_mode(var):
    private = var.parent / "private"
    private.mkdir(mode=0o700)
    before = modes(*everywhere(private / "var"))
    ensure_running(private / "var", fast=True)
    after = modes(*everywhere(private / "var"))
    remove(private / "var")
    assert before[private] == 0o700
    assert {folder: after[folder] for folder in before} == before


@pytest.mark.skipif(not AS_ROOT, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_needs_no_system_folder_and_changes_no_mode():
    nobody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="chatbackend-pg-"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    programs = postgres_programs.prepare(print)  # the checkout itself may be out of nobody's reach
    before = modes(*everywhere(home / "var"))
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        os._exit(run_as_ordinary_user(home / "var", programs))
    _, status = os.waitpid(child, 0)
    after = modes(*everywhere(home / "var"))
    shutil.rmtree(home)
    assert os.waitstatus_to_exitcode(status) == 0
    assert {folder: after[folder] for folder in before} == before


def run_as_ordinary_user(var: Path, programs: Path) -> int:
    try:
        postgres_programs._packaged = lambda: programs  # type: ignore[assignment]
        urls = ensure_running(var, fast=True)
        psycopg.connect(urls.app).close()
        assert (var / "postgres" / "data" / "PG_VERSION").stat().st_uid == os.getuid()
        remove(var)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def test_a_second_call_finds_the_running_server(var):
    first = ensure_running(var, fast=True)
    server = postmaster_of(var)
    assert ensure_running(var, fast=True) == first
    assert postmaster_of(var) == server


def test_two_processes_starting_at_once_share_one_server(var):
    stop(var)
    code = "import sys, pathlib; from chatbackend import embedded_postgres as e; "
    code += "print(e.ensure_running(pathlib.Path(sys.argv[1]), fast=True))"
    both = [subprocess.Popen([sys.executable, "-c", code, var], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert said[0] == said[1] == f"{ensure_running(var)}\n"


def test_the_app_role_owns_nothing_and_bypasses_nothing(var):
    urls = ensure_running(var, fast=True)
    with psycopg.connect(urls.app) as app:
        rights = app.execute(
            "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        owned = app.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("CREATE TABLE mine (id int)")
    assert rights == (False, False, False, False)
    assert owned == (0,)


def test_the_app_role_may_use_what_the_owner_makes_in_any_database(var):
    urls = ensure_running(var, fast=True)
    with psycopg.connect(urls.owner, autocommit=True) as owner:
        owner.execute("CREATE DATABASE another")
    with psycopg.connect(urls.owner.replace("/chatbackend", "/another"), autocommit=True) as owner:
        owner.execute("CREATE TABLE vectors (id serial, at vector(3))")
    with psycopg.connect(urls.app.replace("/chatbackend", "/another")) as app:
        app.execute("INSERT INTO vectors (at) VALUES ('[1,2,3]')")
        assert app.execute("SELECT at <-> '[1,2,4]' FROM vectors").fetchone() == (1.0,)


def test_nobody_is_let_in_without_the_password(var):
    urls = ensure_running(var, fast=True)
    password = urls.app.split("@")[0].split(":")[-1]
    for url in (urls.app.replace(password, "wrong"), urls.app.replace("app", "postgres")):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
    assert stat.S_IMODE((var / "postgres.json").stat().st_mode) == 0o600


def test_rows_survive_a_killed_server(var):
    stop(var)
    urls = ensure_running(var)
    with psycopg.connect(urls.owner) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 1 AS one")
    os.kill(postmaster_of(var), signal.SIGKILL)
    urls = ensure_running(var)
    with psycopg.connect(urls.owner) as owner:
        assert owner.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_pid_file_that_names_a_stranger_does_not_hinder_the_start(var):
    stop(var)
    stranger = subprocess.Popen(["sleep", "60"])
    data = embedded_postgres._data_folder(var)
    (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n")
    try:
        assert not is_running(var)
        ensure_running(var, fast=True)
        assert is_running(var)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_taken_port_is_given_up_for_another(var):
    ensure_running(var, fast=True)
    stop(var)
    with embedded_postgres.socket.create_server(("127.0.0.1", json.loads((var / "postgres.json").read_text())["port"])):
        psycopg.connect(ensure_running(var, fast=True).app).close()


def test_data_of_another_major_version_are_refused(var):
    stop(var)
    version = embedded_postgres._data_folder(var) / "PG_VERSION"
    ours = version.read_text()
    version.write_text("17\n")
    with pytest.raises(PostgresError, match="written by PostgreSQL 17, the installed programs are PostgreSQL 18"):
        ensure_running(var, fast=True)
    version.write_text(ours)


def test_a_moved_checkout_does_not_begin_with_an_empty_database(var):
    ensure_running(var, fast=True)
    moved = var.parent / "moved"
    moved.mkdir()
    shutil.copy(var / "postgres.json", moved)
    with pytest.raises(PostgresError, match="this checkout's data are in"):
        ensure_running(moved, fast=True)


def test_data_whose_passwords_are_gone_are_set_aside_not_deleted(var):
    ensure_running(var, fast=True)
    lines: list[str] = []
    (var / "postgres.json").unlink()
    ensure_running(var, lines.append, fast=True)
    [aside] = embedded_postgres._data_folder(var).parent.parent.glob(
        f"{embedded_postgres._data_folder(var).parent.name}.*"
    )
    assert (aside / "data" / "PG_VERSION").exists()
    assert str(aside) in lines[0]
    shutil.rmtree(aside)


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_system_folder_that_others_may_write_to_is_refused(tmp_path, mode):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PostgresError, match="nobody else may write"):
        postgres_programs._require_own_folder(folder)
