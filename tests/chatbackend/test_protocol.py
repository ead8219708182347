"""Frames: everything that is not one whole, valid frame is refused with a code, and nothing else is raised."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbackend import chunks, parsing, protocol
from chatbackend.chunks import pieces
from chatbackend.parsing import parse_frame
from chatbackend.protocol import Frame, ProtocolError, to_wire

ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
uuids = st.none() | st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300)
spoken = texts.filter(str.strip)
DATA = {
    "auth": st.fixed_dictionaries({"widget_key": ids}, optional={"jwt": st.none() | ids, "visitor": st.none() | ids}),
    "message.send": st.fixed_dictionaries({"text": spoken}),
    "stream.cancel": st.builds(dict),
    "session.resume": st.fixed_dictionaries({"last_seq": st.integers(0, protocol.SAFE_INTEGER)}),
    "history.list": st.fixed_dictionaries(
        {}, optional={"before_seq": st.none() | st.integers(1, protocol.SAFE_INTEGER), "limit": st.integers(1, 100)}
    ),
    "feedback.set": st.fixed_dictionaries(
        {"message_id": st.uuids().map(str), "rating": st.sampled_from([-1, 1])}, optional={"comment": texts}
    ),
    "typing": st.fixed_dictionaries({"on": st.booleans()}),
    "ping": st.builds(dict),
}


@st.composite
def valid_frames(draw):
    type = draw(st.sampled_from(parsing.TYPES))
    return {"v": 1, "id": draw(ids), "type": type, "conversation_id": draw(uuids), "data": draw(DATA[type])}


def refusal(frame) -> tuple[str, str]:
    with pytest.raises(ProtocolError) as refused:
        parse_frame(frame if isinstance(frame, str) else json.dumps(frame))
    return refused.value.code, refused.value.pointer


def test_every_type_of_frame_is_tried_here():
    assert set(DATA) == set(parsing.TYPES)


@given(valid_frames())
def test_a_valid_frame_comes_through_whole(frame):
    parsed = parse_frame(json.dumps(frame))
    said = {field.name: getattr(parsed, field.name) for field in fields(parsed)}
    assert said.items() >= {"id": frame["id"], "conversation_id": frame["conversation_id"], **frame["data"]}.items()


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_nothing_but_a_protocol_error_is_ever_raised(text):
    with pytest.raises(ProtocolError):
        parse_frame(text)


@given(valid_frames(), st.data())
def test_a_frame_with_anything_changed_parses_or_is_refused_with_a_known_code(frame, data):
    where = data.draw(st.sampled_from([frame, frame["data"]]))
    anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({})
    where[data.draw(st.sampled_from([*where, "more"]))] = data.draw(anything)
    refused = None
    try:
        parse_frame(json.dumps(frame))
    except ProtocolError as error:
        refused = error
    assert refused is None or to_wire(protocol.refusal(refused))


def send(**changes):
    return {"v": 1, "id": "c1", "type": "message.send", "data": {"text": "Hi"}} | changes


@pytest.mark.parametrize(
    ("frame", "code", "pointer"),
    [
        ("", "invalid_json", ""),
        ("[" * 60_000, "invalid_json", ""),
        ("9" * 60_000, "invalid_json", ""),
        ('{"v":NaN}', "invalid_json", ""),
        ('{"v":1,"v":1}', "invalid_json", ""),
        ('{"a":' * 9 + "1" + "}" * 9, "invalid_json", ""),
        ([], "invalid_json", ""),
        (send(v=2), "unsupported_version", "/v"),
        (send(v=True), "unsupported_version", "/v"),
        (send(type="shout"), "unknown_type", "/type"),
        (send(more=1), "invalid_frame", "/more"),
        (send(**{"a/b~": 1}), "invalid_frame", "/a~1b~0"),
        (send(id=""), "invalid_frame", "/id"),
        (send(id="x" * 65), "invalid_frame", "/id"),
        (send(id="two words"), "invalid_frame", "/id"),
        (send(id=7), "invalid_frame", "/id"),
        (send(conversation_id="mine"), "invalid_frame", "/conversation_id"),
        (send(data=None), "invalid_frame", "/data"),
        (send(data={}), "invalid_frame", "/data/text"),
        (send(data={"text": "Hi", "html": ""}), "invalid_frame", "/data/html"),
        (send(data={"text": " \n"}), "invalid_frame", "/data/text"),
        (send(data={"text": 5}), "invalid_frame", "/data/text"),
        (send(data={"text": "a\0b"}), "invalid_frame", "/data/text"),
        (send(data={"text": "\ud800"}), "invalid_frame", "/data/text"),
        (send(data={"text": "x" * 8001}), "message_too_long", "/data/text"),
        (send(type="session.resume", data={"last_seq": -1}), "invalid_frame", "/data/last_seq"),
        (send(type="session.resume", data={"last_seq": True}), "invalid_frame", "/data/last_seq"),
        (send(type="session.resume", data={"last_seq": 1.0}), "invalid_frame", "/data/last_seq"),
        (send(type="session.resume", data={"last_seq": 2**53}), "invalid_frame", "/data/last_seq"),
        (send(type="history.list", data={"limit": 101}), "invalid_frame", "/data/limit"),
        (send(type="typing", data={"on": 1}), "invalid_frame", "/data/on"),
        (send(type="feedback.set", data={"message_id": "x", "rating": 1}), "invalid_frame", "/data/message_id"),
    ],
)
def test_what_is_wrong_is_pointed_at(frame, code, pointer):
    assert refusal(frame) == (code, pointer)


def test_a_rating_is_up_or_down():
    message_id = "019aaf00-0000-7000-8000-000000000000"
    for rating in (0, 2, -2, True, None):
        frame = send(type="feedback.set", data={"message_id": message_id, "rating": rating})
        assert refusal(frame) == ("invalid_frame", "/data/rating")


def test_a_message_of_8000_characters_is_not_too_long():
    assert parse_frame(json.dumps(send(data={"text": "🧑‍🚀"[0] * 8000}))).text == "🧑" * 8000


def test_a_refusal_answers_the_frame_whose_id_could_be_read():
    with pytest.raises(ProtocolError) as refused:
        parse_frame(json.dumps(send(data={})))
    frame = protocol.refusal(refused.value)
    assert frame.reply_to == "c1"
    assert frame.data["errors"] == [{"pointer": "/data/text", "detail": "is missing"}]
    assert (frame.data["code"], frame.data["status"]) == ("invalid_frame", 422)


@given(texts, st.none() | st.integers(1, protocol.SAFE_INTEGER))
def test_a_frame_is_one_json_object_on_the_wire(text, seq):
    frame = Frame("stream.chunk", chunks.text_delta("t0", text), seq, "c", "m", "r")
    wire = json.loads(to_wire(frame))
    assert list(wire) == ["v", "seq", "event", "conversation_id", "message_id", "reply_to", "data"]
    assert (wire["seq"], wire["data"]["delta"]) == (seq, text)


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab \n\u0301\u200d🧑🚀👩🏽ר中e-."), max_size=400) | texts, st.integers(1, 40))
def test_pieces_make_up_the_text_and_cut_no_grapheme(text, most):
    cut = pieces(text, most)
    assert "".join(cut) == text
    assert len(cut) <= most
    assert all(cut)
    graphemes = regex.findall(r"\X", text)
    ends = {sum(map(len, graphemes[: i + 1])) for i in range(len(graphemes))}
    assert all(sum(map(len, cut[: i + 1])) in ends for i in range(len(cut)))


def test_pieces_are_words():
    assert pieces("Your order is on its way. ") == ["Your ", "order ", "is ", "on ", "its ", "way. "]
    assert pieces("") == []
