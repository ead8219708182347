"""What memory may give again: to whom, how sure it must be, and what its weights know."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import given
from hypothesis import strategies as st

from cascade.context import Instructions
from cascade.embedder import SIZE
from cascade.leaning import whole_question
from cascade.memory import bound, judge, scope
from cascade.memory.checking import say_the_same
from cascade.memory.scope import Scope
from cascade.values import Context, Customer, Passage, Record, Utterance

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SHOP = Instructions("Northwind", "Be kind.")
RETURNS = Passage("returns", "Returns", "Returns are free for 30 days.")
QUESTION = "What is your return policy?"


def context(**attributes) -> Context:
    order = Record("order", "A-1", NOW, {"item": "desk lamp", "total": "$49.00"})
    customer = Customer("c1", True, attributes={"name": "Ann Miller"} | attributes, records=(order,))
    return Context(customer, QUESTION, NOW, passages=(RETURNS,))


def scope_of(answer: str, general: float = 0.99, question: str = QUESTION, **attributes) -> Scope:
    return scope.scope(context(**attributes), question, answer, general, SHOP)


# --- for whom ---------------------------------------------------------------------------------


def test_an_answer_that_says_what_an_article_says_is_for_everybody():
    assert scope_of("Returns are free for 30 days.") is Scope.EVERYBODY


@pytest.mark.parametrize(
    "answer",
    [
        "Your desk lamp can go back.",
        "Ann Miller, returns are free for 30 days.",
        "Returns are free, A-1 too.",
        "You get $49.00 back.",
        "Returns are free until 2026-12-22.",
        "Returns are free for 45 days.",
    ],
)
def test_an_answer_with_a_fact_that_no_article_holds_is_for_this_customer_alone(answer):
    assert scope_of(answer) is Scope.CUSTOMER


def test_doubt_about_the_question_means_this_customer_alone():
    assert scope_of("Returns are free for 30 days.", general=0.89) is Scope.CUSTOMER
    assert scope_of("Returns are free.", question="May 1234567 go back?") is Scope.CUSTOMER


def test_an_answer_that_names_the_segment_stays_in_it():
    assert scope_of("As a Platinum member you return for free.", segment="Platinum") is Scope.SEGMENT


def test_an_answer_that_takes_up_what_was_said_is_for_who_said_it():
    rules = Passage("returns", "Returns", "In France 14 days, in Norway 30 days.")
    said = (Utterance("customer", "I live in Norway."), Utterance("assistant", "How nice!"))
    before, after = (replace(context(), passages=(rules,), history=history) for history in ((), said))
    answer = "In Norway you have 30 days."
    assert scope.scope(before, QUESTION, answer, 0.99, SHOP) is Scope.EVERYBODY
    assert scope.scope(after, QUESTION, answer, 0.99, SHOP) is Scope.CUSTOMER


def test_customers_for_whom_the_articles_have_other_rules_share_no_answers():
    rules = Passage("returns", "Returns", "30 days; with the plan Plus 60 days; VIPs whenever they like.")

    def rests_on(**attributes) -> str:
        return scope.basis(replace(context(**attributes), passages=(rules,)), SHOP, Scope.EVERYBODY)

    assert rests_on(plan="Basic") == rests_on(plan="Standard", city="Oslo")
    assert rests_on(plan="Plus") == rests_on(plan="Plus", city="Oslo")
    assert len({rests_on(plan="Basic"), rests_on(plan="Plus"), rests_on(vips=True)}) == 3


@pytest.mark.parametrize(
    ("article", "instructions"),
    [(f"{'Send it back. ' * 100}With the plan Plus 60 days.", "Be kind."), ("30 days.", "Plus members have 60 days.")],
)
def test_a_rule_counts_wherever_it_stands(article, instructions):
    shop = Instructions("Northwind", instructions)

    def rests_on(plan: str) -> str:
        known = replace(context(plan=plan), passages=(Passage("returns", "Returns", article),))
        return scope.basis(known, shop, Scope.EVERYBODY)

    assert rests_on("Basic") == rests_on("Standard") != rests_on("Plus")


def test_a_question_that_leans_on_what_was_said_is_remembered_with_it():
    said = (Utterance("customer", "Do you sell lamps?"), Utterance("assistant", "Yes."))
    assert whole_question("How long does it take?", said) == "Do you sell lamps? How long does it take?"
    assert whole_question(QUESTION, said) == QUESTION


# --- how sure ---------------------------------------------------------------------------------


def test_in_19_of_20_samples_the_share_of_wrong_hits_stays_within_the_bound():
    """Hits whose chance of being wrong falls with their confidence, drawn again and again."""
    chance, broken = random.Random(7), 0

    def wrong_above(least: float) -> float:
        """The true share, of hits that are spread evenly over the confidences."""
        return (1 - min(least, 1)) / 4

    for _ in range(200):
        drawn = [(c, chance.random() < (1 - c) / 2) for c in (chance.random() for _ in range(2000))]
        broken += wrong_above(bound.threshold(drawn, 0.05)) > 0.05
    assert broken <= 20  # 10 are expected; more than 20 have odds of one in a thousand


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=400), st.sampled_from([0.01, 0.05]))
def test_no_threshold_is_given_before_enough_hits_were_right(observed, tolerated):
    least = bound.threshold(observed, tolerated)
    above = [was_wrong for confidence, was_wrong in observed if confidence >= least]
    assert least == bound.NEVER or len(above) >= bound.fewest(tolerated)
    assert sum(above) <= tolerated * len(above)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_checks_only_ever_raise_the_threshold(checks):
    assert bound.raised(checks, 0.01, 0.5) >= 0.5


def test_checks_that_refute_the_bound_raise_the_threshold_until_what_is_left_may_be_chance():
    checks = [(0.95, True), (0.96, True), *((0.99, False) for _ in range(20))]
    assert bound.raised(checks, 0.01, 0.9) == 0.96
    assert bound.raised(checks[1:], 0.01, 0.9) == 0.9


def test_stored_answers_that_say_something_else_speak_against_the_best():
    agreeing = judge.surest([0.9, 0.8], lambda i, j: True)
    disagreeing = judge.surest([0.9, 0.8], lambda i, j: False)
    assert agreeing[0] == disagreeing[0] == 0
    assert agreeing[1] == pytest.approx(0.9)
    assert disagreeing[1] < 0.7


def test_a_question_among_those_that_are_somebodys_own_is_doubted():
    shipped, meanings = judge.load(), np.eye(2, SIZE)
    among = replace(shipped, known=shipped._directions(meanings), owned=np.array([1.0, 0.0])).around(meanings)
    assert among[0][1] > 0.9
    assert among[1][1] < 0.1


def test_two_answers_say_the_same_only_with_the_same_figures():
    assert say_the_same("Free for 30 days.", "It is free for 30 days.", 0.9)
    assert not say_the_same("Free for 30 days.", "Free for 14 days.", 0.99)
    assert not say_the_same("Free for 30 days.", "We are open on Sundays.", 0.2)


# --- weights ------------------------------------------------------------------------------------


def test_weights_that_are_not_those_of_the_manifest_are_not_used(tmp_path):
    shutil.copytree(judge.WEIGHTS, tmp_path / "w")
    (tmp_path / "w" / judge.FILE).write_bytes(b"other")
    with pytest.raises(judge.UnfitMemory, match="not the file"):
        judge.load(tmp_path / "w")


def test_the_shipped_weights_prove_the_default_bound():
    assert judge.load().threshold(0.01) < 1


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labelled(folder, name: str, intents: int):
    def question(i: int, n: int) -> dict:
        personal = i % 2 == 0
        text = f"Where is my thing {i} {'x' * n}?" if personal else f"How do you sell item {i} {'y' * n}?"
        return {"id": f"{name}{i}-{n}", "text": text, "intent": f"i{i}", "personal": personal}

    questions = [question(i, n) for i in range(intents) for n in range(4)]
    pairs = [
        {"q1": a["text"], "q2": b["text"], "same_question": a["intent"] == b["intent"], "personal1": a["personal"],
         "personal2": b["personal"], "label": a["intent"] == b["intent"] and not a["personal"],
         "pair_type": "same_personal" if a["intent"] == b["intent"] and a["personal"] else "random"}
        for a, b in pairwise(questions)
    ]  # fmt: skip
    return write(folder / f"{name}.questions", questions), write(folder / f"{name}.pairs", pairs)


def evaluate(questions, pairs, held_questions, held_pairs) -> dict:
    told = StringIO()
    files = (
        "--train-questions",
        questions,
        "--train-pairs",
        pairs,
        "--questions",
        held_questions,
        "--pairs",
        held_pairs,
    )
    call_command("evaluate_cache", *map(str, files), "--json", stdout=told)
    return json.loads(told.getvalue())


def test_evaluate_cache_measures_on_any_files_with_the_columns(tmp_path):
    found = evaluate(*labelled(tmp_path, "train", 24), *labelled(tmp_path, "held", 12))
    assert set(found) == {"personal", "may_serve", "hit_share", "wrong_hit_share", "n"}
    assert set(found["personal"]) == {"all", "unseen", "twins"}
    assert set(found["may_serve"]) == {"all", "same_personal"}
    assert found["personal"]["all"] > 0.9


def test_a_file_without_the_columns_is_named(tmp_path):
    questions, pairs = labelled(tmp_path, "train", 4)
    broken = write(tmp_path / "broken", [{"id": "1", "text": "Hi"}])
    with pytest.raises(CommandError, match="broken, line 1 has no 'intent'"):
        evaluate(broken, pairs, questions, pairs)
