"""The published description of the socket is held to the code, and the code to the description."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from accounts.tenancy import in_db
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from chatbackend import parsing, protocol
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.sockets import at_door, is_reply, serving, typed
from tests.chatbackend.test_protocol import valid_frames
from tests.model_server import ModelServer, Reply

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
EXAMPLES = [(name, example["payload"]) for name, message in MESSAGES.items() for example in message["examples"]]


def validate(name: str, frame: dict[str, Any]) -> None:
    schema = DOCUMENT | {"$ref": f"#/components/messages/{name}/payload"}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(frame)


def names(operation: str) -> set[str]:
    return {message["$ref"].rsplit("/", 1)[1] for message in DOCUMENT["operations"][operation]["messages"]}


def test_every_type_event_and_code_stands_in_both():
    assert names("hear") == set(parsing.TYPES)
    assert names("say") == set(protocol.EVENTS)
    assert set(MESSAGES) == set(DOCUMENT["channels"]["chat"]["messages"]) == names("hear") | names("say")
    assert DOCUMENT["components"]["schemas"]["ProblemCode"]["enum"] == list(protocol.PROBLEMS)


def test_every_reference_leads_somewhere():
    for reference in re.findall(r"\$ref: '#/([^']+)'", (DOCS / "asyncapi.yaml").read_text()):
        place = DOCUMENT
        for part in reference.split("/"):
            place = place[part]


def test_the_guide_names_every_type_event_code_and_close_code():
    guide = (DOCS / "protocol.md").read_text()
    closes = [str(value) for name, value in vars(protocol).items() if name.startswith("CLOSE_")]
    for word in (*parsing.TYPES, *protocol.EVENTS, *protocol.PROBLEMS, *closes):
        assert f"`{word}`" in guide, word


@pytest.mark.parametrize(("name", "frame"), EXAMPLES)
def test_the_examples_are_valid_and_those_of_clients_parse(name, frame):
    validate(name, frame)
    if "type" in frame:
        parsing.parse_frame(json.dumps(frame))


@settings(max_examples=60, deadline=None)
@given(valid_frames())
def test_what_the_code_accepts_the_description_allows(frame):
    validate(frame["type"], frame)


@pytest.mark.parametrize("name", parsing.TYPES)
def test_a_field_nobody_knows_is_refused_by_both(name):
    frame = next(payload for named, payload in EXAMPLES if named == name)
    for wrong in (frame | {"more": 1}, frame | {"data": frame.get("data", {}) | {"more": 1}}):
        with pytest.raises(protocol.ProtocolError):
            parsing.parse_frame(json.dumps(wrong))
        with pytest.raises(jsonschema.ValidationError):
            validate(name, wrong)


async def test_whatever_a_real_server_says_is_as_described(database):
    """A reply, a hand-over, a page, a resync, a problem, a pong: every event there is."""
    with ModelServer() as models:
        shop = await in_db(open_shop)("alice", models.base_url)
        models.script("*", Reply("Your desk lamp is good."), Reply("Your desk lamp is bad."))
        engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, ScriptedScorer({"good": 0.9, "bad": 0.1}))
        async with serving(engine) as address, at_door(address, shop) as client, at_door(address, shop) as tab:
            await client.ask()
            await client.send("feedback.set", message_id=client.received[-1]["data"]["id"], rating=1)
            await client.send("history.list")
            await client.next("history.page")
            await client.send("session.resume", last_seq=10**6)
            await client.next("resync.required")
            await typed(tab, client)
            await client.send("ping", "two words")
            await client.next("problem")
            await client.send("ping")
            await client.send("message.send", text="And where is the other one?")
            await client.next("handoff.updated")
            assert any(is_reply(frame) for frame in client.received)
            await client.quiet(0.1)
    assert {frame["event"] for frame in client.received} == set(protocol.EVENTS)
    for frame in client.received:
        validate(frame["event"], frame)
