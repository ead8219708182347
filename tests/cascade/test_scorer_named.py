"""Evidence of what an answer says of fields that it names, and of whether it recites the articles."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from cascade.scorer.counterfactuals import misrecited, recitals
from cascade.scorer.evidence import MOST, TOGETHER
from cascade.scorer.rows import row_of
from cascade.scorer.text import read
from cascade.values import Passage, Record
from tests.cascade.scorer_cast import NOW, asks, customer
from tests.cascade.small_scorer import small_rows

TRIP = Record("reservation", "VA5SGQ", NOW, {"insurance": "yes", "total_baggages": 1, "flight": "HAT035"})
OTHER = Record("reservation", "K67C4W", NOW, {"insurance": "no", "total_baggages": 3, "flight": "HAT106"})
EVA = customer("Eva Lind", "Plus", TRIP, OTHER)
RETURNS = Passage(
    "returns", "Returns", "Basic members can return a lamp within 30 days, Plus members within 60 days of delivery."
)
COSTS = Passage("costs", "Costs", "Sending a lamp back is free for Plus members, others pay $5.90 for the parcel.")

CASH = Passage("cash", "Payment", "We do not take cash, cheques or instalments here.")


def told(answer: str, question: str = "How is it with VA5SGQ?", *passages: Passage) -> dict[str, int]:
    """How often each count holds, those that never do left out."""
    found = read(replace(asks(EVA, question), passages=passages), answer).evidence
    counts = zip(TOGETHER, found[-len(TOGETHER) :], strict=True)
    return {name: round(value * MOST) for name, value in counts if value}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("VA5SGQ has travel insurance.", "fits"),
        ("VA5SGQ has no travel insurance.", "clashes"),
        ("Insurance is not included in VA5SGQ.", "clashes"),
    ],
)
def test_a_yes_or_no_is_held_against_the_field_that_is_named(answer, verdict):
    assert {name for name in told(answer) if name.startswith("yes or no")} == {f"yes or no {verdict}"}


@pytest.mark.parametrize(("count", "verdict"), [(1, "fits"), (2, "clashes")])
def test_a_number_is_held_against_the_field_that_counts_what_is_named_beside_it(count, verdict):
    found = told(f"There are {count} checked bags on VA5SGQ.")
    assert {name for name in found if name.startswith("number")} == {f"number {verdict}"}


def test_a_value_of_another_record_than_the_one_named_and_asked_about_is_noticed():
    right, wrong = (told(f"VA5SGQ is flight {number}.", "Is VA5SGQ flight HAT035?") for number in ("HAT035", "HAT106"))
    assert right["said so before"]
    assert not {"said otherwise before", "beside it, rival"} & right.keys()
    assert wrong["said otherwise before"] == wrong["beside it, rival"] == 1


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (RETURNS.text, "recited"),
        ("You can return a lamp within 60 days.", "recited in part"),
        (RETURNS.text.replace("30", "45"), "recited with other figures"),
        ("Your parcel arrives in 3 days, so please stay at home.", "figures not of the articles"),
        ("Somebody will look into this matter for you soon.", "in own words"),
    ],
)
def test_a_sentence_is_held_against_the_articles(answer, verdict):
    found = told(answer, "What is your return policy?", RETURNS, COSTS)
    assert {name for name in found if name in ("in own words", "figures not of the articles") or "recited" in name} == {
        verdict
    }


def test_articles_are_recited_rightly_with_another_figure_and_beside_the_point():
    rows = [row_of(row) for row in small_rows()]
    shown = [replace(row, context=replace(row.context, passages=(RETURNS, COSTS))) for row in rows]
    made = list(recitals(shown, seed=1, every=1))
    assert made == list(recitals(shown, seed=1, every=1))
    for row in made:
        asked = next(each for each in (RETURNS, COSTS) if each.title.lower() in row.context.question)
        assert row.good == (row.answer in asked.text)
    assert {row.negative_type for row in made} == {None, "off_topic", "fact_corrupted"}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (RETURNS.text.replace("30", "60"), "recited in another order"),
        (RETURNS.text.replace("30", "x").replace("60", "30").replace("x", "60"), "recited in another order"),
        (COSTS.text.replace("Plus", "Basic"), "recited with another name"),
        (CASH.text, "recited"),
        (CASH.text.replace("do not take", "take"), "recited denied otherwise"),
    ],
)
def test_a_recital_with_a_figure_moved_a_name_changed_or_a_negation_dropped_is_none(answer, verdict):
    found = told(answer, "How is it?", RETURNS, COSTS, CASH)
    assert {name for name in found if "recited" in name} == {verdict}


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ("There is no doubt that VA5SGQ has travel insurance.", {"fits"}),
        ("Don't worry your travel insurance on VA5SGQ is active.", {"fits"}),
        ("Your travel insurance covers not only illness.", {"fits"}),
        ("You need not add travel insurance.", {"fits"}),
        ("VA5SGQ has travel insurance. It does not have insurance.", {"fits", "clashes"}),
    ],
)
def test_a_negation_that_denies_nothing_is_none_and_every_naming_is_judged(answer, verdicts):
    assert {name for name in told(answer) if name.startswith("yes or no")} == {f"yes or no {each}" for each in verdicts}


def test_made_recitals_go_wrong_in_each_way():
    text = "Basic members return it within 30 days, Plus members within 60. We do not take cash."
    made = list(misrecited(text, random.Random(1)))
    assert [re.findall(r"\d+", each) == ["60", "30"] for each in made] == [False, True, False, False]
    assert sorted(made[2]) == sorted(text)
    assert made[3].endswith("We do take cash.")
    assert text not in made
