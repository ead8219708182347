"""What a benchmark runs on: a scripted provider, a real database, the product's own web process, a shop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def provider(folder: Path, reply: str) -> Iterator[str]:
    """The address of a scripted provider in a process of its own."""
    script = folder / "replies.json"
    script.write_text(json.dumps({"*": [{"text": reply}]}))
    command = [sys.executable, "-m", "tests.model_server", "--port", "0", "--script", str(script)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def database(var: Path) -> Iterator[None]:
    """An embedded PostgreSQL as in production, migrated; Django is set up on it."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "chatbackend.settings", "VAR_DIR": str(var), "DEMO": "1"}
    os.environ |= {f"RATE_{who}": "" for who in ("CUSTOMER", "ADDRESS", "TENANT", "NEWCOMERS")}
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    from chatbackend import embedded_postgres

    embedded_postgres.ensure_running(var)
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", database="owner", verbosity=0)
        yield
    finally:
        embedded_postgres.remove(var)


@contextmanager
def web(port: int) -> Iterator[str]:
    """The product's own web process, as `manage.py run` starts it; its socket address."""
    from chatbackend.management.commands.run import web as command

    with subprocess.Popen([*command(port), "--log-level=warning"], cwd=ROOT) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz")
            yield f"ws://127.0.0.1:{port}/ws/chat/"
        finally:
            process.terminate()


def one_tier_shop(name: str, models: str, floor: float) -> Any:
    """A shop whose chatbot asks one model; a floor of 0 asks no scorer."""
    from accounts.tenancy import in_tenant
    from cascade.models import CascadeStrategy
    from tests.cast import open_shop

    shop = open_shop(name, models, funds="1000", floor=floor)
    with in_tenant(shop.tenant_id):
        tier = {"model": "large", "threshold": floor, "deadline_seconds": 60, "max_output_tokens": 200}
        strategy = CascadeStrategy.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, version=2, deadline_seconds=60, tiers=[tier]
        )
    shop.change(live_strategy=strategy)
    return shop


def wait_for(address: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urlopen(address, timeout=5).close()
            return
        except (URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{address} did not come up"
            time.sleep(0.2)
