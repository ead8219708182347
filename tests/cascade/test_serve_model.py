"""A real local model behind the real SDK: streamed, counted, stopped when asked, gone with its parent."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time

import openai
import psutil
import pytest
from django.conf import settings

MODEL = "smollm2-135m-instruct"  # `make test` fetches it
SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served():
    """The server's process, under a parent of its own, and its address."""
    port = free_port()
    command = f"{sys.executable} manage.py serve_model {MODEL} --port {port} --threads 1 & echo $!; wait"
    parent = subprocess.Popen(
        ["sh", "-c", command], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout
    server = psutil.Process(int(parent.stdout.readline()))
    assert "answers" in parent.stdout.readline()
    yield parent, server, f"http://127.0.0.1:{port}/v1"
    parent.kill()
    parent.wait()
    if server.is_running():
        server.kill()


@pytest.fixture
async def client(served):
    async with openai.AsyncOpenAI(base_url=served[2], api_key="none", max_retries=0, timeout=SECONDS) as client:
        yield client


def ask(client: openai.AsyncOpenAI, text: str, max_tokens: int):
    return client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": text}],
        max_tokens=max_tokens,
        stream=True,
        stream_options={"include_usage": True},
    )


async def test_a_reply_is_streamed_and_its_usage_reported(client):
    chunks = [chunk async for chunk in await ask(client, "Say hello.", 12)]
    text = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    usage = chunks[-1].usage
    assert len(text) > 1
    assert usage
    assert usage.prompt_tokens > 10
    assert 0 < usage.completion_tokens <= 12


async def test_the_beginning_that_two_prompts_share_is_read_once(client):
    shop = "The shop sends parcels on working days. " * 20
    for question in ("When?", "Where?"):
        chunks = [chunk async for chunk in await ask(client, shop + question, 4)]
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 100


async def test_generation_stops_when_the_stream_is_closed(served, client):
    stream = await ask(client, "Write a very long story about a dragon.", 3000)
    async for _ in stream:
        break
    await stream.close()
    await asyncio.sleep(1)
    before = served[1].cpu_times().user
    await asyncio.sleep(2)
    assert served[1].cpu_times().user - before < 0.5


def test_a_server_ends_with_its_parent(served):
    parent, server, _ = served
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
