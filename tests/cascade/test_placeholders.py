"""Placeholders are filled from this customer's record, plainly and completely, or there is no reply."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.placeholders import BadPlaceholder, NoValue, fill, placeholders, with_placeholders
from cascade.values import Context, Customer, Record, Utterance

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def order(external_id: str, *, age=timedelta(0), **data) -> Record:
    return Record("order", external_id, NOW - age, data)


def asks(question: str, *records: Record, history=(), **attributes) -> Context:
    return Context(Customer("c1", True, None, attributes, records), question, NOW, history)


def test_profile_and_record_fill_the_text():
    context = asks("Where is my order?", order("A-1", status="shipped", to={"city": "Oslo"}, items=3), name="Amira")
    text = (
        "Hello {{ customer.name }}, order {{order.id}} to {{ order.to.city }} is {{ order.status }}: {{ order.items }}."
    )
    assert fill(text, context, DAY) == "Hello Amira, order A-1 to Oslo is shipped: 3."


@pytest.mark.parametrize(
    ("name", "value"),
    [("order.x", None), ("order.x", ""), ("order.x", "  "), ("order.x", []), ("order.x", {"y": 1}), ("order.x", True),
     ("order.y", "z"), ("order.x.y", "z"), ("plan.x", "z"), ("customer.x", "z"), ("order.x", "z" * 201)],
)  # fmt: skip
def test_a_placeholder_without_a_plain_value_means_no_reply(name, value):
    with pytest.raises(NoValue):
        fill(f"It is {{{{ {name} }}}}.", asks("Where is my order?", order("A-1", x=value)), DAY)


def test_of_several_records_the_one_that_is_named_is_meant_and_else_none():
    own = [order("A-1", item="desk lamp", status="shipped"), order("A-2", item="rug", status="packed")]
    text = "It is {{ order.status }}."
    assert fill(text, asks("Where is my rug?", *own), DAY) == "It is packed."
    assert fill(text, asks("Where is A-1?", *own), DAY) == "It is shipped."
    talk = (Utterance("customer", "I bought a rug"), Utterance("assistant", "Yes?"))
    assert fill(text, asks("Where is it?", *own, history=talk), DAY) == "It is packed."
    for question in ("Where is my order?", "Where are my desk lamp and rug?", "Hello"):
        with pytest.raises(NoValue, match="does not say which"):
            fill(text, asks(question, order("A-1", status="shipped"), order("A-2", status="packed")), DAY)


def test_what_may_be_out_of_date_is_not_told():
    with pytest.raises(NoValue, match="out of date"):
        fill("It is {{ order.status }}.", asks("Where is it?", order("A-1", age=2 * DAY, status="shipped")), DAY)


@pytest.mark.parametrize(
    "text",
    ["{{ order }}", "{{ order.status|upper }}", "{% if x %}", "{{ order.status", "x }} y", "{{ order['x'] }}",
     "{{ order.status() }}", "{{ }}", "{{ order..x }}", "{{{{ order.x }}}}", "{{ 7*7 }}"],
)  # fmt: skip
def test_what_is_no_placeholder_is_refused_and_never_evaluated(text):
    with pytest.raises(BadPlaceholder):
        placeholders(text)


def test_a_value_that_looks_like_a_placeholder_or_has_attributes_is_only_text():
    context = asks("Where is my order?", order("A-1", x="{{ customer.secret }}", y="{% debug %}"), secret="s3cret")
    assert fill("{{ order.x }} {{ order.y }}", context, DAY) == "{{ customer.secret }} {% debug %}"
    for name in ("customer.__class__", "order.x.__len__", "customer.items", "order._x"):
        with pytest.raises(NoValue):
            fill(f"{{{{ {name} }}}}", context, DAY)


@given(st.text(max_size=60))
def test_a_text_without_braces_is_itself(text):
    if "{{" not in text and "}}" not in text and "{%" not in text and "%}" not in text:
        assert fill(text, asks("?"), DAY) == text


def test_an_answer_gives_its_template_and_the_template_the_answer_again():
    context = asks("Where is my order?", order("A-17", status="shipped", carrier="Swiftway"), name="Amira")
    answer = "Amira, order A-17 is shipped with Swiftway."
    template = with_placeholders(answer, context)
    assert template == "{{ customer.name }}, order {{ order.id }} is {{ order.status }} with {{ order.carrier }}."
    assert fill(template, context, DAY) == answer


def test_parts_of_words_are_no_values():
    assert with_placeholders("The shipment ships.", asks("?", order("A-1", status="ship"))) == "The shipment ships."
