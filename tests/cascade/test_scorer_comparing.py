"""The paired test before a promotion: right areas, honest errors, and a refusal where too little is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from cascade.scorer.comparing import Judged, areas, compare, errors


def labels(customers: int, seed: int, *, old: float, new: float, alike: float = 0.5, each: int = 4) -> list[Judged]:
    """Answers of customers, `old` and `new` saying how well each scorer tells good from bad; a customer's are alike."""
    chance = np.random.default_rng(seed)
    found = []
    for customer in range(customers):
        habit = alike * chance.normal()
        for _ in range(each):
            good = bool(chance.random() < 0.5)
            luck, side = chance.normal() + habit, 1 if good else -1
            seen = (old * side + luck, new * side + 0.7 * luck + 0.7 * chance.normal())
            found.append(Judged(f"c{customer}", good, *(float(1 / (1 + np.exp(-z))) for z in seen)))
    return found


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), *[st.integers(0, 5)] * 2), min_size=4, max_size=60))
def test_areas_and_errors_are_those_of_the_textbook(rows):
    judged = [Judged(str(n), good, old / 5, new / 5) for n, (_, good, old, new) in enumerate(rows)]
    good = [each.good for each in judged]
    if not 2 <= sum(good) <= len(good) - 2:
        return
    (old, new), _ = areas(judged)
    assert old == pytest.approx(roc_auc_score(good, [each.old for each in judged]))
    assert new == pytest.approx(roc_auc_score(good, [each.new for each in judged]))
    assert errors(judged)[0][0] == pytest.approx(brier_score_loss(good, [each.old for each in judged]))


@pytest.mark.parametrize("alike", [0.0, 1.5])
def test_the_standard_errors_are_those_of_drawing_customers_again(alike):
    judged = labels(150, 5, old=0.6, new=0.9, alike=alike)
    by_customer = [judged[n : n + 4] for n in range(0, len(judged), 4)]
    chance, drawn = np.random.default_rng(6), []
    for _ in range(400):
        again = [each for n in chance.integers(0, 150, 150) for each in by_customer[n]]
        (old, new), _ = areas(again)
        (wide, narrow), _ = errors(again)
        drawn.append((new - old, wide - narrow))
    assert areas(judged)[1] == pytest.approx(np.std([area for area, _ in drawn]), rel=0.2)
    assert errors(judged)[1] == pytest.approx(np.std([error for _, error in drawn]), rel=0.2)


def test_a_better_scorer_may_replace_the_old_and_a_worse_one_may_not():
    assert compare(labels(300, 7, old=0.6, new=1.2)).refusal == ""
    worse = compare(labels(300, 7, old=1.2, new=0.6))
    assert "rank worse" in worse.refusal
    assert worse.area_new < worse.area_old


def test_the_same_scorer_may_replace_itself():
    same = [Judged(each.customer, each.good, each.old, each.old) for each in labels(60, 8, old=0.8, new=0)]
    found = compare(same)
    assert (found.refusal, found.area_least, found.error_least) == ("", 0.0, 0.0)


def test_one_that_ranks_as_well_but_promises_too_much_is_refused():
    honest = labels(300, 9, old=0.8, new=0)
    boasting = [Judged(e.customer, e.good, e.old, e.old**0.1) for e in honest]
    assert "probabilities may be worse" in compare(boasting).refusal


def test_with_too_few_labels_nothing_is_said():
    few = compare(labels(6, 10, old=0.1, new=3))
    assert "too few labels" in few.refusal
    assert few.area_new is None
    one_customer = [Judged("c", each.good, each.old, each.new) for each in labels(100, 11, old=0.1, new=3)]
    assert "customers" in compare(one_customer).refusal


def test_of_equal_scorers_hardly_any_worse_one_passes_by_chance():
    """Truly worse by clearly more than the margin: at most about one in twenty may be let through."""
    passed = sum(compare(labels(80, seed, old=0.9, new=0.7, alike=0.8)).refusal == "" for seed in range(60))
    assert passed <= 6
