"""The OpenAI-compatible door: an application that knows OpenAI's API becomes frugal by changing its base URL.

The same flow as behind the socket (`chat.answer`), with other frames. The caller is a tenant's program, so it is told
what a customer is not: the tier that answered, its score, what was charged, why there is no answer. Here are only the
views; what is read of a request and how an answer is put stands in `openai_wire`. As everywhere, who goes away does not
stop a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid5

from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt
from uuid_utils.compat import uuid7

from accounts import limits
from accounts.api_keys import ApiCaller, InvalidApiKey, authenticate_api_key
from accounts.auth import Caller
from accounts.identity import VISITOR_PREFIX
from accounts.models import Customer, Tenant
from accounts.permissions import CHAT
from accounts.rest.counting import count
from accounts.rest.views import REQUEST_ID
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Chatbot
from cascade.runner import Engine
from chatbackend import chat, openai_wire, turns
from chatbackend.openai_wire import ApiError, Asked, Outcome
from chatbackend.protocol import Frame, Send
from chatbackend.reporting import report

Frames = AsyncIterator[Frame]


def patterns(engine: Callable[[], Engine]) -> list[URLPattern]:
    """The addresses below /v1/; `engine` is made when the first turn needs it."""

    async def completions(request: HttpRequest) -> HttpResponseBase:
        return await guarded(request, "POST", lambda caller: complete(request, caller, engine()))

    async def models(request: HttpRequest, name: str = "") -> HttpResponseBase:
        return await guarded(request, "GET", lambda caller: list_models(caller, name))

    async def nowhere(request: HttpRequest) -> HttpResponseBase:
        return JsonResponse(ApiError(404, "unknown_url", "this address is not offered here").told, status=404)

    return [
        path("chat/completions", csrf_exempt(completions)),
        path("models", csrf_exempt(models)),
        path("models/<str:name>", csrf_exempt(models)),
        re_path("", csrf_exempt(nowhere)),
    ]


async def guarded(request: HttpRequest, method: str, answer: Callable[[ApiCaller], Any]) -> HttpResponseBase:
    """Let in by an API key with the scope `chat`; whatever goes wrong is told in OpenAI's words."""
    headers = {"X-Request-ID": _request_id(request)}
    try:
        if request.method != method:
            raise ApiError(405, "method_not_allowed", f"only {method} is offered here")
        caller = await in_db(_caller)(request)
        fits, left = await asyncio.to_thread(count, caller.tenant_id, f"key:{caller.key_id}")
        headers |= left
        if not fits:
            raise ApiError(429, "rate_limit_exceeded", "too many requests", kind="rate_limit_error")
        response: HttpResponseBase = await answer(caller)
    except ApiError as error:
        response = JsonResponse(error.told, status=error.status, headers=error.headers)
    except Exception as problem:
        report(problem)
        response = JsonResponse(ApiError(500, "internal_error", "something went wrong").told, status=500)
    for name, value in headers.items():
        response[name] = value
    return response


def _caller(request: HttpRequest) -> ApiCaller:
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    try:
        caller = authenticate_api_key(secret.strip() if kind.lower() == "bearer" else "")
    except InvalidApiKey as error:
        raise ApiError(401, "invalid_api_key", str(error), kind="authentication_error") from None
    if CHAT not in caller.scopes:
        raise ApiError(403, "insufficient_scope", "the API key needs the scope chat", kind="permission_error")
    return caller


def _request_id(request: HttpRequest) -> str:
    told = request.headers.get("X-Request-ID", "")
    return told if REQUEST_ID.fullmatch(told) else str(uuid7())


# --- the chatbots, as models ----------------------------------------------------------------


async def list_models(caller: ApiCaller, name: str) -> JsonResponse:
    """All chatbots, or the one of this id or name."""
    if name:
        return JsonResponse(await in_db(_described)(caller, name))
    return JsonResponse({"object": "list", "data": await in_db(_all_described)(caller)})


def _described(caller: ApiCaller, name: str) -> dict[str, Any]:
    with in_tenant(caller.tenant_id):
        return openai_wire.model(_chatbot(name), Tenant.objects.get().slug)


def _all_described(caller: ApiCaller) -> list[dict[str, Any]]:
    with in_tenant(caller.tenant_id):
        slug = Tenant.objects.get().slug
        return [openai_wire.model(bot, slug) for bot in Chatbot.objects.order_by("created_at")[: Chatbot.MOST]]


def _chatbot(name: str) -> Chatbot:
    """By id, or by a name that one alone has. In the tenant's transaction."""
    try:
        found = list(Chatbot.objects.filter(id=UUID(name)))
    except ValueError:
        found = list(Chatbot.objects.filter(name=name)[:2]) if "\0" not in name else []
    if len(found) != 1:
        told = "more than one chatbot is called" if found else "there is no chatbot"
        raise ApiError(404, "model_not_found", f"{told} {name[:100]}", param="model")
    return found[0]


# --- an answer --------------------------------------------------------------------------------


async def complete(request: HttpRequest, caller: ApiCaller, engine: Engine) -> HttpResponseBase:
    asked = openai_wire.read(request.body, request.headers.get("Idempotency-Key"))
    customer, send = await in_db(_prepare)(caller, asked)
    await _limited(customer, known=bool(asked.user))
    running = _Running(customer, send, engine)
    first = await running.first()  # until there is a text, or none: so that what went wrong has its own status
    if asked.stream and first is not None:
        stream = _stream(running, first, asked)
        return StreamingHttpResponse(stream, content_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    await running.ended()
    outcome = await in_db(openai_wire.outcome)(caller.tenant_id, running.turn_id, running.problem)
    if asked.stream:  # a message that was sent before, or one that a person will answer
        told = openai_wire.chunks_of(outcome, asked)
        return StreamingHttpResponse(_all(told), content_type="text/event-stream")
    return JsonResponse(openai_wire.completion(outcome, asked), headers=openai_wire.headers(outcome))


async def _limited(customer: Caller, *, known: bool) -> None:
    """By customer and tenant as everywhere; the address is the tenant's own server's, so it says nothing."""
    try:
        customer_id = customer.customer_id if known else None
        await asyncio.to_thread(limits.message, customer.tenant_id, customer_id, "")
    except limits.RateLimited as refused:
        after = {"Retry-After": str(refused.retry_after)}
        raise ApiError(429, "rate_limit_exceeded", str(refused), kind="rate_limit_error", headers=after) from None


def _prepare(caller: ApiCaller, asked: Asked) -> tuple[Caller, Send]:
    """Who asks, and where: in the conversation that is named, else in one of its own, after the given history."""
    with in_tenant(caller.tenant_id):
        chatbot = _chatbot(asked.model)
        name = asked.user or f"{VISITOR_PREFIX}key-{caller.key_id}"
        customer, _ = Customer.objects.get_or_create(
            tenant_id=caller.tenant_id, external_id=name, defaults={"verified": bool(asked.user)}
        )
        who = Caller(caller.tenant_id, chatbot.widget_id, customer.id, name, bool(asked.user), None, None)
        wanted = asked.conversation_id or uuid5(customer.id, asked.client_id)
        if asked.conversation_id is None and not conversations.begin(who, wanted, asked.history):
            raise ApiError(422, "idempotency_key_reused", "the Idempotency-Key was used for another request")
    return who, Send(asked.client_id, str(wanted), asked.text)


class _Running:
    """A turn that runs to its end whoever listens; its frames wait here."""

    def __init__(self, caller: Caller, send: Send, engine: Engine) -> None:
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.conversation_id = UUID(send.conversation_id or "")
        self.turn_id: UUID | None = None  # None: there is none, or not yet
        self.tenant_id = caller.tenant_id
        self.problem = ""  # the code of what refused it
        self.words = self._words()
        self._task = turns.start(self._run(caller, send, engine), str(self.conversation_id))

    async def _run(self, caller: Caller, send: Send, engine: Engine) -> None:
        try:
            async with aclosing(chat.answer(caller, send, engine=engine)) as frames:
                async for frame in frames:
                    self._note(frame)
                    self._frames.put_nowait(frame)
        finally:
            self._frames.put_nowait(None)

    def _note(self, frame: Frame) -> None:
        if frame.event == "ack":
            self.turn_id = UUID(frame.data["turn_id"])
        elif frame.event == "problem":
            self.problem = frame.data["code"]

    async def first(self) -> str | None:
        """The first words of the answer; None: it ended without any."""
        return await anext(self.words, None)

    async def _words(self) -> AsyncGenerator[str]:
        """What the answer says, as it comes."""
        while (frame := await self._frames.get()) is not None:
            if frame.event == "stream.chunk" and frame.data["type"] == "text-delta":
                yield frame.data["delta"]

    async def ended(self) -> None:
        await asyncio.wait([self._task])


async def _stream(running: _Running, first: str, asked: Asked) -> AsyncGenerator[bytes]:
    yield openai_wire.opening(running.turn_id, asked)
    yield openai_wire.delta(running.turn_id, asked, first)
    async for words in running.words:
        yield openai_wire.delta(running.turn_id, asked, words)
    await running.ended()
    try:
        outcome: Outcome = await in_db(openai_wire.outcome)(running.tenant_id, running.turn_id, running.problem)
        for chunk in openai_wire.closing(outcome, asked):
            yield chunk
    except ApiError as error:
        yield openai_wire.event(error.told)


async def _all(chunks: list[bytes]) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk
