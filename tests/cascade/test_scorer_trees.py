"""Trees as arrays say what LightGBM says; they know no customer by name, and go on from where earlier ones stopped."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch  # before lightgbm: brings its OpenMP

import lightgbm  # isort: skip

from cascade.scorer import evidence, head, trees
from cascade.scorer import model as network
from cascade.scorer.head import Head
from cascade.scorer.model import Reading
from tests.cascade.small_scorer import small_weights

WORDS = tuple(f"a:{word}" for word in ("yes", "no", "pending", "delivered", "free"))


def made_rows(count: int) -> tuple[list[list[float]], list[list[str]], list[bool]]:
    """Good when "pending" is said and the first number is high, or neither."""
    chance = random.Random(4)
    numbers = [[chance.choice((0.0, 0.25, 1 / 3, 1.0)), chance.random()] for _ in range(count)]
    terms = [[word for word in WORDS if chance.random() < 0.5] for _ in range(count)]
    good = [(row[0] > 0.3) == ("a:pending" in said) for row, said in zip(numbers, terms, strict=True)]
    return numbers, terms, good


def grown(count: int = 400, **settings) -> trees.Trees:
    return trees.fit(*made_rows(count), WORDS, **{"rounds": 60, "seed": 3, "threads": 1, **settings})


def test_the_arrays_say_what_the_library_says(monkeypatch):
    boosters = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *told: boosters.append(train(*told)) or boosters[-1])
    ours = grown()
    numbers, terms, good = made_rows(400)
    table = np.array(
        [[*row, *(float(word in said) for word in WORDS)] for row, said in zip(numbers, terms, strict=True)]
    )
    assert ours.logits(numbers, terms) == pytest.approx(boosters[0].predict(table, raw_score=True), abs=1e-5)
    right = [(logit > 0) == label for logit, label in zip(ours.logits(numbers, terms), good, strict=True)]
    assert np.mean(right) > 0.9


def test_the_same_seed_grows_the_same_trees():
    first, second = grown(), grown()
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in head.ARRAYS)


def test_what_few_customers_share_is_no_term():
    terms = [["a:yes", f"profile:name=customer {n}"] for n in range(trees.LEAST_USERS)]
    assert trees.vocabulary_of(terms, [f"u{n}" for n in range(trees.LEAST_USERS)]) == ("a:yes",)
    assert trees.vocabulary_of(terms, ["u1"] * trees.LEAST_USERS) == ()


def test_later_trees_mend_what_the_earlier_ones_get_wrong():
    numbers, terms, good = made_rows(400)
    turned = [not label for label in good]
    before = grown()
    after = trees.fit(numbers, terms, turned, (), before=before, rounds=150, seed=3, threads=1)
    assert after.vocabulary == WORDS
    assert np.array_equal(after.values[: len(before.values)], before.values)
    right = [(logit > 0) == label for logit, label in zip(after.logits(numbers, terms), turned, strict=True)]
    assert np.mean(right) > 0.9


def test_words_that_were_never_learnt_change_nothing():
    ours = grown()
    assert ours.logits([[1.0, 0.5]], [["a:pending", "a:unheard of"]]) == ours.logits([[1.0, 0.5]], [["a:pending"]])


def test_a_head_is_read_as_it_was_written(tmp_path):
    head.save(Head(grown(), wide=0.9, deep=0.1), tmp_path)
    found = head.load(tmp_path)
    assert (found.wide, found.deep, found.trees.vocabulary) == (0.9, 0.1, WORDS)
    numbers, terms, _ = made_rows(50)
    assert found.trees.logits(numbers, terms) == grown().logits(numbers, terms)


def test_a_head_is_written_the_same_each_time(tmp_path):
    head.save(Head(grown()), tmp_path)
    first = (tmp_path / head.NAME).read_bytes()
    head.save(head.load(tmp_path), tmp_path)
    assert (tmp_path / head.NAME).read_bytes() == first


def stump(logit: float) -> trees.Trees:
    """One leaf: every row has that logit."""
    place, number = np.zeros(1, np.int32), np.zeros(1, np.float32)
    return trees.Trees((), place, place, number, place, place, np.array([logit], np.float32))


NOTHING = [0.0] * evidence.SIZE
ANY = Reading((2, 9, 3), (2, 11, 3), NOTHING, [])


@pytest.mark.parametrize(("said", "doubt"), [(9.0, 0.0), (0.0, 0.02), (-head.CERTAIN, 0.7), (-20.0, 16.0)])
def test_the_network_is_heard_only_where_it_is_certain(said, doubt, tmp_path):
    model, _ = network.load(small_weights(tmp_path))
    with torch.no_grad():
        model.pairing.judge[-1].weight.zero_()
        model.pairing.judge[-1].bias.fill_(said)
    found = head.logits(model, Head(stump(3.0), wide=1.0, deep=0.5), [ANY])
    assert found == pytest.approx([3.0 - 0.5 * doubt], abs=0.01)


def test_where_the_trees_leave_no_hope_the_network_is_not_asked(tmp_path):
    model, _ = network.load(small_weights(tmp_path, poisoned=True))  # whatever it is asked, it says NaN
    hopeless, hopeful = (head.logits(model, Head(stump(head.HOPELESS + more)), [ANY] * 2) for more in (0.0, 0.1))
    assert hopeless == [head.HOPELESS] * 2
    assert np.isnan(hopeful).all()


def test_where_the_trees_are_sure_of_an_answer_that_takes_the_question_up_the_network_is_not_asked(tmp_path):
    model, _ = network.load(small_weights(tmp_path, poisoned=True))
    taken_up = ANY._replace(evidence=[float(at == evidence.TAKEN_UP) for at in range(evidence.SIZE)])
    for sure, reading, asked in ((3.0, taken_up, False), (3.0, ANY, True), (1.0, taken_up, True)):
        assert np.isnan(head.logits(model, Head(stump(sure)), [reading])).all() == asked


def test_the_beginning_of_an_answer_need_not_be_to_the_point_yet(tmp_path):
    model, _ = network.load(small_weights(tmp_path, poisoned=True))
    assert head.logits(model, Head(stump(2.0)), [ANY.begun()]) == [2.0]
