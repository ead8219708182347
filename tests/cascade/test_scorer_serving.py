"""The scorer's own process: in time, many at once, and whatever befalls it ends in "not scored" and a fresh start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from cascade import kept_process
from cascade.scorer import engines, head, manifest
from cascade.scorer import model as network
from cascade.scorer.manifest import UnfitWeights, read
from cascade.scorer.serving import Scorer
from cascade.scorer.trees import no_trees
from tests.cascade.scorer_cast import ANNA, BEN, CARLA, PAIRS, asks
from tests.cascade.small_scorer import small_weights

SHIPPED = Path(engines.__file__).parent / "weights"
ACCEPT = (0.5, 0.9)  # the thresholds of the demo's tiers
MEGABYTE = 2**20

CONTEXT = asks(ANNA, "Where is my order?")
PATIENT = 120.0  # seconds: on a busy machine


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def live(weights):
    """A started scorer and the loop it lives in."""
    with asyncio.Runner() as runner:
        scorer = Scorer(weights)
        runner.run(scorer.start())
        yield scorer, runner.run
        runner.run(scorer.close())


@pytest.fixture(scope="module")
def shipped():
    """The shipped weights, started, and the loop they live in."""
    with asyncio.Runner() as runner:
        scorer = Scorer(SHIPPED)
        runner.run(scorer.start())
        yield scorer, runner.run
        runner.run(scorer.close())


def test_a_served_score_is_that_of_the_weights(weights, live):
    scorer, run = live
    manifest = read(weights)
    model, tokenizer = network.load(weights)
    asked = [(asks(p.right, p.question), p.answer) for p in PAIRS]
    readings = [network.reading(tokenizer, *each, manifest.window) for each in asked]
    logits = head.logits(model, head.load(weights), readings)

    async def all_at_once():
        asked = (scorer.score(asks(p.right, p.question), p.answer, deadline_seconds=PATIENT) for p in PAIRS)
        return await asyncio.gather(*asked)

    expected = [manifest.calibration.probability(x) for x in logits]
    assert run(all_at_once()) == pytest.approx(expected, abs=0.02)


def test_many_at_once_are_all_answered_and_too_many_are_not_scored(live):
    scorer, run = live
    before = scorer.counts["scored"]
    scorer.counts["overloaded"] = 0

    async def flood():
        many = range(kept_process.MOST_WAITING + 5)
        return await asyncio.gather(*(scorer.score(CONTEXT, f"No. {n}", deadline_seconds=PATIENT) for n in many))

    assert run(flood()).count(None) == scorer.counts["overloaded"] == 5
    assert scorer.counts["scored"] - before == kept_process.MOST_WAITING


POISON = [
    *(sign * 65_536 for sign in ("x", "[", "\n", "\u202e", "1/1 ")),
    "\ud800\udfff" * 400,
    "7" * 10_000,
    "\x00" * 9_000,
    "Your order is on its way. " * 100,
]


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: repr(poison[:4]))
def test_poison_is_rejected_and_does_not_stop_the_next_one(shipped, poison):
    scorer, run = shipped
    before = scorer.counts["unreadable"]
    for context, answer in ((CONTEXT, poison), (asks(ANNA, poison), poison), (asks(ANNA, poison), "Hello.")):
        assert run(scorer.score(context, answer, deadline_seconds=1.0)) is None
    assert scorer.counts["unreadable"] - before == 3
    assert run(scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT)) is not None
    assert scorer.counts["started"] == 1


def test_who_would_come_too_late_is_told_at_once(live):
    scorer, run = live

    async def ask_behind_a_slow_one():
        os.kill(scorer._child.pid, signal.SIGSTOP)
        first = asyncio.create_task(scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT))
        await asyncio.sleep(0.05)
        asked_at, scorer._pace = time.monotonic(), 1.0
        score = await scorer.score(CONTEXT, "Hello.", deadline_seconds=1.5)
        took = time.monotonic() - asked_at
        os.kill(scorer._child.pid, signal.SIGCONT)
        return score, took, await first

    before = scorer.counts["overloaded"]
    score, took, first = run(ask_behind_a_slow_one())
    assert (score, scorer.counts["overloaded"] - before) == (None, 1)
    assert took < 1
    assert first is not None


def test_those_whose_time_is_up_do_not_hold_the_others_up(live):
    scorer, run = live

    async def ask_late():
        os.kill(scorer._child.pid, signal.SIGSTOP)
        late = [scorer.score(CONTEXT, f"No. {n}", deadline_seconds=0.1) for n in range(20)]
        assert await asyncio.gather(*late) == [None] * 20
        os.kill(scorer._child.pid, signal.SIGCONT)
        found = await scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT)
        return found, scorer._owed

    found, owed = run(ask_late())
    assert found is not None
    assert owed == 0
    assert scorer.counts["started"] == 1


def test_a_caller_who_gives_up_leaves_nothing_behind(live):
    scorer, run = live

    async def give_up():
        asked = asyncio.create_task(scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return await scorer.score(asks(BEN, "Where?"), "Hello.", deadline_seconds=PATIENT)

    assert run(give_up()) is not None
    assert not scorer._waiting
    assert scorer._inside == 0


def test_the_process_is_told_no_secrets(live):
    os.environ["OPENAI_API_KEY"] = "sk-secret"
    told = kept_process._environment()
    del os.environ["OPENAI_API_KEY"]
    environ = Path(f"/proc/{live[0]._child.pid}/environ").read_bytes()
    assert "sk-secret" not in told.values()
    assert {pair.split(b"=")[0].decode() for pair in environ.split(b"\0") if pair} <= set(told)


def test_a_crash_or_a_hang_is_a_reject_in_time_and_a_fresh_start(weights):
    async def struck():
        scorer = Scorer(weights)
        await scorer.start()
        for blow in (signal.SIGKILL, signal.SIGSTOP):
            os.kill(scorer._child.pid, blow)
            asked_at = time.monotonic()
            assert await scorer.score(CONTEXT, "Hello.", deadline_seconds=1.0) is None
            assert time.monotonic() - asked_at < 2
            async with asyncio.timeout(PATIENT):
                while await scorer.score(CONTEXT, "Hello.", deadline_seconds=1.0) is None:
                    pass
        await scorer.close()
        return scorer.counts

    counts = asyncio.run(struck())
    assert counts["started"] == 3
    assert counts["crashed"] >= 2


def test_a_process_that_never_gets_ready_is_started_again(weights, tmp_path, monkeypatch):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(kept_process, "START_SECONDS", 0.2)
    monkeypatch.setattr(kept_process.sys, "executable", str(slow))

    async def ask():
        scorer = Scorer(weights)
        assert await scorer.score(CONTEXT, "Hello.", deadline_seconds=1.0) is None
        monkeypatch.undo()
        score = await scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT)
        await scorer.close()
        return score, scorer.counts

    score, counts = asyncio.run(ask())
    assert score is not None
    assert (counts["killed"], counts["started"]) == (1, 2)


def test_a_process_that_never_gets_ready_is_ended_and_started_ever_more_seldom_though_nobody_asks(
    weights, tmp_path, monkeypatch
):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    for name, seconds in (("START_SECONDS", 0.2), ("RESTART_PAUSE", 0.05), ("LONGEST_PAUSE", 0.15)):
        monkeypatch.setattr(kept_process, name, seconds)
    monkeypatch.setattr(kept_process.sys, "executable", str(slow))
    pauses, sleep = [], asyncio.sleep

    async def paused(seconds):
        pauses.append(seconds)
        await sleep(0)

    async def left_alone():
        scorer = Scorer(weights)
        with pytest.raises(TimeoutError):
            await scorer.start()
        monkeypatch.setattr(kept_process.asyncio, "sleep", paused)
        async with asyncio.timeout(PATIENT):
            while scorer.counts["killed"] < 3 or len(pauses) < 3:
                await sleep(0.05)
        await scorer.close()
        return scorer

    scorer = asyncio.run(left_alone())
    assert scorer._child is None
    assert set(pauses[-2:]) == {0.15}  # each lived longer than that, but none was of use


def test_a_busy_machine_is_not_taken_for_a_hang(weights):
    scorer = Scorer(weights)
    scorer._ready.set()
    scorer._pace, scorer._owed = 0.5, 4
    scorer._since = time.monotonic() - 4
    assert not scorer._hangs()
    scorer._since -= 5
    assert scorer._hangs()


async def test_a_hang_is_ended_though_all_who_ask_are_turned_away(weights):
    scorer = Scorer(weights)
    scorer._ready.set()
    scorer._pace, scorer._owed, scorer._since = 0.1, 60, time.monotonic() - 30
    assert await scorer.score(CONTEXT, "Hello.", deadline_seconds=2.0) is None
    assert (scorer.counts["overloaded"], scorer.counts["killed"], scorer.ready) == (1, 1, False)
    assert await scorer.score(CONTEXT, "Hello.", deadline_seconds=0.1) is None
    assert scorer.counts["killed"] == 1


def test_not_a_number_is_a_reject(tmp_path):
    async def ask():
        scorer = Scorer(small_weights(tmp_path, poisoned=True))
        score = await scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT)
        await scorer.close()
        return score, scorer.counts["not_a_number"]

    assert asyncio.run(ask()) == (None, 1)


def test_a_deadline_holds_even_while_the_process_starts(weights):
    async def ask():
        scorer = Scorer(weights)
        asked_at = time.monotonic()
        score = await scorer.score(CONTEXT, "Hello.", deadline_seconds=0.05)
        took = time.monotonic() - asked_at
        await scorer.close()
        return score, took

    score, took = asyncio.run(ask())
    assert score is None
    assert took < 1


def test_unfit_weights_are_refused_at_once(tmp_path):
    with pytest.raises(UnfitWeights, match="manifest"):
        Scorer(tmp_path)


def test_the_web_process_does_not_import_torch():
    code = "import sys, cascade.scorer.serving; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- early verdicts ---------------------------------------------------------------------------


async def test_a_draft_is_lost_below_the_threshold_of_the_weights_and_never_looked_at_while_others_wait(
    weights, tmp_path
):
    picky = tmp_path / "picky"
    shutil.copytree(weights, picky)
    manifest.write(replace(manifest.read(picky), abort_below=0.999), picky)
    scorer, unconcerned = Scorer(picky), Scorer(weights)
    assert await scorer.early(CONTEXT, "Hello. ", 0.5) is None  # not started yet
    await asyncio.gather(scorer.start(), unconcerned.start())
    begun = await scorer.score(CONTEXT, "Hello. ", deadline_seconds=PATIENT, whole=False)
    assert await scorer.early(CONTEXT, "Hello. ", 0.5) == begun == 0.5  # by the trees alone, of which there are none
    assert await unconcerned.early(CONTEXT, "Hello. ", 0.5) is None
    assert await scorer.early(CONTEXT, "Hello. ", 0.4) is None  # accepted more easily than was measured
    busy = asyncio.create_task(scorer.score(CONTEXT, "Hello.", deadline_seconds=PATIENT))
    await asyncio.sleep(0)
    assert await scorer.early(CONTEXT, "Hello. ", 0.5) is None
    await busy
    await asyncio.gather(scorer.close(), unconcerned.close())


# --- engines ----------------------------------------------------------------------------------


def every_answer_to_every_customer() -> list[tuple]:
    """(context, answer): few of them right, so that scores lie everywhere between 0 and 1."""
    questions = dict.fromkeys(pair.question for pair in PAIRS)
    customers = (ANNA, BEN, CARLA)
    return [(asks(who, q), pair.answer) for who in customers for q in questions for pair in PAIRS]


def test_all_engines_give_the_same_verdicts_on_the_shipped_weights():
    manifest, joined = read(SHIPPED), head.load(SHIPPED)
    tokenizer = network.tokenizer_of(SHIPPED / "tokenizer.json")
    asked = every_answer_to_every_customer()
    readings = [network.reading(tokenizer, *each, manifest.window) for each in asked]

    def scores(engine):
        """Those that are served, and those of the network's doubts alone."""
        logits = [head.logits(engine, each, readings) for each in (joined, replace(joined, trees=no_trees()))]
        return [manifest.calibration.probability(x) for each in logits for x in each]

    model, _ = network.load(SHIPPED)
    plain = scores(model)
    for name, compute in engines.candidates(model):
        for at_once in (1, engines.TOGETHER):
            found = scores(engines.Engine(name, compute, at_once, model.pairing))
            assert found == pytest.approx(plain, abs=0.02), name
            same = [(a >= limit) == (b >= limit) for limit in ACCEPT for a, b in zip(found, plain, strict=True)]
            assert sum(same) >= 0.995 * len(same), name


def test_a_text_is_read_the_same_alone_and_among_longer_ones(weights):
    model, _ = network.load(weights)
    texts = [[5] * 30, list(range(5, 17)), [5, 9]]
    alone = torch.cat([network.vectors(model, [text]) for text in texts])
    assert torch.allclose(network.vectors(model, texts), alone, atol=1e-5)
    for at_once in (1, 2):
        engine = engines.Engine("torch", engines.by_torch(model), at_once, model.pairing)
        assert torch.allclose(network.vectors(engine, texts), alone, atol=1e-5)


def test_texts_of_one_length_are_read_together_and_none_pays_for_a_longer_one(weights):
    model, _ = network.load(weights)
    shapes = []

    def compute(ids, mask):
        shapes.append(tuple(ids.shape))
        return model(ids, mask)

    network.vectors(engines.Engine("torch", compute, 2, model.pairing), [[5] * n for n in (40, 9, 20, 5, 30, 18)])
    assert shapes == [(2, 16), (2, 32), (1, 32), (1, 48)]


def test_importing_the_engines_reports_nothing_to_anybody():
    code = "import sys, cascade.scorer.engines; sys.exit(bool(sys.modules.get('openvino_telemetry')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=kept_process.ROOT).returncode == 0


def test_the_process_stays_small_whatever_it_is_asked(shipped):
    scorer, run = shipped

    async def most():
        much = " ".join(f"Order T-{n} of ${n}.50 is here." for n in range(1000, 1220))
        long = [(context, f"{answer} {much}") for context, answer in every_answer_to_every_customer()[:32]]
        assert None not in await asyncio.gather(*(scorer.score(*each, deadline_seconds=PATIENT) for each in long))
        return psutil.Process(scorer._child.pid).memory_info().rss

    assert run(most()) < 700 * MEGABYTE
