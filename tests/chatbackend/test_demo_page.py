"""The demo in Chromium: the same question of two customers, two answers, and a receipt of each."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.urls import path
from playwright.async_api import async_playwright, expect

from accounts.models import Widget
from accounts.tenancy import in_db, in_tenant
from cascade.models import CascadeStrategy, Chatbot, LanguageModel
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat, turns
from chatbackend.consumers import ChatConsumer, answer_with
from chatbackend.demo import tiers
from chatbackend.demo.shop import TENANT_ID
from chatbackend.live import live
from tests.cast import ScriptedScorer
from tests.chatbackend.sockets import running
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
DRAFT = "I am currently holding the order."


def about_the_customer(request: dict[str, Any]) -> str:
    """What a good model would say: the order that the prompt puts before it."""
    known = request["messages"][0]["content"]
    return "It comes well on its way with Swiftway." if "Amira Haddad" in known else "It is being packed, all is well."


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script(tiers.SMALL, Reply(DRAFT))
        server.script(tiers.LARGE, Reply(about_the_customer))
        yield server


def seed(base_url: str) -> None:
    """The demo as it is on a machine that has both models, which here are the scripted ones."""
    call_command("seed_demo", stdout=StringIO())
    LanguageModel.objects.using("owner").exclude(base_url="").update(base_url=base_url)
    step = {"threshold": 0.6, "deadline_seconds": 10, "max_output_tokens": 60}
    with in_tenant(TENANT_ID):
        bot = Chatbot.objects.get()
        bot.live_strategy = CascadeStrategy.objects.create(
            tenant_id=TENANT_ID, chatbot=bot, version=99, deadline_seconds=30,
            tiers=[{"model": name} | step for name in (tiers.SMALL, tiers.LARGE)],
        )  # fmt: skip
        bot.save()


def move_to(port: int) -> None:
    """Where the page really is: its origin and its record source."""
    with in_tenant(TENANT_ID):
        Widget.objects.update(allowed_origins=[f"http://localhost:{port}"])
        Chatbot.objects.update(record_source_url=f"http://127.0.0.1:{port}/demo/records")


@asynccontextmanager
async def demo(models: ModelServer):
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"well": 0.9, "holding": 0.2}))
    door = URLRouter([path("ws/chat/", ChatConsumer.as_asgi(answer=answer_with(lambda: engine)))])
    await in_db(seed)(models.base_url)
    async with running(ProtocolTypeRouter({"http": get_asgi_application(), "websocket": door})) as port:
        await in_db(move_to)(port)
        await live.start()
        try:
            yield f"http://localhost:{port}/"
        finally:
            await turns.drain(5)
            await chat.kept()
            await live.stop()
            await engine.aclose()


async def test_two_customers_ask_the_same_and_each_gets_their_own_answer_with_its_receipt(models):
    async with demo(models) as address, async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(address)
        receipt, log = page.locator("#receipt"), page.get_by_role("log")
        for name, told in (("Amira", "with Swiftway"), ("Mei", "being packed")):
            await page.get_by_text(name).click()
            await page.get_by_role("button", name="Where is my order?").click()
            await page.get_by_label("Your message").press("Enter")
            await expect(log).to_contain_text(told, timeout=60_000)
            await expect(receipt).to_contain_text(f"asked by {name}", timeout=60_000)
            await expect(receipt).to_contain_text(DRAFT)
            await expect(receipt.locator("li.rejected")).to_have_count(1)
            await expect(receipt.locator("li.accepted")).to_contain_text("score 0.900")
            await expect(log).not_to_contain_text(DRAFT)
        await expect(log).not_to_contain_text("Swiftway")  # Amira's conversation stays Amira's
        await browser.close()
