"""The OpenAI-compatible door, through the official SDK as it comes."""

from __future__ import annotations

import asyncio
import contextlib

import openai
import pytest

from accounts import ledger
from accounts.models import Customer
from accounts.money import Money
from accounts.tenancy import in_db, in_tenant
from cascade.models import Conversation, Message, Turn
from chatbackend import turns
from tests.api_cast import Program
from tests.cast import open_shop
from tests.chatbackend.doors import serving
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
ASK = [{"role": "user", "content": "Where is my order?"}]


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply("I do not know."))
        server.script("large", Reply("Your desk lamp is good and on its way."))
        yield server


@pytest.fixture
def shop(models):
    return open_shop("alice", models.base_url)


@contextlib.asynccontextmanager
async def client(shop, scopes=("chat",), **more):
    secret = more.pop("api_key", None) or (await in_db(Program)(shop, scopes)).secret
    async with serving() as address, openai.AsyncOpenAI(api_key=secret, base_url=f"{address}/v1", **more) as made:
        yield made


@in_db
def rows(shop, model, **filters):
    with in_tenant(shop.tenant_id):
        return list(model.objects.filter(**filters).order_by("created_at"))


async def test_a_reply_says_which_tier_answered_how_good_and_what_it_cost(models, shop):
    await in_db(shop.caller)("c1")
    async with client(shop) as sdk:
        reply = await sdk.chat.completions.create(model=str(shop.chatbot_id), messages=ASK, user="c1")
    assert reply.choices[0].message.content == "Your desk lamp is good and on its way."
    assert reply.choices[0].finish_reason == "stop"
    told = reply.frugal  # type: ignore[attr-defined]  # an extra field, which the SDK passes through
    assert (told["tier"], told["model"], told["score"], told["state"]) == (2, "large", 0.9, "answered")
    assert [tried["outcome"] for tried in told["attempts"]] == ["rejected", "accepted"]
    assert Money.from_usd(told["charged"]) == Money.from_usd("1") - await in_db(ledger.available)(shop.tenant_id)
    assert reply.usage.prompt_tokens == sum(call.billed.input for call in models.calls)
    assert [customer.external_id for customer in await rows(shop, Customer)] == ["c1"]
    assert "desk lamp" in str(models.calls[0].body)  # the customer's own record was before the model


async def test_a_reply_is_streamed_as_the_sdk_reads_it(shop):
    async with client(shop) as sdk:
        stream = await sdk.chat.completions.create(
            model="Alice", messages=ASK, user="c1", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Your desk lamp is good and on its way."
    assert len(chunks) > 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0
    assert chunks[-2].frugal["tier"] == 2  # type: ignore[attr-defined]
    assert len({chunk.id for chunk in chunks}) == 1


async def test_headers_tell_the_same(shop):
    async with client(shop) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model="Alice", messages=ASK, user="c1")
    told = raw.parse().frugal  # type: ignore[attr-defined]
    assert raw.headers["x-frugal-charged"] == told["charged"]
    assert (raw.headers["x-frugal-tier"], raw.headers["x-frugal-score"]) == ("2", "0.9")
    assert raw.headers["x-request-id"]


async def test_the_chatbots_are_the_models(shop):
    async with client(shop) as sdk:
        [found] = [model async for model in sdk.models.list()]
        assert (found.id, found.owned_by) == (str(shop.chatbot_id), "alice")
        assert (await sdk.models.retrieve("Alice")).id == found.id
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("nobody")


async def test_what_was_said_before_is_before_the_models(models, shop):
    before = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "My name is Zebulon."},
        {"role": "assistant", "content": "Hello Zebulon."},
    ]
    async with client(shop) as sdk:
        reply = await sdk.chat.completions.create(model="Alice", messages=before + ASK, user="c1", temperature=0.2)
    assert "Zebulon" in str(models.calls[0].body)
    assert "pirate" not in str(models.calls[0].body)
    assert reply.frugal["ignored"] == ["temperature", "messages[0]"]  # type: ignore[attr-defined]
    assert [message.text for message in await rows(shop, Message)][:3] == [
        "My name is Zebulon.", "Hello Zebulon.", "Where is my order?"
    ]  # fmt: skip


async def test_each_call_is_a_conversation_of_its_own_unless_one_is_named(shop):
    async with client(shop) as sdk:
        first = await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1")
        await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1")
        named = {"conversation_id": first.frugal["conversation_id"]}  # type: ignore[attr-defined]
        again = await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1", metadata=named)
        assert again.frugal["conversation_id"] == named["conversation_id"]  # type: ignore[attr-defined]
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(model="Alice", messages=ASK, user="somebody-else", metadata=named)
    assert len(await rows(shop, Conversation)) == 2


async def test_a_request_that_is_sent_again_is_answered_once(models, shop):
    async with client(shop) as sdk:
        key = {"Idempotency-Key": "once"}
        first, again = [
            await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1", extra_headers=key)
            for _ in range(2)
        ]
        assert (again.id, again.choices) == (first.id, first.choices)
        stream = await sdk.chat.completions.create(
            model="Alice", messages=ASK, user="c1", stream=True, extra_headers=key
        )
        assert {chunk.id async for chunk in stream} == {first.id}
        for other in ([{"role": "user", "content": "Another?"}], [*ASK, {"role": "assistant", "content": "x"}, *ASK]):
            with pytest.raises(openai.UnprocessableEntityError):
                await sdk.chat.completions.create(model="Alice", messages=other, user="c1", extra_headers=key)
    assert len(models.calls) == 2


async def test_what_nobody_can_answer_goes_to_a_person(models, shop):
    models.script("large", Reply("I do not know either."))
    async with client(shop) as sdk:
        reply = await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1")
    assert "colleague" in reply.choices[0].message.content
    assert (reply.frugal["state"], reply.frugal["tier"]) == ("handed_over", None)  # type: ignore[attr-defined]


async def test_who_goes_away_does_not_stop_the_turn(models, shop):
    models.script("small", Reply("All good.", delay=0.5))
    async with client(shop, max_retries=0) as sdk:
        with contextlib.suppress(openai.APITimeoutError):
            await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1", timeout=0.3)
        async with asyncio.timeout(20):
            while not await rows(shop, Turn):  # noqa: ASYNC110 - a row is awaited
                await asyncio.sleep(0.05)
        await turns.drain(20)
    [turn] = await rows(shop, Turn)
    assert turn.state == "answered"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [*ASK, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}, *ASK]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"user": "visitor:1"}, "user"),
        ({"metadata": {"conversation_id": "x"}}, "metadata.conversation_id"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_refused_by_its_name(shop, more, param):
    async with client(shop) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.chat.completions.create(**({"model": "Alice", "messages": ASK, "user": "c1"} | more))
    assert refused.value.param == param


async def test_errors_are_those_that_the_sdk_knows(shop, settings):
    from limits import parse

    async with client(shop, max_retries=0) as sdk:
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.chat.completions.create(model="gpt-6", messages=ASK)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError):
            await sdk.with_options(api_key="wrong").chat.completions.create(model="Alice", messages=ASK)
        settings.RATE_API = parse("1/hour")
        await sdk.models.list()
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="Alice", messages=ASK)
        assert int(limited.value.response.headers["retry-after"]) > 0
    async with client(shop, scopes=["books:read"]) as sdk:
        settings.RATE_API = parse("100/hour")
        with pytest.raises(openai.PermissionDeniedError):
            await sdk.chat.completions.create(model="Alice", messages=ASK)


async def test_a_customer_who_asks_too_often_waits(shop, settings):
    from limits import parse

    settings.RATE_CUSTOMER = parse("1/hour")
    async with client(shop, max_retries=0) as sdk:
        for user in ("c1", "c2"):
            await sdk.chat.completions.create(model="Alice", messages=ASK, user=user)
        with pytest.raises(openai.RateLimitError) as limited:
            await sdk.chat.completions.create(model="Alice", messages=ASK, user="c1")
    assert int(limited.value.response.headers["retry-after"]) > 0


async def test_without_credit_nothing_is_asked_and_the_program_is_told_why(models):
    poor = await in_db(open_shop)("poor", models.base_url, funds="0.000001")
    async with client(poor, max_retries=0) as sdk:
        for stream in (False, True):
            with pytest.raises(openai.APIStatusError) as refused:
                await sdk.chat.completions.create(model="Poor", messages=ASK, user="c1", stream=stream)
            assert (refused.value.status_code, refused.value.code) == (402, "insufficient_quota")
    assert models.calls == []


async def test_another_tenants_chatbot_is_no_model(models, shop):
    charlie = await in_db(open_shop)("charlie", models.base_url)
    async with client(charlie) as sdk:
        for name in (str(shop.chatbot_id), "Alice"):
            with pytest.raises(openai.NotFoundError):
                await sdk.chat.completions.create(model=name, messages=ASK)
