"""A cascade is measured on questions it was not fitted on, from question and answer alone."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from cascade.evaluation import METHODS, evaluate
from cascade.learning.finals import Alikeness, final
from cascade.learning.records import read
from cascade.learning.table import BadTable

MODELS = (("small", 0.55, 1e-5), ("medium", 0.7, 4e-5), ("large", 0.85, 1e-3))


def rows(count, seed):
    """Sums; a wrong answer is off by some, and a model that guesses says so at length."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        a, b = (int(n) for n in chance.integers(1, 90, 2))
        for model, skill, cost in MODELS:
            right = chance.random() < skill
            said = a + b if right else a + b + int(chance.integers(1, 9))
            hedge = "" if right or chance.random() < 0.3 else "It may be about this, but wait. "
            yield {
                "source": "sums", "task": "plus", "question_id": str(number), "question": f"What is {a} and {b}?",
                "model": model, "answer": f"{hedge}The answer is {said}.", "quality": float(right), "usd_cost": cost,
            }  # fmt: skip


def written(path, lines):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def files(folder):
    return [written(folder / f"{seed}.jsonl.gz", list(rows(160, seed))) for seed in (1, 2)]


@pytest.fixture(scope="module")
def found(files):
    return evaluate(*map(read, files))


def test_every_method_is_measured_on_the_same_questions(found):
    told = found.as_json()
    assert told["questions"] == 160
    assert [each["method"] for each in told["methods"]] == list(METHODS)
    for each in told["methods"]:
        low, high = each["saved_interval"]
        assert low <= each["saved_vs_best_single"] <= high
    assert json.loads(json.dumps(told)) == told


def test_the_best_single_model_is_what_savings_are_counted_from(found):
    single = found.of("best_single")
    assert single.chosen == "large"
    assert (single.saved.mean, single.difference.mean) == (0, 0)
    assert single.cost_micros == pytest.approx(1000)


def test_nothing_beats_the_oracle(found):
    assert max(each.quality for each in found.methods) == found.of("oracle").quality


def test_what_is_asked_does_not_depend_on_the_labels_it_is_measured_with(files, found):
    train, data = map(read, files)
    blind = evaluate(train, replace(data, quality=1 - data.quality))
    asked = [(each.method, each.cost_micros) for each in found.methods if each.method != "oracle"]
    assert asked == [(each.method, each.cost_micros) for each in blind.methods if each.method != "oracle"]


def test_the_scorer_is_paid_for(found):
    product = found.of("product")
    if product.chosen != "large":
        assert round(product.cost_micros % 5, 6) != 0  # recorded costs are whole fives; scoring is not


@pytest.mark.parametrize("count", [1, 2])
def test_it_runs_with_as_few_models_as_there_are(files, count):
    train, data = (fewer(read(file), count) for file in files)
    assert evaluate(train, data).of("best_single").chosen == MODELS[count - 1][0]


def fewer(records, count):
    kept = {"models": records.models[:count], "answers": tuple(row[:count] for row in records.answers)}
    return replace(records, quality=records.quality[:, :count], cost_micros=records.cost_micros[:, :count], **kept)


def test_the_same_files_give_the_same_result(files, found):
    assert evaluate(*map(read, files)) == found


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda lines: lines[:-1], "sums/plus/159 has no answer of large"),
        (lambda lines: [{**lines[0], "quality": float("nan")}, *lines[1:]], "line 1: quality nan"),
        (lambda lines: [{**lines[0], "usd_cost": -1}, *lines[1:]], "line 1: usd_cost -1"),
        (lambda lines: [{**line, "quality": 1} for line in lines], "every answer has the quality 1"),
        (lambda lines: lines[:15], "has 5 questions, at least 50"),
        (lambda lines: [*lines, lines[0]], "line 481: a second answer of small"),
        (lambda lines: [{"model": "x"}], "line 1: source is missing"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_name(folder, files, spoil, told):
    bad = written(folder / "bad.jsonl.gz", spoil(list(rows(160, 1))))
    with pytest.raises(CommandError, match=told):
        call_command("evaluate_cascade", train=bad, data=files[1])


def test_a_model_that_is_missing_in_the_second_file_is_named(files):
    train, data = map(read, files)
    fewer = replace(data, models=data.models[:2])
    with pytest.raises(BadTable, match="'large' has no answers here"):
        evaluate(train, fewer)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"reasoning": "so", "answer": "1,250"}', "1250"),
        ("so \\boxed{3/4}", "0.75"),
        ("We see. The answer is (C).", "c"),
        ('{"answer": "[1, 2]"}', "[1, 2]"),
        ("It was painted in 1889.", None),
    ],
)
def test_the_final_answer_is_read_where_there_is_one(answer, told):
    assert final(answer) == told


def test_answers_in_free_text_are_as_alike_as_what_they_add():
    texts = ["It was Alan Turing.", "Turing, of course.", "It was Churchill."]
    alike = Alikeness(texts).of("Who was it?", texts, [None] * 3)
    assert alike[0, 1] > alike[0, 2]
    assert (alike == alike.T).all()
