"""Takes the pictures of the docs anew, of the demo with some weeks behind it.

    python -m bench.screenshots [--into docs/screenshots]

The demo is started as `make run` starts it, with its local models. Its past is made up: two months of turns with
scores, ratings and charges. What is asked in the pictures is asked in the widget, answered and judged for real, so
words and figures differ from run to run. Takes a few minutes. Look at what comes out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from bench.stage import ROOT, database, wait_for

PORT = 8765
HOME = f"http://localhost:{PORT}"
TURNS, WEEKS = 420, 8
COSTS = {"qwen2.5-coder-0.5b-instruct": 40, "qwen2.5-coder-1.5b-instruct": 130}  # micro-dollars a call
DESK, PHONE = (1280, 800), (390, 844)
PLAIN, SHADED = Image.Quantize.MAXCOVERAGE, Image.Quantize.MEDIANCUT  # rare colours are kept, or shadows smooth
PATIENCE = 180_000  # milliseconds; an old machine needs most of a minute for an answer

# Each picture: the page, how large, and whether all of it is shown however long it is.
PAGES = {
    "overview": ("/admin/", DESK, True),
    "overview-phone": ("/admin/", PHONE, False),
    "inbox": ("/admin/cascade/conversation/", DESK, False),
    "money": ("/admin/money/", DESK, True),
    "memory": ("/admin/cascade/rememberedanswer/", DESK, False),
}
ASKED = [
    ("Tunde", "How long is my warranty?"),
    ("Diego", "Can I still return my lamp?"),
    ("Amira", "Where is my order?"),
    ("Mei", "How long is my warranty?"),
]


# --- the demo, and its past ---------------------------------------------------------------------


@contextmanager
def demo(var: Path) -> Iterator[None]:
    """What `make run` starts, on a database that this process can write to as well."""
    os.environ |= {"WEB_PORT": str(PORT), "MODELS_ROOT": str(ROOT / "var/models")}
    with database(var), subprocess.Popen([sys.executable, "manage.py", "run"], cwd=ROOT) as process:
        try:
            wait_for(f"{HOME}/healthz", 300)
            yield
        finally:
            process.terminate()
            process.wait()


def make_up_a_past() -> None:
    from django.conf import settings
    from django.db.models import OuterRef, Subquery

    from accounts.models import Customer
    from accounts.tenancy import in_tenant
    from cascade.models import Chatbot, Conversation, Message, Turn
    from cascade.scorer import manifest
    from chatbackend.demo.shop import TENANT_ID
    from tests.cascade.recorded_turns import recorded_turns
    from tests.cast import Shop

    with in_tenant(TENANT_ID):
        chatbot = Chatbot.objects.select_related("widget").get()
        Chatbot.objects.update(explored_share=0.05, explored_micros_a_day=100_000)
    version = manifest.read(settings.SCORER_WEIGHTS).version
    shop = Shop(TENANT_ID, chatbot.id, chatbot.widget.id, chatbot.widget.public_key, "", "")
    turns = recorded_turns(
        shop, TURNS, threshold=0.9, over=timedelta(weeks=WEEKS), costs=COSTS, rated=0.3, version=version
    )
    charge(shop, [turn.id for turn in turns])
    with in_tenant(TENANT_ID):
        latest = Turn.objects.filter(conversation=OuterRef("pk")).order_by("-created_at").values("created_at")[:1]
        Conversation.objects.update(updated_at=Subquery(latest))
        Message.objects.filter(text="?").update(text="What does it cost?")
        for number, customer in enumerate(Customer.objects.filter(conversations__turns__in=turns).distinct(), 1):
            customer.attributes["name"] = f"Customer {number}"
            customer.save()


def charge(shop, turn_ids) -> None:
    """Each turn's calls on the books, on the day on which they were made."""
    from accounts import ledger
    from accounts.budgets import Spender
    from accounts.models import Tenant
    from accounts.money import Money
    from accounts.tenancy import in_tenant
    from cascade.conversations.calls import charge as charged
    from cascade.models import ModelCall, Turn
    from tests.accounts.books import tamper

    with in_tenant(shop.tenant_id):
        assert Tenant.objects.get().time_zone == "UTC"
        turns = list(Turn.objects.filter(id__in=turn_ids).select_related("conversation"))
        calls = ModelCall.objects.filter(turn__in=turn_ids).exclude(outcome="explored").order_by("turn", "number")
        for turn in turns:
            made = list(calls.filter(turn=turn).select_related("turn__conversation"))
            dearest = Money(COSTS["qwen2.5-coder-1.5b-instruct"])
            spender = Spender(shop.chatbot_id, turn.conversation.customer_id, "")
            ledger.hold(shop.tenant_id, turn.id, Money(5_000), spender)
            ledger.settle(
                shop.tenant_id, turn.id, [charged(call, dearest if call is made[-1] else Money(0)) for call in made]
            )
    moved = (
        "UPDATE accounts_{0} e SET created_at = t.created_at, period = date_trunc('month', t.created_at)"
        " FROM cascade_turn t WHERE t.id = e.turn_id"
    )
    tamper(shop.tenant_id, moved.format("ledgerentry"), moved.format("hold"))


# --- the pictures -------------------------------------------------------------------------------


def ask(page: Page, who: str, question: str) -> None:
    """As this customer, until the receipt says how the answer was made."""
    page.get_by_text(who).first.click()
    page.wait_for_timeout(1000)  # for the widget to know who asks
    box = page.get_by_label("Your message")
    if not box.is_visible():
        page.get_by_role("button", name="Open chat").click()
    box.fill(question)
    box.press("Enter")
    expect(page.locator("#receipt")).to_contain_text(f"asked by {who}", timeout=PATIENCE)
    expect(page.locator("#receipt .total")).to_be_visible(timeout=PATIENCE)


def log_in(context: BrowserContext) -> Page:
    from chatbackend.demo.seeding import LOGIN, PASSWORD

    page = context.new_page()
    page.goto(f"{HOME}/admin/login/")
    page.fill("[name=username]", LOGIN)
    page.fill("[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")
    return page


def search(page: Page) -> None:
    """For a better strategy, by the button."""
    page.goto(f"{HOME}/admin/cascade/proposal/")
    page.get_by_role("button", name="Search the last 90 days").click()
    expect(page.get_by_role("heading", name="Quality against cost")).to_be_visible(timeout=PATIENCE)


def keep(page: Page, into: Path, name: str, *, whole: bool = False, palette: Image.Quantize = PLAIN) -> None:
    """In 256 colours: a third of the size, and the eye sees no difference."""
    page.wait_for_timeout(500)  # for what moves in
    picture = Image.open(BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    few = picture.quantize(256, palette, dither=Image.Dither.NONE)
    few.save(into / f"{name}.png", optimize=True)
    print(f"{name}.png  {(into / f'{name}.png').stat().st_size // 1000} kB", flush=True)


def take(context: BrowserContext, into: Path) -> None:
    shop = context.new_page()
    shop.goto(HOME)
    for who, question in ASKED:
        ask(shop, who, question)
    keep(shop, into, "demo", palette=SHADED)
    desk = log_in(context)
    desk.set_viewport_size({"width": DESK[0], "height": 930})  # down to the frontier
    search(desk)
    keep(desk, into, "proposal")
    desk.goto(f"{HOME}/admin/cascade/conversation/")
    desk.get_by_role("link", name="Diego").first.click()
    keep(desk, into, "conversation", whole=True)
    for name, (address, (width, height), whole) in PAGES.items():
        desk.set_viewport_size({"width": width, "height": height})
        desk.goto(HOME + address)
        keep(desk, into, name, whole=whole)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--into", type=Path, default=ROOT / "docs/screenshots")
    into = arguments.parse_args().into
    with tempfile.TemporaryDirectory() as var, demo(Path(var)):
        make_up_a_past()
        with sync_playwright() as playwright:
            found = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            take(browser.new_context(viewport={"width": DESK[0], "height": DESK[1]}), into)
            browser.close()


if __name__ == "__main__":
    main()
