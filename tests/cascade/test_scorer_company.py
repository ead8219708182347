"""Evidence of how an answer's facts hold together: what stands somewhere in the records, and not where it is said."""

from __future__ import annotations

import pytest

from cascade.scorer.evidence import MOST, SIZE, TOGETHER
from cascade.scorer.text import read
from cascade.values import Record
from tests.cascade.scorer_cast import CARLA, NOW, asks, customer

FLIGHTS = [
    {"number": "HAT035", "origin": "DTW", "destination": "PHX", "date": "2026-05-17", "price": 353.0},
    {"number": "HAT066", "origin": "PHX", "destination": "LGA", "date": "2026-05-19", "price": 184.5},
]
TRIP = Record("reservation", "VA5SGQ", NOW, {"cabin": "economy", "flights": FLIGHTS})
OTHER = {"number": "HAT106", "origin": "PHX", "destination": "DTW", "date": "2026-06-20", "price": 99.25}
LATER = Record("reservation", "K67C4W", NOW, {"cabin": "business", "flights": [OTHER]})
EVA = customer("Eva Lind", "Plus", TRIP, LATER)


def together(answer: str, who=EVA, question: str = "Which flights do I have?") -> dict[str, int]:
    """How often each count holds, those that never do left out."""
    found = read(asks(who, question), answer).evidence
    assert len(found) == SIZE
    counts = zip(TOGETHER, found[-len(TOGETHER) :], strict=True)
    return {name: round(value * MOST) for name, value in counts if value}


def clashes(found: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in found.items() if name.startswith("clash of")}


def test_facts_of_one_object_agree():
    found = together("You fly from DTW to PHX on May 17 with HAT035, for $353.")
    assert not clashes(found)
    assert found["agrees with several"] == 5


@pytest.mark.parametrize(
    ("answer", "clash"),
    [
        ("You fly from DTW to PHX on June 20 with HAT035, for $353.", "clash of known date"),
        ("You fly from DTW to PHX on June 21 with HAT035, for $353.", "clash of unknown date"),
        ("You fly from DTW to PHX on May 17 with HAT035, for $184.50.", "clash of known money"),  # of the same booking
        ("You fly from DTW to PHX on May 17 with HAT106, for $353.", "clash of known id"),
    ],
)
def test_a_fact_that_its_neighbours_object_holds_differently_is_a_clash(answer, clash):
    assert clashes(together(answer)) == {clash: 1}


def test_a_single_fact_of_another_record_is_strayed_into_and_a_record_that_is_told_is_not():
    told = "Reservation VA5SGQ: HAT035 on May 17, HAT066 on May 19."
    strayed = together(told.replace("May 19", "June 20"))
    both = together(told + "\nReservation K67C4W: HAT106 on June 20.")
    assert (strayed["stray"], strayed["stray rival"], strayed["isolated"]) == (1, 1, 1)
    assert "stray" not in both
    assert both["second"] == 3
    assert "stray" not in together(told)


def test_what_an_answer_leaves_out_of_an_object_is_counted():
    whole = together("HAT035 goes from DTW to PHX on May 17 for $353.")
    part = together("HAT035 goes from DTW on May 17.")
    assert "left out of that one" not in whole
    assert part["left out of that one"] == 2


def test_an_id_that_is_named_twice_is_counted():
    assert together("I see VA5SGQ and K67C4W.").get("id said again") is None
    assert together("I see VA5SGQ, K67C4W and VA5SGQ.")["id said again"] == 1


def test_amounts_that_follow_from_others_are_told_from_those_that_do_not():
    adding = together("HAT035 is $353 and HAT066 is $184.50, in total $537.50.")
    wrong = together("HAT035 is $353 and HAT066 is $184.50, in total $538.50.")
    less = together("That is $168.50 less than before.")  # 353 less 184.50
    assert (adding["adds up"], adding["follows from others"]) == (1, 1)
    assert wrong["follows from nothing"] == 1
    assert "adds up" not in wrong
    assert less["follows from others"] == 1


def test_two_orders_of_a_customer_are_not_mixed_up():
    right = together("The Desk Lamp Fin in order T-5101 cost $42.50.", CARLA)
    wrong = together("The Desk Lamp Fin in order T-5101 cost $35.00.", CARLA)
    assert "stray rival" not in right
    assert wrong["stray rival"] == wrong["rival money"] == 1


def test_noon_and_midnight_are_times():
    opening = Record("booking", "B-77", NOW, {"from": "12:00", "to": "00:00"})
    kept = read(asks(customer("Jo Falk", "Basic", opening), "When?"), "From noon to midnight, booking B-77.")
    assert "quoted A:from" in kept.terms
    assert "quoted A:to" in kept.terms
