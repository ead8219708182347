"""Loaded before Django reads its settings (`-p tests.environment`): a database of the tests' own, new for every run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from chatbackend import embedded_postgres

PREFIX = "chatbackend-tests-"
VAR = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
os.environ |= {
    "VAR_DIR": str(VAR),
    "SECRET_KEY": "tests",
    "SECRET_SEALING_KEYS": "dGVzdHMtdGVzdHMtdGVzdHMtdGVzdHMtdGVzdHMtISE=",
    "DEMO": "1",
    "HF_HUB_OFFLINE": "1",
}
for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "REDIS_URL"):
    os.environ.pop(name, None)


def clear(var: Path) -> None:
    embedded_postgres.remove(var)
    shutil.rmtree(var, ignore_errors=True)


def clear_after_killed_runs() -> None:
    for var in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        run = var.name.removeprefix(PREFIX).split("-")[0]
        if run.isdigit() and not psutil.pid_exists(int(run)) and var.lstat().st_uid == os.getuid():
            clear(var)


clear_after_killed_runs()
urls = embedded_postgres.ensure_running(VAR, fast=True)
os.environ |= {"DATABASE_URL": urls.app, "DATABASE_OWNER_URL": urls.owner}


def pytest_unconfigure() -> None:
    clear(VAR)
