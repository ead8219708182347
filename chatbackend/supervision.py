"""Keeps the processes of one installation running: start, wait until they answer, start again, stop.

Which processes those are, and in which order, is left to `manage.py run`.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0  # who ran this long begins again with the shortest pause
PR_SET_PDEATHSIG = 1  # Linux, prctl(2)

Say = Callable[[str], None]


class Child:
    """One process that is started again when it ends; what it prints goes to a log of its own."""

    def __init__(self, name: str, command: Sequence[str], log: Path, say: Say, *, patience: float) -> None:
        self.name = name
        self._command, self._log, self._say = command, log, say
        self._patience = patience  # seconds it may take to end when asked to
        self._process: asyncio.subprocess.Process | None = None
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask it to end; kill it when patience does. May be called again."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), self._patience)
        except TimeoutError:
            self._say(f"{self.name} did not end within {self._patience:g} s and is killed")
            self._process.kill()
            await self._process.wait()

    async def _keep(self) -> None:
        pause = 0.5
        while True:
            started = time.monotonic()
            await self._start()
            assert self._process
            code = await self._process.wait()
            if time.monotonic() - started > STEADY_SECONDS:
                pause = 0.5
            pause = min(pause * 2, LONGEST_PAUSE)
            self._say(f"{self.name} ended ({code}), starts again in {pause:.0f} s; its log is {self._log}")
            await asyncio.sleep(pause)

    async def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us alone: we end them in order
                preexec_fn=end_with_parent,
            )


async def answers(url: str, within: float) -> bool:
    """Wait until the address answers with success; False when it has not by then."""
    deadline = time.monotonic() + within
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(url)).is_success:
                    return True
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
    return False


def asked_to_stop() -> asyncio.Event:
    """Set by Ctrl-C or SIGTERM."""
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """In the child before it becomes the program: where Linux offers it, end when we are killed."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
