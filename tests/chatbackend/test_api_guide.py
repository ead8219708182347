"""docs/api.md: its examples run as they stand, in order, against a live server; and what it promises a new user."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from pathlib import Path

import httpx
import openai
import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from standardwebhooks import Webhook as Verifier

from accounts.tenancy import in_db
from cascade.models import Turn
from tests.api_cast import Program
from tests.cast import open_shop
from tests.chatbackend.doors import serving
from tests.chatbackend.test_tasks import work
from tests.hook_server import HookServer
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
GUIDE = (Path(settings.BASE_DIR) / "docs/api.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("*", Reply("Your desk lamp is good and on its way."))
        yield server


def script() -> str:
    """The blocks as one program, which stops at the first that fails."""
    told = [body if kind == "bash" else f"{sys.executable} - <<'END'\n{body}END\n" for kind, body in BLOCKS]
    return "set -euo pipefail\n" + "\n".join(told)


async def test_the_examples_run_as_they_stand(models):
    shop = await in_db(open_shop)("alice", models.base_url)
    out = io.StringIO()
    await in_db(call_command)("create_api_key", "alice", "docs", stdout=out)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    async with serving() as address:
        models_named = {"SMALL": "small", "LARGE": "large"}
        environment = os.environ | {"API": address, "KEY": out.getvalue().strip(), "PATH": path} | models_named
        running = await asyncio.create_subprocess_exec(
            "bash", "-c", script(), env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await running.communicate()
    assert running.returncode == 0, told.decode()[-3000:]
    assert told.decode().count("Your desk lamp is good") >= 2
    assert shop.tenant_id


def test_every_resource_has_an_example():
    from tests.chatbackend.test_api_rights import TABLE

    resources = {route.split("/")[0] for route in TABLE}
    commands = "\n".join(body for kind, body in BLOCKS if kind == "bash")
    assert {name for name in resources if f"/api/v1/{name}" not in commands} == set()


async def test_from_a_key_alone_to_a_bill(models):
    """A chatbot, a thousand customers, a chat, its cost, a signed webhook: all through the doors."""
    await in_db(open_shop)("alice", models.base_url)
    secret = (await in_db(lambda: Program(open_shop("newcomer", models.base_url)))()).secret
    with HookServer() as hook:
        async with (
            serving() as address,
            httpx.AsyncClient(
                base_url=f"{address}/api/v1/", headers={"Authorization": f"Bearer {secret}"}, timeout=None
            ) as api,
        ):
            made = (await api.post("chatbots", json={"name": "Helper", "instructions": "Answer."})).json()
            tier = {"model": "small", "threshold": 0.5, "deadline_seconds": 10, "max_output_tokens": 100}
            strategy = {"chatbot": made["id"], "tiers": [tier], "deadline_seconds": 20}
            version = (await api.post("strategies", json=strategy)).json()["id"]
            assert (await api.post(f"strategies/{version}/promote")).status_code == 200
            told = {"url": hook.url, "events": ["reply.accepted", "export.ready"]}
            signing = (await api.post("webhooks", json=told)).json()["secret"]
            customers = [{"external_id": f"c{n}", "attributes": {"name": f"Customer {n}"}} for n in range(1000)]
            assert (await api.post("customers/bulk", json={"customers": customers})).json()["created"] == 1000
            async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=secret, timeout=None) as sdk:
                question = [{"role": "user", "content": "Where is my order?"}]
                reply = await sdk.chat.completions.create(model="Helper", messages=question, user="c7")
            costs = (await api.get("usage", params={"by": "customer"})).json()["results"]
            assert [(row["key"], row["charged"]) for row in costs] == [("c7", reply.frugal["charged"])]  # type: ignore[attr-defined]
            assert float(costs[0]["charged"]) > 0
            entries = (await api.get("ledger", params={"kind": "charge"})).json()["results"]
            assert [entry["turn_id"] for entry in entries] == [reply.frugal["turn_id"]]  # type: ignore[attr-defined]
            month = f"{timezone.now():%Y-%m}"
            export = (await api.post("exports", json={"format": "csv", "first": month, "last": month})).json()["id"]
            assert set((await in_db(work)()).values()) == {"succeeded"}
            await in_db(work)()
            file = (await api.get(f"exports/{export}/file")).text
            assert reply.frugal["turn_id"] in file  # type: ignore[attr-defined]
        events = [Verifier(signing).verify(body, headers) for headers, body in hook.received]
    assert sorted(event["type"] for event in events) == ["export.ready", "reply.accepted"]
    assert [event["data"].get("customer_external_id") for event in events if event["type"] == "reply.accepted"] == [
        "c7"
    ]
    assert reply.frugal["state"] == Turn.State.ANSWERED  # type: ignore[attr-defined]
