"""Every page under axe-core in Chromium: no violation of WCAG level A or AA, and no sideways scrolling on a phone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files

import pytest
from django.contrib.admin import site
from django.urls import reverse
from playwright.async_api import Page, expect

from accounts.tenancy import in_db, in_tenant
from cascade.models import CascadeStrategy, Chatbot, Conversation
from cascade.strategy_proposals import Wish, begin, propose
from chatbackend.empty_lists import EMPTY
from tests.cascade.recorded_turns import recorded_turns
from tests.cast import Shop, open_shop
from tests.chatbackend import test_admin, test_demo_page, test_widget
from tests.chatbackend.desk import DESK, log_in, pages
from tests.chatbackend.test_admin import list_url, row_urls

pytestmark = pytest.mark.usefixtures("database")
chromium, shop, models = test_widget.chromium, test_admin.shop, test_demo_page.models
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
RUN = """async skipped => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa'];
    const found = await axe.run({exclude: skipped}, {runOnly: tags, resultTypes: ['violations']});
    return found.violations.flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 200)}`));
}"""
PHONE = {"width": 390, "height": 844}
SAME_EVERYWHERE = ["#nav-sidebar"]  # looked at on the overview alone
TABS = 2

# Beside the list, a row and the form of each table.
PAGES: dict[str, Callable[[Shop], str]] = {
    "costs": lambda shop: reverse("admin:money"),
    "a draft of a statement": lambda shop: reverse("admin:accounts_statement_draft", args=["2026-10"]),
    "a replay": lambda shop: f"{reverse('admin:cascade_strategy_replay')}?strategy={live_strategy(shop)}",
    "another strategy": lambda shop: f"{list_url(CascadeStrategy)}add/?from={live_strategy(shop)}",
    "what if": lambda shop: found(shop, Wish(prices={"large": 0.5})),
    "the shipped scorer": lambda shop: reverse("admin:cascade_scorer_shipped"),
    "change the password": lambda shop: reverse("admin:password_change"),
}


def live_strategy(shop: Shop) -> str:
    with in_tenant(shop.tenant_id):
        return str(CascadeStrategy.objects.get().id)


def found(shop: Shop, wish: Wish) -> str:
    """The page of a search that found something."""
    recorded_turns(shop, 120, version="")
    with in_tenant(shop.tenant_id):
        chatbot = Chatbot.objects.select_related("live_strategy__chatbot").get()
    done = propose(shop.tenant_id, begin(chatbot, wish, "bob").id)
    assert done.report["lengths"]
    return reverse("admin:cascade_proposal_change", args=[done.id])


def addresses(shop: Shop) -> list[str]:
    found = [address(shop) for address in PAGES.values()]
    for model, page in site._registry.items():
        found += [list_url(model), row_urls(shop, model)[0], *([list_url(model) + "add/"] if page.added_by else [])]
    return found


async def faults(page: Page, skipped: list[str] = []) -> list[str]:  # noqa: B006  is not changed
    """By day at a desk, by night on a phone."""
    await page.evaluate(AXE)
    found = await page.evaluate(RUN, skipped)
    await page.set_viewport_size(PHONE)
    await page.evaluate("document.documentElement.classList.add('dark')")  # as the admin pages do
    found += [f"on a phone, {fault}" for fault in await page.evaluate(RUN, skipped)]
    if (width := await page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
        found.append(f"on a phone, it is {width} wide")
    await page.set_viewport_size(DESK)
    await page.evaluate("document.documentElement.classList.remove('dark')")
    return found


async def test_no_page_of_the_admin_keeps_anybody_out(chromium, shop):
    left, found = await in_db(addresses)(shop), {}
    async with pages() as base:
        context = await log_in(chromium, shop, base)

        async def look(tab: Page) -> None:
            while left:
                address = left.pop()
                await tab.goto(base + address)
                if wrong := await faults(tab, SAME_EVERYWHERE):
                    found[address] = wrong

        tabs = [await context.new_page() for _ in range(TABS)]
        await tabs[0].goto(base + reverse("admin:index"))
        found |= {"overview": wrong} if (wrong := await faults(tabs[0])) else {}
        await asyncio.gather(*map(look, tabs))
    assert found == {}, "\n".join(f"{k}: {v}" for k, v in found.items())


async def press(page: Page, name: str) -> None:
    """By keyboard alone, however many stops it takes."""
    button = page.get_by_role("button", name=name)
    for _ in range(80):
        await page.keyboard.press("Tab")
        if await button.evaluate_all("buttons => buttons.includes(document.activeElement)"):
            await page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name} is not reached")


async def test_menu_account_and_filters_are_opened_by_keyboard(chromium):
    shop = await in_db(open_shop)("alice", "http://127.0.0.1:9/v1")
    async with pages() as base:
        desk = await (await log_in(chromium, shop, base)).new_page()
        await desk.goto(base + reverse("admin:index"))
        await press(desk, "Account")
        await expect(desk.get_by_text("Log out")).to_be_visible()
        await desk.goto(base + list_url(Conversation))
        await press(desk, "Filters")
        await expect(desk.get_by_role("link", name="waiting for a person")).to_be_visible()
        assert await desk.evaluate("document.querySelector('#changelist-filter').contains(document.activeElement)")
        assert await faults(desk) == []
        await desk.set_viewport_size(PHONE)
        await desk.goto(base + reverse("admin:index"))
        await expect(desk.get_by_role("link", name="Conversations")).to_be_hidden()
        await press(desk, "Menu")
        await expect(desk.get_by_role("link", name="Conversations")).to_be_visible()


async def test_nor_do_empty_ones_which_say_what_to_do_next(chromium):
    shop = await in_db(open_shop)("alice", "http://127.0.0.1:9/v1")
    assert set(EMPTY) == {model._meta.model_name for model in site._registry}
    async with pages() as base:
        context = await log_in(chromium, shop, base)
        tab = await context.new_page()
        for model in (m for m in site._registry if m._meta.model_name in ("proposal", "delivery", "feedback")):
            await tab.goto(base + list_url(model))
            told = EMPTY[model._meta.model_name]
            await expect(tab.get_by_role("region", name=told.why)).to_contain_text(told.then)
            assert await faults(tab, SAME_EVERYWHERE) == []


async def test_nor_do_the_shop_its_widget_and_the_way_in(chromium, models):
    found: dict[str, list[str]] = {}

    async def note(name: str, looked: Awaitable[list[str]]) -> None:
        if wrong := await looked:
            found[name] = wrong

    async with test_demo_page.demo(models) as address:
        page = await chromium.new_page(viewport=DESK)
        await page.goto(address)
        await note("the shop", faults(page))
        await page.get_by_text("Amira").click()
        await page.get_by_role("button", name="Where is my order?").click()
        await page.get_by_label("Your message").press("Enter")
        await expect(page.locator("#receipt li.accepted")).to_be_visible()
        await note("the widget, open, and a receipt", faults(page))
        await page.goto(address + "admin/login/")
        await note("the login page", faults(page))
    assert found == {}, "\n".join(f"{k}: {v}" for k, v in found.items())
