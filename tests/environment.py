"""Loaded before Django reads its settings (`-p tests.environment`): a database of the tests' own, new for every run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from chatbackend import embedded_postgres

VAR = Path(tempfile.mkdtemp(prefix="chatbackend-tests-"))
os.environ |= {
    "VAR_DIR": str(VAR),
    "SECRET_KEY": "tests",
    "SECRET_SEALING_KEYS": "dGVzdHMtdGVzdHMtdGVzdHMtdGVzdHMtdGVzdHMtISE=",
    "DEMO": "1",
    "HF_HUB_OFFLINE": "1",
}
for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "REDIS_URL"):
    os.environ.pop(name, None)

urls = embedded_postgres.ensure_running(VAR, fast=True)
os.environ |= {"DATABASE_URL": urls.app, "DATABASE_OWNER_URL": urls.owner}


def pytest_unconfigure() -> None:
    embedded_postgres.remove(VAR)
