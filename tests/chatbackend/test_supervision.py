"""What dies is started again, what is stopped stays stopped, and nothing outlives its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from chatbackend.supervision import Child


async def until(condition, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def starts(log: Path) -> list[int]:
    """The process ids that were written so far."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def child(log: Path, script: str, said: list[str], patience: float = 10.0) -> Child:
    return Child("toy", ["sh", "-c", f"echo $$; {script}"], log, said.append, patience=patience)


async def test_a_child_that_dies_is_started_again_and_it_is_said(tmp_path):
    said: list[str] = []
    log = tmp_path / "log"
    toy = child(log, "exec sleep 60", said)
    await until(lambda: starts(log))
    os.kill(starts(log)[0], signal.SIGKILL)
    await until(lambda: len(starts(log)) == 2)
    await toy.stop()
    assert said == [f"toy ended (-9), starts again in 1 s; its log is {log}"]


async def test_a_child_that_keeps_dying_is_started_ever_more_slowly(tmp_path):
    said: list[str] = []
    toy = child(tmp_path / "log", "exit 3", said)
    await until(lambda: len(said) == 3)
    await toy.stop()
    assert [line.split(";")[0] for line in said] == [f"toy ended (3), starts again in {pause} s" for pause in (1, 2, 4)]


async def test_a_stopped_child_has_ended_and_stays_so(tmp_path):
    log = tmp_path / "log"
    toy = child(log, "exec sleep 60", [])
    await until(lambda: starts(log))
    await toy.stop()
    assert not psutil.pid_exists(starts(log)[0])
    await asyncio.sleep(1.2)
    assert len(starts(log)) == 1


async def test_a_child_that_will_not_end_is_killed(tmp_path):
    said: list[str] = []
    log = tmp_path / "log"
    toy = child(log, "trap '' TERM; while :; do sleep 0.1; done", said, patience=0.5)
    await until(lambda: starts(log))
    await asyncio.sleep(0.3)  # until it ignores us
    await toy.stop()
    assert said == ["toy did not end within 0.5 s and is killed"]
    assert not psutil.pid_exists(starts(log)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_children_end_when_the_supervisor_is_killed(tmp_path):
    log = tmp_path / "log"
    code = (
        "import asyncio, pathlib, sys; from chatbackend.supervision import Child\n"
        "async def main():\n"
        "    Child('toy', ['sh', '-c', 'echo $$; exec sleep 60'], pathlib.Path(sys.argv[1]), print, patience=1)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", code, log)
    await until(lambda: starts(log))
    supervisor.kill()
    await supervisor.wait()
    await until(lambda: not psutil.pid_exists(starts(log)[0]) or _is_zombie(starts(log)[0]))


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
