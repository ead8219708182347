"""The widget in Chromium, on a page of another origin than its script: by keyboard, and as a screen reader has it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path
from playwright.async_api import Page, async_playwright, expect

from accounts.models import Customer, Widget
from accounts.tenancy import in_db, in_tenant
from cascade.models import Feedback, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import chat, hints, turns
from chatbackend.consumers import ChatConsumer, answer_with
from chatbackend.live import live
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.sockets import running, signed
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
SCRIPT = Path(__file__).parents[2] / "chatbackend/static/widget.js"
ANSWER = "Your desk lamp is good <img src=x onerror=alert(1)> and it comes on Wednesday."
POLICY = b"script-src 'self' 'unsafe-inline' http://localhost:*; style-src 'none'; object-src 'none'"


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply(ANSWER))
        yield server


@pytest.fixture
def alice(models):
    return open_shop("alice", models.base_url)


@pytest.fixture
async def chromium():
    """The system's, else Playwright's own."""
    async with async_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def shop_page(shop, models, head: str = "", identities: Sequence[str] = ()):
    """The address of a page on the shop's own site, whose script comes from the chat's.

    With `identities`, the site has an address that gives one after the other.
    """
    key, left = shop.widget_key, iter(identities)
    identity_url = 'data-identity-url="/identity"' if identities else ""
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9, "well": 0.9}))
    door = URLRouter([path("ws/chat/", ChatConsumer.as_asgi(answer=answer_with(lambda: engine)))])

    async def site(scope, receive, send):
        port = scope["server"][1]
        html = f"""<!doctype html><html lang=en><title>Shop</title><h1>Shop</h1><script>{head}</script>
            <script src="http://localhost:{port}/widget.js" data-key="{key}" {identity_url} defer></script>"""
        match scope["path"]:
            case "/widget.js":
                kind, body = b"text/javascript", SCRIPT.read_bytes()
            case "/identity":
                kind, body = b"application/json", json.dumps({"jwt": next(left)}).encode()
            case _:
                kind, body = b"text/html", html.encode()
        headers = [(b"content-type", kind), (b"content-security-policy", POLICY)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with running(ProtocolTypeRouter({"http": site, "websocket": door})) as port:
        address = f"http://127.0.0.1:{port}"
        await in_db(allow)(shop, address)
        await live.start()
        try:
            yield address
        finally:
            await turns.drain(5)
            await chat.kept()
            await live.stop()
            await engine.aclose()


def allow(shop, origin):
    with in_tenant(shop.tenant_id):
        Widget.objects.update(allowed_origins=[origin])


def rows(shop, model):
    with in_tenant(shop.tenant_id):
        return list(model.objects.order_by("created_at"))


async def open_by_keyboard(page: Page, address: str) -> None:
    await page.goto(address)
    await expect(page.get_by_role("button", name="Open chat")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Your message")).to_be_focused()


async def ask(page: Page, text: str) -> None:
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def test_a_conversation_by_keyboard_alone(chromium, alice, models):
    async with shop_page(alice, models) as address:
        page = await chromium.new_page()
        alerts: list[str] = []
        page.on("dialog", lambda dialog: alerts.append(dialog.message))
        await open_by_keyboard(page, address)
        await ask(page, "Where is my order?")
        log = page.get_by_role("log", name="Messages")
        await expect(log).to_contain_text("You: Where is my order?")
        await expect(log).to_contain_text(f"Assistant: {ANSWER}")  # markup is text
        assert alerts == []
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Enter")  # the last of the reply's buttons
        await expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
        await until(lambda: [feedback.rating for feedback in rows(alice, Feedback)] == [-1])
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(page.get_by_role("button", name="Open chat")).to_be_focused()


async def test_what_a_screen_reader_has(chromium, alice, models):
    async with shop_page(alice, models) as address:
        page = await chromium.new_page()
        await open_by_keyboard(page, address)
        await ask(page, "Hello")
        await expect(page.get_by_role("button", name="Good answer")).to_be_visible()
        tree = await page.get_by_role("dialog", name="Chat").aria_snapshot()
        for wanted in (
            'dialog "Chat"', 'heading "Chat"', 'button "Close chat"', 'log "Messages"', 'group "Was this helpful?"',
            'textbox "Your message"', 'button "Send"', "status",
        ):  # fmt: skip
            assert wanted in tree
        log = page.get_by_role("log")
        assert await log.get_attribute("aria-live") == "polite"
        await expect(log).to_have_attribute("aria-busy", "false")
        await expect(page.get_by_role("button", name="Open chat")).to_have_attribute("aria-expanded", "true")


async def test_a_signed_in_customer_then_another(chromium, alice, models):
    ada, bob = await signed(alice, "ada"), await signed(alice, "bob")
    models.script("small", Reply(text=lambda body: "well, Ada" if "Customer ada" in str(body) else "well, Bob"))
    for external_id in ("ada", "bob"):
        await in_db(alice.caller)(external_id)
    async with shop_page(alice, models, f"window.frugalchat = {{identity: async () => '{ada}'}}") as address:
        page = await chromium.new_page()
        await open_by_keyboard(page, address)
        await ask(page, "Who am I?")
        log = page.get_by_role("log")
        await expect(log).to_contain_text("well, Ada")
        await page.evaluate("jwt => window.frugalchat.identify(jwt)", bob)
        await expect(log).not_to_contain_text("Ada")
        await ask(page, "Who am I?")
        await expect(log).to_contain_text("well, Bob")
        await expect(log).not_to_contain_text("Ada")


async def test_an_identity_that_is_refused_is_asked_for_again(chromium, alice, models):
    async with shop_page(alice, models, identities=["an.expired.one", await signed(alice, "ada")]) as address:
        page = await chromium.new_page()
        await open_by_keyboard(page, address)
        await ask(page, "Where is my order?")
        await expect(page.get_by_role("log")).to_contain_text(ANSWER, timeout=10_000)
    assert [customer.external_id for customer in await in_db(rows)(alice, Customer)] == ["ada"]


async def test_a_reply_is_stopped(chromium, alice, models):
    models.script("small", Reply("good " * 100, pace=0.1))
    async with shop_page(alice, models) as address:
        page = await chromium.new_page()
        await open_by_keyboard(page, address)
        await ask(page, "Hello")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        await page.get_by_role("button", name="Stop").click()
        await expect(page.get_by_role("status")).to_contain_text("Stopped.")
        await until(lambda: [turn.state for turn in rows(alice, Turn)] == ["cancelled"])


async def test_a_visitor_whose_line_breaks_in_mid_answer_gets_it_once_and_is_the_same_after_a_reload(
    chromium, alice, models
):
    models.script("small", Reply("good " * 8 + "end.", pace=0.1))
    async with shop_page(alice, models) as address:
        page = await chromium.new_page()
        await page.add_init_script(
            "const W = WebSocket; window.lines = [];"
            "window.WebSocket = class extends W { constructor(...a) { super(...a); lines.push(this); } }"
        )
        await open_by_keyboard(page, address)
        await ask(page, "Hello")
        await asyncio.to_thread(models.wait_until, lambda: models.calls)
        await page.evaluate("lines.at(-1).close()")
        log = page.get_by_role("log")
        await expect(log).to_contain_text("Assistant: " + "good " * 8 + "end.", timeout=10_000)
        assert (await log.inner_text()).count("end.") == 1
        assert await page.evaluate("lines.length") == 2
        await page.reload()
        await page.get_by_role("button", name="Open chat").click()
        await expect(log).to_contain_text("end.")
        assert len(await in_db(rows)(alice, Turn)) == len(models.calls) == 1


async def told(page: Page, event: str, count: int) -> list[dict]:
    """The frames of this kind, once there are so many."""
    async with asyncio.timeout(20):
        while len(frames := await page.evaluate("event => told.filter(frame => frame.event === event)", event)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return frames


async def test_staff_is_seen_typing_and_the_customer_by_others_but_never_by_another_tab_of_theirs(
    chromium, alice, models
):
    ada = await signed(alice, "ada")
    async with shop_page(alice, models, f"window.frugalchat = {{identity: async () => '{ada}'}}") as address:
        page, tab = await chromium.new_page(), await chromium.new_page()
        for each in (page, tab):
            await each.add_init_script(
                "window.told = []; addEventListener('frugalchat:frame', e => told.push(e.detail))"
            )
            await open_by_keyboard(each, address)
            await told(each, "ack", 1)
        line = page.get_by_text("Staff is typing")
        conversation_id = await page.evaluate("told[0].conversation_id")

        await asyncio.sleep(1)  # it may not be listening yet
        await hints.tell_typing(conversation_id, "staff", True, "the staff's")
        await expect(line).to_be_visible()
        await hints.tell_typing(conversation_id, "staff", False, "the staff's")
        await expect(line).to_be_hidden()

        await tab.keyboard.type("Where is")
        await told(page, "typing", 3)
        await tab.keyboard.press("Enter")
        assert [frame["data"]["on"] for frame in await told(page, "typing", 4)][2:] == [True, False]
        await expect(line).to_be_hidden()


async def test_on_a_phone_the_panel_is_the_whole_screen(chromium, alice, models):
    async with shop_page(alice, models) as address:
        page = await chromium.new_page(viewport={"width": 360, "height": 640})
        await open_by_keyboard(page, address)
        box = await page.get_by_role("dialog").bounding_box()
        assert (round(box["width"]), round(box["height"])) == (360, 640)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_on_a_foreign_site_it_says_that_it_is_not_available(chromium, alice, models):
    async with shop_page(alice, models) as address:
        await in_db(allow)(alice, "https://elsewhere.example")
        page = await chromium.new_page()
        await open_by_keyboard(page, address)
        await expect(page.get_by_role("status")).to_contain_text("not available here")


async def until(happened, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not await in_db(happened)():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
