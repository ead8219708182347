"""Everything on one machine with one command: database, models, worker and web, until Ctrl-C.

For a laptop or a single server. Where a supervisor exists already, run `uvicorn chatbackend.asgi:application` and
`manage.py procrastinate worker --delete-jobs=successful` under it instead.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cascade.embedder import MODEL as ENCODER
from cascade.local_models import catalogue
from chatbackend import embedded_postgres
from chatbackend.demo import seeding, tiers
from chatbackend.supervision import Child, answers, asked_to_stop

READY_SECONDS = 180.0
WATCH_SECONDS = 5.0
WEB_DRAIN_SECONDS = 45.0  # longer than the web process waits for its turns


class Command(BaseCommand):
    help = "Start everything and keep it running: PostgreSQL, local models, worker, web. Ctrl-C stops all."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        try:
            self.require_free_ports()
            self.prepare()
            asyncio.run(self.keep_running())
        except KeyboardInterrupt:
            self.say("stopped before it was ready")
        finally:
            if settings.VAR in embedded_postgres.started:
                embedded_postgres.stop(settings.VAR)
                self.say("stopped: database")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def require_free_ports(self) -> None:
        """A stranger on a model's port would answer our customers."""
        names = tiers.wanted_models() if settings.DEMO else ()
        for port, way_out in [(settings.WEB_PORT, ", or set WEB_PORT"), *((catalogue()[n].port, "") for n in names)]:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError as problem:
                raise CommandError(f"port {port} is taken: end what listens there{way_out}") from problem

    # --- once, before anything runs -------------------------------------------------------

    def prepare(self) -> None:
        self.say("1/5 database: bringing the tables up to date (first time: 5 s)")
        call_command("migrate", database="owner", verbosity=0)
        wanted = (ENCODER, *(tiers.wanted_models() if settings.DEMO else ()))
        size = sum(catalogue()[name].bytes for name in wanted) / 1e9
        self.say(f"2/5 local models: {', '.join(wanted)} (first time: {size:.1f} GB, a minute or more)")
        try:
            call_command("fetch_models", *wanted)
        except CommandError as problem:
            self.say(str(problem))
        if settings.DEMO:
            self.say("3/5 the demo's shop (2 s)")
            call_command("seed_demo", stdout=self.stdout)

    # --- until we are asked to stop -------------------------------------------------------

    async def keep_running(self) -> None:
        stop = asked_to_stop()
        async with AsyncExitStack() as running:
            ready = asyncio.create_task(self.start_all(running))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                await self.watch_database_until(stopped)
            ready.cancel()
            self.say("stopping: web first, then worker and models")

    async def start_all(self, running: AsyncExitStack) -> None:
        """In this order; ended in the opposite one. Raises CommandError if the web does not come up."""
        models = tiers.local_models(timezone.now()) if settings.DEMO else []
        self.say(f"4/5 starting {len(models)} model servers (5 to 20 s)")
        for offer in models:
            self.child(running, offer.name, manage("serve_model", offer.name), patience=5)
        for offer in models:
            if not await answers(f"{offer.base_url}/models", READY_SECONDS):
                self.say(f"{offer.name} does not answer: the cascade goes on without it")
        self.say("5/5 starting worker and web (5 s)")
        self.child(
            running,
            "worker",
            manage("procrastinate", "worker", "--delete-jobs=successful", "--concurrency=3"),
            patience=15,
        )
        self.child(running, "web", web(settings.WEB_PORT), patience=WEB_DRAIN_SECONDS)
        address = f"http://localhost:{settings.WEB_PORT}"
        if not await answers(f"http://127.0.0.1:{settings.WEB_PORT}/healthz", READY_SECONDS):
            raise CommandError(f"the web does not answer; its log is {self.log('web')}")
        self.say(f"\nReady. Open {address}/\nAdmin pages: {address}/admin/")
        if settings.DEMO:
            self.say(f"Log in as {seeding.LOGIN} with the password {seeding.PASSWORD}")
        self.say("Ctrl-C stops everything.")

    def child(self, running: AsyncExitStack, name: str, command: list[str], *, patience: float) -> None:
        running.push_async_callback(Child(name, command, self.log(name), self.say, patience=patience).stop)

    def log(self, name: str) -> Path:
        folder: Path = settings.VAR / "log"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    async def watch_database_until(self, stopped: asyncio.Task[bool]) -> None:
        """Our database is not our child: look after it, so that it too is started again."""
        while not stopped.done():
            if settings.EMBEDDED_DATABASE:
                await asyncio.to_thread(embedded_postgres.ensure_running, settings.VAR, self.say)
            await asyncio.wait([stopped], timeout=WATCH_SECONDS)


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def web(port: int) -> list[str]:
    limits = ["--ws=websockets-sansio", "--ws-max-size=65536", "--ws-per-message-deflate=false", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", "chatbackend.asgi:application", f"--port={port}", *limits]
