"""The vendors' own SDKs, over real HTTP, against a server that speaks both wires and every fault."""

import asyncio
import socket
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cascade import errors
from cascade.providers import ADAPTERS, AnthropicProvider, Delta, Finished
from cascade.values import FinishReason, Prompt, PromptMessage, Usage
from tests.cascade.strategies import PROMPT, model
from tests.model_server import Fault, ModelServer, Reply, Tokens

ANSWER = "Grüße, Zoë 👩‍👩‍👧: it is on its way."
KEY = "sk-a-very-secret-key"


@pytest.fixture(scope="module")
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture(params=sorted(ADAPTERS))
async def provider(request, server):
    server.calls.clear()
    provider = ADAPTERS[request.param](KEY, server.base_url)
    yield provider
    await provider.aclose()


async def ask(provider, *, prompt=PROMPT, seconds=5.0, cap=50, **of_model):
    """The pieces of an answer; a failure is kept at the end of them."""
    pieces = []
    try:
        async for piece in provider.stream(
            model("m", **of_model), prompt, max_output_tokens=cap, timeout_seconds=seconds
        ):
            pieces.append(piece)
    except errors.ProviderError as error:
        pieces.append(error)
    return pieces


def text_of(pieces):
    return "".join(piece.text for piece in pieces if isinstance(piece, Delta))


async def failure(provider, server, line, **how):
    server.script("m", line)
    return (await ask(provider, **how))[-1]


async def test_an_answer_streams_in_and_ends_with_its_usage(provider, server):
    server.script("m", Reply(ANSWER, usage=Tokens(40, 21, cached=30, written=5, reasoning=9)))
    pieces = await ask(provider)
    assert text_of(pieces) == ANSWER
    assert len(pieces) > 5
    assert pieces[-1] == Finished(FinishReason.STOP, Usage(40, 21, 30, 5, 9))


async def test_anthropic_is_told_which_part_of_the_prompt_to_keep(server):
    server.script("m", Reply("Yes."))
    told = Prompt((PromptMessage("system", "For all.\n\nFor one."), PromptMessage("user", "Hi")), 40, stable=8)
    provider = AnthropicProvider(KEY, server.base_url)
    await ask(provider, prompt=told)
    await provider.aclose()
    kept, own = server.calls[-1].body["system"]
    assert kept == {"type": "text", "text": "For all.", "cache_control": {"type": "ephemeral"}}
    assert own == {"type": "text", "text": "\n\nFor one."}


async def test_the_wire_carries_prompt_limit_and_key(provider, server):
    server.script("m", Reply("Yes."))
    messages = (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Where is it?"))
    await ask(provider, prompt=Prompt(tuple(PromptMessage(*message) for message in messages), 40), cap=77)
    call = server.calls[-1]
    sent = [(message["role"], message["content"]) for message in call.body["messages"]]
    system = [("system", call.body["system"])] if "system" in call.body else []
    assert system + sent == list(messages)
    assert 77 in (call.body.get("max_completion_tokens"), call.body.get("max_tokens"))
    assert call.headers["authorization"] == f"Bearer {KEY}"


async def test_the_key_is_not_sent_to_a_models_own_address(server):
    server.script("m", Reply("Yes."))
    for adapter in ADAPTERS.values():
        provider = adapter(KEY, "http://127.0.0.1:1")
        assert text_of(await ask(provider, base_url=server.base_url)) == "Yes."
        await provider.aclose()
        assert KEY not in str(server.calls[-1].headers)


async def test_characters_split_between_packets_come_out_whole(provider, server):
    server.script("m", Reply(ANSWER, split=True))
    assert text_of(await ask(provider)) == ANSWER


async def test_the_usage_after_the_finish_reason_is_waited_for(provider, server):
    server.script("m", Reply(ANSWER, pace=0.01, usage=Tokens(40, 8)))
    assert (await ask(provider))[-1].usage == Usage(40, 8)


async def test_an_answer_without_usage_is_whole_and_says_so(provider, server):
    server.script("m", Reply("Yes.", usage=None))
    assert await ask(provider) == [Delta("Yes."), Finished(FinishReason.STOP, None)]


async def test_a_missing_end_mark_after_a_whole_answer_does_no_harm(provider, server):
    server.script("m", Reply("Yes.", done=False, usage=Tokens(40, 2)))
    assert await ask(provider) == [Delta("Yes."), Finished(FinishReason.STOP, Usage(40, 2))]


@pytest.mark.parametrize("usage", [Tokens(-5, -1), Tokens(10**12, 10**12)])
async def test_absurd_usage_is_passed_on_as_reported(provider, server, usage):
    server.script("m", Reply("Yes.", usage=usage))
    assert (await ask(provider))[-1].usage == Usage(usage.input, usage.output)


async def test_usage_that_is_no_whole_number_is_an_impossible_one(provider, server):
    server.script("m", Reply("Yes.", usage=Tokens(40.5, 2.5)))
    usage = (await ask(provider))[-1].usage
    assert usage.input_tokens < 0
    assert usage.output_tokens < 0


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_use", FinishReason.OTHER),
    ],
)
async def test_why_an_answer_ended_is_told(provider, server, finish, reason):
    server.script("m", Reply("So far", finish=finish))
    assert (await ask(provider))[-1].reason is reason


async def test_an_empty_answer_is_no_error_here(provider, server):
    server.script("m", Reply(""))
    (finished,) = await ask(provider)
    assert finished.reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.AuthenticationFailed),
        (403, errors.AuthenticationFailed),
        (404, errors.BadRequest),
        (408, errors.Timeout),
        (413, errors.BadRequest),
        (429, errors.RateLimited),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (503, errors.Overloaded),
        (529, errors.Overloaded),
    ],
)
async def test_each_status_has_its_error_and_is_asked_only_once(provider, server, status, kind):
    error = await failure(provider, server, Fault.status(status))
    assert type(error) is kind
    assert len(server.calls) == 1  # retrying is the runner's
    assert "secret" not in str(error)
    assert f"HTTP {status}" in str(error) or kind is errors.Timeout


async def test_a_filtered_prompt_and_an_empty_purse_are_told_from_their_statuses(provider, server):
    assert type(await failure(provider, server, Fault.status(400, "content_filter"))) is errors.ContentFiltered
    broke = await failure(provider, server, Fault.status(429, "insufficient_quota"))
    assert type(broke) is errors.AuthenticationFailed


@pytest.mark.parametrize(
    ("header", "least", "most"), [("7", 7, 7), ("1.5", 1.5, 1.5), ("soon", None, None), ("-3", None, None)]
)
async def test_retry_after_is_read_or_left_out(provider, server, header, least, most):
    error = await failure(provider, server, Fault.status(429, retry_after=header))
    assert (error.retry_after is None) if least is None else (least <= error.retry_after <= most)


async def test_retry_after_may_be_a_date(provider, server):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (await failure(provider, server, Fault.status(429, retry_after=soon))).retry_after <= 30


async def test_no_connection_and_a_reset_before_the_first_byte_are_connection_failures(provider, server):
    error = await failure(provider, server, Fault.reset())
    assert type(error) is errors.ConnectionFailed
    assert not error.billed
    refused = (await ask(provider, base_url="http://127.0.0.1:1"))[-1]
    assert type(refused) is errors.ConnectionFailed


async def test_a_provider_that_never_answers_times_out_and_may_bill(provider, server):
    error = await failure(provider, server, Fault.hang(), seconds=0.2)
    assert type(error) is errors.Timeout
    assert error.billed


@pytest.fixture
def deaf_port():
    """A port that is open and takes no connection: its queue is full."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_connection_that_never_comes_about_is_free(provider, deaf_port):
    error = (await ask(provider, base_url=f"http://127.0.0.1:{deaf_port}", seconds=0.4))[-1]
    assert type(error) is errors.Timeout
    assert not error.billed


async def test_without_a_key_only_a_models_own_address_is_asked(server):
    server.script("m", Reply("Yes."))
    for adapter in ADAPTERS.values():
        provider = adapter("", server.base_url)
        asked = len(server.calls)
        assert type((await ask(provider))[-1]) is errors.AuthenticationFailed
        assert len(server.calls) == asked
        assert text_of(await ask(provider, base_url=server.base_url)) == "Yes."
        await provider.aclose()


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("reset", errors.Interrupted),
        ("close", errors.Interrupted),
        ("truncate", errors.Interrupted),
        ("error", errors.Interrupted),
        ("not json", errors.Malformed),
        ("wrong shape", errors.Malformed),
        ("hang", errors.Timeout),
    ],
)
async def test_a_stream_that_breaks_keeps_its_pieces_and_may_be_billed(provider, server, how, kind):
    server.script("m", Reply("It is on its way.", breaks_after=3, how=how))
    *pieces, error = await ask(provider, seconds=1.0 if how == "hang" else 5.0)
    assert text_of(pieces) == "It is on "
    assert type(error) is kind
    assert error.billed


async def test_a_page_that_is_no_stream_is_malformed(provider, server):
    assert type(await failure(provider, server, Fault(200))) is errors.Malformed


async def test_closing_the_stream_ends_the_call(provider, server):
    server.script("m", Reply("word " * 500, pace=0.01))
    async with aclosing(provider.stream(model("m"), PROMPT, max_output_tokens=50, timeout_seconds=5)) as pieces:
        await anext(pieces)
    await asyncio.to_thread(server.wait_until, lambda: server.calls[-1].dropped)
    assert server.calls[-1].billed.output < 500


async def test_cancelling_the_task_ends_the_call_before_and_in_the_middle_of_the_answer(provider, server):
    for line in (Fault.hang(), Reply("word " * 500, pace=0.01)):
        server.script("m", line)
        task, calls = asyncio.create_task(ask(provider)), len(server.calls)
        await asyncio.to_thread(server.wait_until, lambda calls=calls: len(server.calls) > calls)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.wait_until, lambda: server.calls[-1].dropped)


async def test_calls_share_one_client_and_its_connections(provider, server):
    server.script("m", Reply("Yes.", pace=0.02))
    answers = await asyncio.gather(*(ask(provider) for _ in range(5)))
    assert [text_of(pieces) for pieces in answers] == ["Yes."] * 5
