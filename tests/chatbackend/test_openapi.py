"""The REST API does what its own description says, whatever is sent to it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

from accounts import webhooks
from accounts.tenancy import in_db
from chatbackend.settings import VAR
from tests.api_cast import Program
from tests.cast import Shop, open_shop
from tests.chatbackend.doors import serving
from tests.chatbackend.test_admin import converse


def test_the_description_is_valid_and_has_no_warning():
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(Path(VAR) / "openapi.yaml"))


def untyped(schema: Any, place: str) -> list[str]:
    """Fields of which the description does not say what they are."""
    if isinstance(schema, list):
        return [found for inner in schema for found in untyped(inner, place)]
    if not isinstance(schema, dict):
        return []
    found = [
        f"{place}.{name}"
        for name, field in schema.get("properties", {}).items()
        if not field.keys() & {"type", "$ref", "allOf", "oneOf", "anyOf", "enum"}
    ]
    return found + [deeper for name, inner in schema.items() for deeper in untyped(inner, f"{place}.{name}")]


def test_the_description_has_no_untyped_field():
    described = SchemaGenerator().get_schema(request=None, public=True)
    assert len(described["paths"]) > 40
    assert untyped(described, "") == []
    parameters = [p for path in described["paths"].values() for op in path.values() for p in op.get("parameters", ())]
    assert all("type" in parameter["schema"] or "$ref" in parameter["schema"] for parameter in parameters)


def something_of_everything() -> tuple[Shop, Program]:
    shop = open_shop("alice", "http://127.0.0.1:9/v1")
    converse(shop, "c1")
    webhooks.create(shop.tenant_id, "https://a.example/hook", ["statement.closed"])
    return shop, Program(shop)


async def schemathesis(address: str, secret: str, *more: str) -> tuple[int, str]:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/api/v1/openapi.json", "--no-color"),
        *("--header", f"Authorization: Bearer {secret}", "--checks", "all", "--continue-on-failure", *more),
        *(
            "--generation-allow-x00",
            "false",
        ),  # inside objects of the sender's own making, 3.0 cannot say so; refused all the same
    ]
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=VAR
    )
    told, _ = await running.communicate()
    return running.returncode or 0, told.decode()


def every_third_operation() -> list[str]:
    """As options; all of them take minutes and are tried by `make bench`."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    names = sorted(operation["operationId"] for path in paths.values() for operation in path.values())
    return [option for name in names[::3] for option in ("--include-operation-id", name)]


@pytest.mark.usefixtures("database")
async def test_schemathesis_finds_nothing(settings):
    """Fifteen examples an operation, the same ones every time, of every third operation."""
    settings.RATE_API = None
    _, program = await in_db(something_of_everything)()
    few = ("--phases", "fuzzing", "--max-examples", "15", "--seed", "7", *every_third_operation())
    async with serving() as address:
        status, told = await schemathesis(address, program.secret, *few)
    assert status == 0, told
