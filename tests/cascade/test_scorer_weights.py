"""The weights that ship fit their manifest, know a shop's right answer from its wrong one, and read the customer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from cascade.scorer import head
from cascade.scorer import model as network
from cascade.scorer.manifest import FILES, read
from cascade.scorer.text import blanked
from cascade.values import Record
from tests.cascade.scorer_cast import NOW, OWN_RECORD, PAIRS, RETURNS, asks, customer
from tests.cascade.small_scorer import small_rows

SHIPPED = Path(network.__file__).parent / "weights"
PAID = {"status": "delivered", "items": [{"name": "Alder Pendant Lamp", "price": "$76.00"}], "total": "$76.00"}
DIEGO = customer("Diego Sanz", "Basic", Record("order", "T-5230", NOW, PAID | {"paid_with": "gift card"}))


@pytest.fixture(scope="module")
def parts():
    return *network.load(SHIPPED), head.load(SHIPPED), read(SHIPPED)


@pytest.fixture(scope="module")
def score(parts):
    model, tokenizer, joined, manifest = parts

    def of(*asked) -> list[float]:
        readings = [network.reading(tokenizer, *each, manifest.window) for each in asked]
        return head.logits(model, joined, readings)

    return of


def test_the_folder_is_small_whole_and_described():
    manifest = read(SHIPPED)
    assert sum((SHIPPED / name).stat().st_size for name in FILES) < 50_000_000
    assert (SHIPPED / "MODEL_CARD.md").read_text().count(manifest.version) >= 1


def test_the_figures_of_the_manifest_are_those_promised():
    figures = read(SHIPPED).metrics
    reported, blind = figures["all of validation"]["auc"], figures["reported half, blind"]["auc"]
    assert reported["right_answer_wrong_user"] >= 0.97
    assert reported["needs_policy"] >= 0.80
    assert blind["right_answer_wrong_user"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.answer)
def test_an_answer_scores_higher_for_the_customer_it_is_true_of(score, pair):
    right, wrong = score((asks(pair.right, pair.question), pair.answer), (asks(pair.wrong, pair.question), pair.answer))
    assert right > wrong


@pytest.mark.parametrize(("who", "question", "right", "wrong"), OWN_RECORD, ids=lambda value: str(value)[:30])
def test_the_customers_own_other_order_is_not_good_enough(score, who, question, right, wrong):
    good, bad = score((asks(who, question), right), (asks(who, question), wrong))
    assert good > bad


def test_blind_it_cannot_tell_whose_answer_it_is(score):
    for pair in PAIRS:
        right = blanked(asks(pair.right, pair.question)), pair.answer
        wrong = blanked(asks(pair.wrong, pair.question)), pair.answer
        first, second = score(right, wrong)
        assert first == pytest.approx(second, abs=1e-4)


def test_the_command_prints_one_object_with_every_slice(tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in small_rows()))
    call_command("evaluate_scorer", data=[data], split="train", weights=SHIPPED, json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 40
    assert set(found) == {"rows", "auc", "ece", "weights"}
    assert found["auc"]["needs_lookup"] > 0.9
    assert found["auc"]["own_record"] is None


def test_the_command_says_which_line_is_no_row(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"id": 1}\n')
    with pytest.raises(CommandError, match="line 1"):
        call_command("evaluate_scorer", data=[data], weights=SHIPPED)


@pytest.mark.parametrize("question", ["Can I change my order?", "Is my order insured?"])
def test_a_true_sentence_beside_the_point_is_put_before_the_network_and_loses_by_it(parts, question):
    model, tokenizer, joined, manifest = parts
    answer = "Your order T-5230 was paid with gift card, total $76.00."
    reading = network.reading(tokenizer, asks(DIEGO, question, RETURNS), answer, manifest.window)
    looked_up = joined.trees.logits([reading.evidence], [reading.terms])[0]
    assert looked_up > head.SURE
    assert head.is_open(looked_up, reading)
    assert manifest.calibration.probability(head.logits(model, joined, [reading])[0]) < 0.9
