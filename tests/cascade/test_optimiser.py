"""The optimiser finds what trying everything finds, and refuses what nothing can be learnt from."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.money import ZERO
from cascade.learning.replaying import HANDED_OVER, UNKNOWN
from cascade.learning.search import LATE_SHARE, SLACK, best_choice
from cascade.learning.table import UNUSABLE, undominated
from cascade.optimiser import BadTable, Goal, Person, Unreachable, optimise, replay
from cascade.policy import Accept, Ask, Known, next_step
from cascade.strategy_check import threshold
from cascade.values import Attempt, FinishReason, Usage
from tests.cascade.strategies import strategy, tier
from tests.cascade.tables import ladder, table, tables

limits = st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.7, 1.0])


def played_by_the_policy(of, row, chain, thresholds):
    """(tier, cost) of one question, step by step."""
    tiers = strategy(*(tier(name, threshold) for name, threshold in zip(chain, thresholds, strict=True)))
    attempts, cost = [], 0.0
    while isinstance(step := next_step(tiers, Known(), attempts), Ask):
        column = of.models.index(chain[step.tier])
        score = of.score[row, column]
        if np.isnan(score):
            return UNKNOWN, None
        text = "" if score == UNUSABLE else "An answer."
        told = None if score == UNUSABLE else score
        attempts.append(Attempt("id", step.tier, "m", text, FinishReason.STOP, Usage(), False, ZERO, told))
        cost += of.cost_micros[row, column]
    return (step.attempt.tier, cost) if isinstance(step, Accept) else (HANDED_OVER, cost)


@given(tables(missing=True), st.data())
def test_a_replay_does_what_the_policy_does(of, data):
    chain = data.draw(st.permutations(of.models).flatmap(lambda all: st.integers(1, len(all)).map(lambda n: all[:n])))
    thresholds = data.draw(st.lists(limits, min_size=len(chain), max_size=len(chain)))
    found = replay(of, chain, thresholds)
    for row in range(len(of.questions)):
        where, cost = played_by_the_policy(of, row, chain, thresholds)
        assert found.tier[row] == where
        assert (np.isnan(found.cost_micros[row]) and cost is None) or found.cost_micros[row] == cost


@given(tables(missing=True), st.data())
def test_a_replay_does_to_each_segment_what_the_live_cascade_does(of, data):
    other = st.dictionaries(st.sampled_from(["trade", "home"]), limits)
    tiers = [{"threshold": data.draw(limits), "segments": data.draw(other)} for _ in of.models]
    own = {name: [threshold(tier, name) for tier in tiers] for name in ("", "trade", "home")}
    found = replay(of, of.models, own[""], by_segment={name: own[name] for name in ("trade", "home")})
    for row, segment in enumerate(of.segment):
        where, cost = played_by_the_policy(of, row, of.models, own[segment])
        assert found.tier[row] == where
        assert (np.isnan(found.cost_micros[row]) and cost is None) or found.cost_micros[row] == cost


@given(tables(), limits, limits)
def test_a_segment_with_thresholds_of_its_own_is_played_by_them(of, shared, own):
    found = replay(of, of.models, [shared] * len(of.models), by_segment={"trade": [own] * len(of.models)})
    for name, limit in (("trade", own), ("home", shared), ("", shared)):
        rows = np.array([segment == name for segment in of.segment])
        expected = replay(of, of.models, [limit] * len(of.models))
        assert found.tier[rows].tolist() == expected.tier[rows].tolist()


def everything(of, goal):
    """All chains in order of price with all thresholds that make a difference, by replay."""
    models = undominated(of)
    for length in range(1, len(models) + 1):
        for chain in itertools.combinations(models, length):
            columns = [of.score[:, of.models.index(name)] for name in chain[:-1]]
            for thresholds in itertools.product(*(np.unique(column[column >= 0]) for column in columns)):
                found = replay(of, chain, [*thresholds, goal.floor], person=goal.person)
                late = np.average(found.seconds > (goal.latency_seconds or np.inf), weights=of.weight)
                if late <= LATE_SHARE + SLACK:
                    yield found.mean_quality, found.mean_cost_micros


@settings(max_examples=60)
@given(
    tables(least=2, most=9, models=(1, 3)),
    st.floats(0, 60),
    st.sampled_from([None, 6.0, 12.0]),
    st.sampled_from([(0.0, Person()), (0.5, Person(0.8, 30.0))]),
)
def test_the_most_quality_within_a_budget_is_what_trying_everything_finds(of, budget, latency, end):
    goal = Goal(budget_micros=budget, latency_seconds=latency, floor=end[0], person=end[1])
    found = best_choice(of, undominated(of), goal)
    reachable = [(-quality, cost) for quality, cost in everything(of, goal) if cost <= budget * (1 + SLACK)]
    assert (found is None) == (not reachable)
    if found:
        quality = -min(reachable)[0]
        assert found.quality == pytest.approx(quality)
        assert found.cost_micros == pytest.approx(min(cost for q, cost in reachable if -q >= quality - 1e-9))
        again = replay(of, found.chain, found.thresholds, person=goal.person)
        assert again.mean_quality == pytest.approx(found.quality)
        assert again.mean_cost_micros == pytest.approx(found.cost_micros)


@settings(max_examples=60)
@given(tables(least=2, most=9, models=(1, 3)), st.floats(0, 1))
def test_the_least_cost_at_a_quality_is_what_trying_everything_finds(of, quality):
    found = best_choice(of, undominated(of), Goal(quality=quality))
    reachable = [cost for reached, cost in everything(of, Goal(quality=quality)) if reached >= quality - SLACK]
    assert (found.cost_micros if found else None) == (pytest.approx(min(reachable)) if reachable else None)


@settings(max_examples=15, deadline=None)
@given(tables(least=4, most=8, models=(4, 4)), st.floats(0, 1))
def test_four_tiers_of_few_scores_are_searched_entirely(of, quality):
    found = best_choice(of, undominated(of), Goal(quality=quality))
    reachable = [cost for reached, cost in everything(of, Goal(quality=quality)) if reached >= quality - SLACK]
    assert (found.cost_micros if found else None) == (pytest.approx(min(reachable)) if reachable else None)


def test_the_same_table_gives_the_same_proposal():
    of = ladder(300)
    first, again = (optimise(of, Goal(quality=0.8)) for _ in range(2))
    assert replace(first, unseen=again.unseen) == again
    assert first.unseen.cost_micros.tolist() == again.unseen.cost_micros.tolist()


def test_a_cascade_saves_where_scores_tell_good_from_bad():
    of = ladder(600)
    found = optimise(of, Goal(quality=float(of.mean_quality.max())))
    assert found.best_single == "m3"
    assert found.saved.low > 0.2
    assert found.quality_difference.low > -0.05
    assert found.saved.low <= found.saved.mean <= found.saved.high


def test_what_is_expected_was_not_measured_on_what_chose_it():
    of = ladder(60, noise=20)  # scores that say nothing: whatever pleases on the table is chance
    goal = Goal(budget_micros=float(of.mean_cost_micros[-1]) / 2)
    chosen, found = best_choice(of, undominated(of), goal), optimise(of, goal)
    assert found.quality.mean < chosen.quality


def test_a_dominated_model_is_left_out_and_named():
    of = ladder(200)
    worse = replace(of, quality=of.quality * np.array([1, 0, 1, 1]))
    assert "m1" in optimise(worse, Goal(quality=0.5)).dominated


def test_the_frontier_rises():
    points = optimise(ladder(), Goal(quality=0.5)).frontier
    assert len(points) > 5
    assert all(a.cost_micros < b.cost_micros and a.quality < b.quality for a, b in itertools.pairwise(points))


def test_questions_seen_rarely_weigh_more():
    right = [[1.0, 1.0]] * 60 + [[0.0, 1.0]] * 60
    of = table([[0.5, 0.5]] * 120, right, [[1.0, 100.0]] * 120)
    rare = replace(of, weight=np.array([9.0] * 60 + [1.0] * 60))
    assert optimise(of, Goal(quality=0.9)).chain == ("m1",)
    assert optimise(rare, Goal(quality=0.9)).chain == ("m0",)


def test_a_goal_out_of_reach_says_how_far_one_comes():
    with pytest.raises(Unreachable, match=r"mean quality of 0\.999; the best reaches 0\.9"):
        optimise(ladder(), Goal(quality=0.999))
    with pytest.raises(Unreachable, match="the cheapest costs"):
        optimise(ladder(), Goal(budget_micros=0.1))
    with pytest.raises(Unreachable, match=r"95 % of the questions within 0\.001 seconds"):
        optimise(ladder(), Goal(quality=0.5, latency_seconds=0.001))


def test_segments_spend_the_same_budget_better():
    of = ladder(800, noise=1.0, segment=["trade", "home"] * 400)
    trade = np.array(of.segment) == "trade"
    of = replace(of, quality=np.where(trade[:, None], of.quality, np.array([0, 0, 0, 1])))  # only the dearest knows
    goal = Goal(budget_micros=float(of.mean_cost_micros[-1]) * 0.7)
    found = optimise(of, goal, segments=True)
    plain = replay(of, found.chain, found.thresholds)
    split = replay(of, found.chain, found.thresholds, by_segment=found.by_segment)
    assert split.mean_cost_micros <= goal.budget_micros
    assert split.mean_quality > plain.mean_quality


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda of: {"score": spoilt(of.score, float("nan"))}, "question 'q3', model 'm1': no score is recorded"),
        (lambda of: {"quality": spoilt(of.quality, float("nan"))}, "question 'q3', model 'm1': no quality"),
        (lambda of: {"cost_micros": spoilt(of.cost_micros, -1)}, "question 'q3', model 'm1': cost_micros -1.0"),
        (lambda of: {"score": spoilt(of.score, 1.2)}, "question 'q3', model 'm1': score 1.2"),
        (lambda of: {"quality": np.ones_like(of.quality)}, "every answer is labelled 1"),
        (lambda of: {"questions": ("q0", *of.questions[:-1])}, "question 'q0' stands in the table twice"),
        (lambda of: {"weight": of.weight * 0}, "question 'q0' has the weight 0.0"),
        (lambda of: {"score": of.score[:, :3]}, "questions x models"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_name(spoil, told):
    of = ladder(60)
    with pytest.raises(BadTable, match=told):
        optimise(replace(of, **spoil(of)), Goal(quality=0.5))


def spoilt(values, with_this):
    changed = values.copy()
    changed[3, 1] = with_this
    return changed


def test_five_questions_are_too_few():
    with pytest.raises(BadTable, match="5 questions, at least 50"):
        optimise(ladder(5), Goal(quality=0.5))


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(BadTable, match="'gpt-9'"):
        replay(ladder(60), ["gpt-9"], [0.0])
