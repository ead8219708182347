"""The embedder: similar texts lie close, in time or not at all, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from django.conf import settings

from cascade.embedder import MODEL, SIZE
from cascade.embedder.serving import Embedder
from cascade.kept_process import ROOT
from cascade.local_models import path_of

PATIENT = 120.0  # seconds: on a busy machine


@pytest.fixture(scope="module")
def live():
    with asyncio.Runner() as runner:
        embedder = Embedder(path_of(MODEL, settings.MODELS_ROOT))
        runner.run(embedder.start())
        yield embedder, runner.run
        runner.run(embedder.close())


def cosine(one, other) -> float:
    return float(np.dot(np.asarray(one), np.asarray(other)))


def test_what_means_the_same_lies_closer_than_what_does_not(live):
    embedder, run = live
    texts = ["What is your return policy?", "How can I send something back?", "Do you sell garden chairs?", "naïve 🪑"]
    policy, back, chairs, odd = run(embedder.embed_many(texts))
    assert cosine(policy, policy) == pytest.approx(1, abs=0.01)
    assert cosine(policy, back) > cosine(policy, chairs) + 0.1
    assert len(odd) == SIZE


def test_a_text_has_the_same_vector_alone_and_among_others(live):
    embedder, run = live
    alone = run(embedder.embed("Where is my order?", deadline_seconds=PATIENT))
    among = run(embedder.embed_many(["Where is my order?", *(f"filler {'long ' * n}" for n in range(40))]))
    assert cosine(alone, among[0]) > 0.99
    assert None not in among


def test_without_time_there_is_no_vector(live):
    embedder, run = live
    assert run(embedder.embed("Where is my order?", deadline_seconds=0.0)) is None


@pytest.mark.parametrize("text", ["", "\0", "\ud800 half a pair", "x" * 100_000])
def test_whatever_the_text_it_has_a_vector(live, text):
    embedder, run = live
    assert run(embedder.embed(text, deadline_seconds=PATIENT)) is not None


def test_a_child_that_dies_is_started_again(live):
    embedder, run = live
    os.kill(embedder._child.pid, signal.SIGKILL)

    run(embedder.embed("asked of the dead", deadline_seconds=PATIENT))
    assert run(embedder.embed("asked of the next", deadline_seconds=PATIENT)) is not None


def test_the_web_process_embeds_without_torch():
    code = "import sys, cascade.embedder.serving; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
