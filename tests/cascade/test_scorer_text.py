"""What the scorer takes in: facts in one canonical form, each with where it stands; for the network, words alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.scorer.case import Case
from cascade.scorer.lexing import LONGEST_TEXT, lex
from cascade.scorer.text import blanked, read
from cascade.values import Context, Customer, Record, Utterance
from tests.cascade.scorer_cast import ANNA, BEN, CARLA, NOW, PAIRS, RETURNS, asks


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$1,200.00", "1200"),
        ("March 8th", "2026-03-08"),
        ("8 March 2026", "03/08/2026"),
        ("tomorrow", "March 11"),
        ("6:30 pm", "18:30"),
        ("order #W4316152", "order w4316152"),
        ("two bags", "2 bags"),
        ("the customer's lamp", "the customer lamps"),
    ],
)
def test_one_fact_has_one_form(one, other):
    assert [x.value for x in lex(one, NOW)] == [x.value for x in lex(other, NOW)]


def places(context: Context, answer: str) -> dict[str, list[str]]:
    """Where each fact of an answer stands."""
    case = Case(context, answer)
    said = (" ".join(x.value for x in case.answer[fact.start : fact.end]) for fact in case.facts)
    return dict(zip(said, case.places(), strict=True))


def test_a_fact_is_told_with_where_it_stands():
    answer = "Your order T-5012 came to $59.00, not $61.00."
    own, foreign = places(asks(ANNA, "How much?"), answer), places(asks(BEN, "How much?"), answer)
    assert own["59"] == ["A"]
    assert own["61"][0] in ("absent", "contradicted")
    assert foreign["59"][0] in ("absent", "contradicted")


def test_a_fact_of_the_customers_other_record_is_seen_as_swapped():
    right = places(asks(CARLA, "What did it cost?"), "Order T-5101 cost $42.50.")
    wrong = places(asks(CARLA, "What did it cost?"), "Order T-5101 cost $35.00.")
    assert right["42.5"] == ["A"]
    assert wrong["35"] == ["swapped", "B"]


def test_a_rule_of_the_tenant_is_seen_as_policy():
    found = places(asks(ANNA, "How long can I return it?", RETURNS), "You can return it within 30 days.")
    assert found["30"] == ["policy"]


def test_the_network_reads_the_same_whoever_asks():
    for pair in PAIRS:
        asked = [asks(who, pair.question) for who in (ANNA, BEN, CARLA)]
        assert len({read(each, pair.answer)[:2] for each in (*asked, blanked(asked[0]))}) == 1


def test_nobody_can_write_a_mark_of_the_tokenizer():
    found = read(asks(ANNA, "[SEP] hello [CLS]"), "[MASK] hello [PAD]")
    assert (found.asked, found.answered) == ("(SEP) hello (CLS)", "(MASK) hello (PAD)")


@pytest.mark.parametrize(
    "poison",
    ["a" * 10_000, "1" * 10_000, "$" * 10_000, "a@" * 32_000, "\ud800" * 5_000, "ﷺ" * 20_000, "1,1" * 20_000,
     "May 1 " * 10_000, "\n" * 65_536, "1-" * 30_000, "a.b@c." * 10_000, "\u0000" * 65_536],
)  # fmt: skip
def test_poison_is_read_in_time(poison):
    customer = replace(CARLA, attributes={"name": poison[:20_000], poison[:50]: {"deep": [[[[[[[[poison[:100]]]]]]]]]}})
    context = Context(customer, poison, NOW, (Utterance("customer", poison),) * 4, passages=(RETURNS,))
    started = time.process_time()
    found = read(context, poison)
    assert time.process_time() - started < 60  # runaway work alone takes minutes
    for text in (found.asked, found.answered):
        assert len(text) <= 2 * LONGEST_TEXT
        text.encode()


def test_a_customer_with_very_much_data_is_read_in_time():
    rows = [{"n": i, "name": f"Thing {i}", "price": f"${i}.00"} for i in range(5_000)]
    customer = Customer("c", True, None, {}, tuple(Record("order", f"O-{i}", NOW, {"items": rows}) for i in range(100)))
    started = time.process_time()
    read(Context(customer, "Where?", NOW), "Thing 1 costs $1.00. " * 300)
    assert time.process_time() - started < 60


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    attributes=st.dictionaries(st.text(max_size=10), json_values, max_size=4),
    data=st.dictionaries(st.text(max_size=10), json_values, max_size=4),
    question=st.text(max_size=200),
    answer=st.text(max_size=300),
)
def test_any_json_and_any_text_can_be_read(attributes, data, question, answer):
    customer = Customer("c", False, None, attributes, (Record("order", question[:20], NOW, data),))
    found = read(Context(customer, question, NOW), answer)
    assert found == read(Context(customer, question, NOW), answer)
