"""A draft is judged at its sentence ends, beside the stream, and never held up by it."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.early_verdicts import LONGEST_SENTENCE, Watch, sentence_ends


@pytest.mark.parametrize(
    ("draft", "sentences"),
    [
        ("It costs $3.50. It is here", ["It costs $3.50. "]),
        ("Is it? Yes! It is", ["Is it? ", "Yes! "]),
        ('He said "wait." Then', ['He said "wait." ']),
        ("Your orders:\n\n- a lamp\n", ["Your orders:\n\n", "- a lamp\n"]),
        ("It is here.", []),  # as long as nothing follows, "here.2" may
        ("no end in sight", []),
    ],
)
def test_a_sentence_has_ended_once_a_blank_follows(draft, sentences):
    ends = [0, *sentence_ends(draft)]
    assert [draft[a:b] for a, b in pairwise(ends)] == sentences


@given(st.lists(st.text(alphabet='ab.!?" \n'), max_size=30))
def test_every_prefix_that_is_judged_is_one_that_was_written(pieces):
    judged, written = asyncio.run(watched(pieces))
    assert all(written.startswith(draft) for draft in judged)
    assert judged == sorted(judged, key=len)


async def watched(pieces):
    judged = []

    async def judge(draft):
        judged.append(draft)
        return

    watch = Watch(judge)
    for piece in pieces:
        watch.lost(piece)
        await asyncio.sleep(0)
    watch.stop()
    return judged, "".join(pieces)


async def test_a_prefix_is_judged_while_the_next_is_written_and_one_at_a_time():
    judging, go_on = [], asyncio.Event()

    async def judge(draft):
        judging.append(draft)
        await go_on.wait()
        return 0.01

    watch = Watch(judge)
    for piece in ("One. ", "Two. ", "Three. "):
        assert watch.lost(piece) is None
        await asyncio.sleep(0)
    assert judging == ["One. "]
    go_on.set()
    await asyncio.sleep(0.01)
    assert watch.lost("Four. ") == 0.01
    watch.stop()


async def test_looking_that_fails_is_no_verdict():
    async def judge(draft):
        raise OSError("gone")

    watch = Watch(judge)
    for piece in ("One. ", "Two. ", "Three. "):
        assert watch.lost(piece) is None
        await asyncio.sleep(0)
    watch.stop()


async def test_what_never_ends_is_not_kept_open_for_ever():
    watch = Watch(asyncio.sleep)
    for _ in range(100):
        watch.lost("x" * 100)
    assert len(watch._open) <= LONGEST_SENTENCE
