"""Every address of the product, and a web server around them; answers are judged by a scripted scorer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from django.test import override_settings
from django.urls import include, path

from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat, openai_api, turns
from chatbackend.asgi import http
from chatbackend.body_limit import limited
from chatbackend.live import live
from chatbackend.urls import urlpatterns as usual
from tests.cast import ScriptedScorer
from tests.chatbackend.sockets import running


def engine() -> Engine:
    return Engine({"openai": OpenAIProvider("key")}, ScriptedScorer({"good": 0.9, "excellent": 0.8}))


urlpatterns = [path("v1/", include(openai_api.patterns(engine))), *usual]


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[str]:
    """The product's address."""
    with override_settings(ROOT_URLCONF=__name__):
        async with running(limited(http), **options) as port:
            await live.start()
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                await turns.drain(5)
                await chat.kept()
                await live.stop()
