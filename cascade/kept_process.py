"""A child process that answers questions, kept alive: questions go in over its pipe and replies come back in time.

Whatever happens there - a crash, a hang, a reply that never comes, too many at once - ends within the deadline in
None; the child is restarted and the mishap counted. What is heavy (torch, OpenVINO) stays out of the web process so.
The child's half is `cascade.kept_worker`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

MOST_WAITING = 64  # questions at once; the next one is not answered
HANG_SECONDS = 1.5  # without any reply although one is owed: the child hangs, unless
HANG_TIMES = 4  # times as long as what is owed takes at its pace is longer: it is slow
START_SECONDS = 300.0
PACE_OVER = 16  # replies, about: how fast the child is
RESTART_PAUSE = 0.5  # seconds after the first crash, doubled up to the longest
LONGEST_PAUSE = 30.0
NUMBER_BYTES = 4  # a reply begins with the number of its question, little-endian
READY = 0  # the number of the reply that says: loaded and warm
ROOT = Path(__file__).resolve().parents[1]


class KeptProcess:
    """`python -m MODULE ARGUMENT`, spoken to by a subclass that knows its questions and replies."""

    def __init__(self, name: str, module: str, argument: str, reply_bytes: int) -> None:
        """`name`: for people. `reply_bytes`: the length of each reply, its number included."""
        self._name, self._module, self._argument, self._reply_bytes = name, module, argument, reply_bytes
        self.counts = Counter[str]()  # timed_out, overloaded, crashed, killed, started, and what a subclass counts
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._inside = 0  # questions being answered or waiting for the child to be ready
        self._numbers = 0
        self._child: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._owed = 0  # replies the child has still to give
        self._since = 0.0  # when it last replied, or was asked after a rest, or was started
        self._pace = 0.0  # seconds a reply, a moving average
        self._warm_at: float | None = None  # when the child got ready; None: it has not

    async def start(self) -> None:
        """Start the child and wait until it is warm. Raises TimeoutError if it never gets there."""
        self._keep()
        async with asyncio.timeout(START_SECONDS):
            await self._ready.wait()

    @property
    def ready(self) -> bool:
        """Whether its process is warm: what is asked now is answered at once."""
        return self._ready.is_set()

    async def close(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def ask(self, question: Callable[[int, float], object], deadline_seconds: float) -> bytes | None:
        """The reply to `question(number, until)`, `until` on the machine's monotonic clock; None: there is none.

        At once where so many wait that its turn would come too late, at the deadline otherwise.
        """
        too_late = self._owed > 0 and (self._owed + 1) * self._pace > deadline_seconds
        if too_late or self._inside >= MOST_WAITING:
            self._end_hang()  # or nobody would, where all are turned away
            self._mishap("overloaded")
            return None
        self._keep()
        self._inside += 1
        until = time.monotonic() + deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._ready.wait()
                return await self._ask(question, until)
        except TimeoutError:
            self._end_hang()
            self._mishap("timed_out")
        except (ConnectionError, RuntimeError):
            self._mishap("crashed")
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
            self._mishap("unreadable")
        finally:
            self._inside -= 1
        return None

    def _mishap(self, what: str) -> None:
        self.counts[what] += 1
        log.warning("the %s gave no answer: %s", self._name, what)

    def _hangs(self) -> bool:
        """Whether it is warm, owes us something and has been silent for longer than it should ever be."""
        patience = max(HANG_SECONDS, HANG_TIMES * self._pace * self._owed)
        return self.ready and self._owed > 0 and time.monotonic() - self._since > patience

    def _end_hang(self) -> None:
        if self._hangs():
            self.counts["killed"] += 1
            self._kill()

    async def _ask(self, question: Callable[[int, float], object], until: float) -> bytes:
        """Send one question and wait for its reply. Raises ConnectionError when the child ends first."""
        pipe = self._child.stdin if self._child else None
        if pipe is None:
            raise ConnectionError
        self._numbers = self._numbers % 0xFFFFFFFF + 1
        number = self._numbers
        frame = pickle.dumps(question(number, until))
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            pipe.write(len(frame).to_bytes(4, "little") + frame)
            if not self._owed:
                self._since = time.monotonic()
            self._owed += 1
            await pipe.drain()
            return await reply
        finally:
            self._waiting.pop(number, None)

    # --- the child's life --------------------------------------------------------------------

    def _keep(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._run_again_and_again(), name=self._name)

    async def _run_again_and_again(self) -> None:
        pause = RESTART_PAUSE
        while True:
            try:
                await self._run_once()
            except TimeoutError:
                self.counts["killed"] += 1
                log.error("the %s's process was not ready after %.0f s", self._name, START_SECONDS)
            except OSError as error:
                log.error("the %s's process could not be started: %s", self._name, error)
            finally:
                self._fail_waiting()
                await self._bury()
            self.counts["crashed"] += 1
            steady = self._warm_at is not None and time.monotonic() - self._warm_at > LONGEST_PAUSE
            pause = RESTART_PAUSE if steady else min(2 * pause, LONGEST_PAUSE)
            log.error("the %s's process ended; starting it again in %.1f s", self._name, pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> None:
        """Start the child and hand out its replies until it ends. Raises TimeoutError when it never gets ready."""
        self._warm_at = None
        self._child = child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, self._argument,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=_environment(),
        )  # fmt: skip
        self.counts["started"] += 1
        self._owed, self._since = 0, time.monotonic()
        assert child.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._until_ready(child.stdout)
            while True:
                frame = await child.stdout.readexactly(self._reply_bytes)
                self._note_pace()
                if (reply := self._waiting.get(_number(frame))) and not reply.done():
                    reply.set_result(frame)
        except asyncio.IncompleteReadError:
            await child.wait()
        finally:
            self._ready.clear()

    async def _until_ready(self, replies: asyncio.StreamReader) -> None:
        """The child's first word. Raises IncompleteReadError when it ends before."""
        assert _number(await replies.readexactly(self._reply_bytes)) == READY
        self._warm_at = time.monotonic()
        self._ready.set()

    def _note_pace(self) -> None:
        now = time.monotonic()
        self._pace += ((now - self._since) - self._pace) / PACE_OVER
        self._owed, self._since = self._owed - 1, now

    def _fail_waiting(self) -> None:
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(ConnectionError(f"the {self._name}'s process ended"))
                reply.exception()  # read: a caller that is already gone must not be warned about

    def _kill(self) -> None:
        self._ready.clear()
        if self._child and self._child.returncode is None:
            self._child.kill()

    async def _bury(self) -> None:
        """Nothing of the child outlives this: neither the process nor its pipes."""
        self._kill()
        child, self._child = self._child, None
        if child and child.stdin:
            child.stdin.close()
            await child.wait()


def _number(frame: bytes) -> int:
    return int.from_bytes(frame[:NUMBER_BYTES], "little")


def _environment() -> dict[str, str]:
    """No keys and no settings of the product: only what Python and its one thread need."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
