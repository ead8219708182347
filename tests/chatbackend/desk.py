"""Somebody of the tenant at a desk: the product's pages in Chromium, logged in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.conf import settings
from playwright.async_api import Browser, BrowserContext, expect

from accounts.tenancy import in_db
from chatbackend.asgi import http
from tests.cast import Shop
from tests.chatbackend.sockets import running
from tests.chatbackend.test_admin import logged_in

DESK = {"width": 1280, "height": 800}
PATIENCE = 60.0  # seconds, on a busy machine
expect.set_options(timeout=PATIENCE * 1000)


@asynccontextmanager
async def pages() -> AsyncIterator[str]:
    """Where they are served."""
    async with running(http) as port:
        yield f"http://localhost:{port}"


async def log_in(browser: Browser, shop: Shop, base: str, role: str = "owner") -> BrowserContext:
    client = await in_db(logged_in)((shop, role))
    context = await browser.new_context(viewport=DESK)
    name = settings.SESSION_COOKIE_NAME
    await context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": base}])
    return context
