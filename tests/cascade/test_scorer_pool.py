"""A tenant's own weights judge its turns; the shipped ones stand in, and few processes run, whatever tenants have."""

from __future__ import annotations

import asyncio
import gc
import shutil
from pathlib import Path

import pytest

from cascade.scorer import pool as pool_module
from cascade.scorer.calibration import Calibration
from cascade.scorer.pool import Judge, Pool, Scoring
from cascade.scorer.serving import Scorer
from tests.cascade.scorer_cast import ANNA, asks
from tests.cascade.small_scorer import small_weights

CONTEXT = asks(ANNA, "Where is my order?")
ANSWER = "Your order T-5012 has been shipped."
PATIENT = 120.0  # seconds: on a busy machine


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    return small_weights(tmp_path_factory.mktemp("shipped"))


def own(shipped: Path, tmp_path: Path, name: str) -> Scoring:
    return Scoring(Path(shutil.copytree(shipped, tmp_path / name)))


async def warmed(pool: Pool, scoring: Scoring) -> None:
    """Until the tenant's own weights judge, or never will."""
    pool.judge(scoring)
    await asyncio.gather(*pool._warming.values())
    gc.collect()


async def test_the_shipped_weights_stand_in_until_the_tenants_own_are_warm(shipped, tmp_path):
    pool, scoring = Pool(shipped), own(shipped, tmp_path, "own")
    try:
        assert pool.judge(scoring).scorer.weights == shipped
        await warmed(pool, scoring)
        judge = pool.judge(scoring)
        assert judge.scorer.weights == scoring.folder
        assert await judge.score(CONTEXT, ANSWER, deadline_seconds=PATIENT) is not None
        assert pool.judge(Scoring()).scorer.weights == shipped  # another tenant's turn
    finally:
        await pool.close()


async def test_a_turn_keeps_the_weights_it_began_with_and_no_more_processes_run_than_may(shipped, tmp_path):
    pool = Pool(shipped, most_own=1, kept_seconds=0)
    first, second = own(shipped, tmp_path, "first"), own(shipped, tmp_path, "second")
    try:
        await warmed(pool, first)
        judge = pool.judge(first)
        await warmed(pool, second)
        assert list(pool._own) == [first.folder]  # a turn still uses it
        assert pool.judge(second).scorer.weights == shipped
        del judge
        await warmed(pool, second)
        assert list(pool._own) == [second.folder]
        assert pool.counts["started"] == 1
    finally:
        await pool.close()


async def test_one_that_was_just_used_is_kept_though_another_tenant_waits(shipped, tmp_path):
    pool = Pool(shipped, most_own=1, kept_seconds=60)
    first, second = own(shipped, tmp_path, "first"), own(shipped, tmp_path, "second")
    try:
        await warmed(pool, first)
        await warmed(pool, second)
        assert list(pool._own) == [first.folder]
    finally:
        await pool.close()


async def test_weights_that_cannot_be_served_stop_no_answer_and_are_not_tried_again(shipped, tmp_path):
    pool, broken = Pool(shipped), own(shipped, tmp_path, "broken")
    (broken.folder / "model.safetensors").write_bytes(b"other bytes")
    try:
        await warmed(pool, broken)
        assert pool.judge(broken).scorer.weights == shipped
        assert not pool._warming
        missing = Scoring(tmp_path / "on another machine")
        await warmed(pool, missing)
        assert pool.judge(missing).scorer.weights == shipped
    finally:
        await pool.close()


async def test_weights_that_do_not_come_up_are_left_alone_for_a_while_and_then_tried_again(
    shipped, tmp_path, monkeypatch
):
    begun = []

    async def never(scorer):
        begun.append(scorer.weights)
        raise TimeoutError

    monkeypatch.setattr(Scorer, "start", never)
    patient, hasty = Pool(shipped), Pool(shipped)
    slow = own(shipped, tmp_path, "slow")
    for _ in range(3):
        await warmed(patient, slow)
    assert begun == [slow.folder]
    monkeypatch.setattr(pool_module, "RETRY_SECONDS", 0)
    for _ in range(3):
        await warmed(hasty, slow)
    assert begun == [slow.folder] * 4


async def test_a_score_is_read_through_the_map_of_the_weights_that_gave_it(shipped):
    pool = Pool(shipped)
    stricter = Scoring(maps={pool.version: Calibration(1.0, -2.0), "other weights": Calibration(1.0, -9.0)})
    try:
        plain = await pool.judge(Scoring()).score(CONTEXT, ANSWER, deadline_seconds=PATIENT)
        lower = await pool.judge(stricter).score(CONTEXT, ANSWER, deadline_seconds=PATIENT)
        assert lower == pytest.approx(Calibration(1.0, -2.0).again(plain), abs=1e-6)
        assert lower < plain == await pool.score(CONTEXT, ANSWER, deadline_seconds=PATIENT)
    finally:
        await pool.close()


async def test_a_tenants_map_never_raises_a_score_not_even_an_early_one():
    class Says:
        async def score(self, context, answer, *, deadline_seconds):
            return 0.6

        async def early(self, context, draft, threshold):
            return 0.0005

    praised = Judge(Says(), Calibration(1.0, 5.0))
    assert await praised.score(CONTEXT, ANSWER) == 0.6
    assert await praised.early(CONTEXT, ANSWER, 0.5) == 0.0005
