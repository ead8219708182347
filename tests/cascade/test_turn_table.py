"""The table of a chatbot's own turns: who judged what, what exploring weighs, and what is left out and counted."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import models as accounts
from accounts.tenancy import in_tenant
from cascade import turn_table
from cascade.learning.sampling import weights
from cascade.learning.table import UNUSABLE, BadTable
from cascade.models import Chatbot, Conversation, Feedback, Message, ModelCall, Turn, TurnContext
from cascade.providers.remembered import MEMORY
from cascade.scorer.rows import CONTEXT
from cascade.values import Context, Customer
from tests.cascade.recorded_turns import recorded_turns, remember
from tests.cast import open_shop


@pytest.fixture
def shop(database):
    return open_shop("alice", "http://127.0.0.1:9/v1", floor=0.3)


def bot(shop, **columns) -> Chatbot:
    shop.change(**columns)
    with in_tenant(shop.tenant_id):
        return Chatbot.objects.select_related("live_strategy").get(id=shop.chatbot_id)


def read(shop, **columns) -> turn_table.Recorded:
    now = timezone.now()
    return turn_table.read(bot(shop, **columns), now - timedelta(days=30), now)


def test_a_model_that_was_not_asked_is_unknown_and_what_was_explored_is_told_apart(shop):
    recorded_turns(shop, 60)
    found = read(shop)
    assert found.table.models == ("small", "large")
    asked = ~np.isnan(found.table.score)
    assert asked[:, 0].all()
    assert 0 < asked[:, 1].sum() < 60
    assert np.isnan(found.live.score[found.explored]).all()
    assert (found.cost_micros[found.explored[:, 1]] == 100).all()  # what was explored is no cost of the turn


def test_without_a_label_the_score_stands_and_is_counted_as_such(shop):
    recorded_turns(shop, 60)
    found = read(shop)
    usable = found.table.score != UNUSABLE
    assert np.allclose(found.table.quality[usable], found.table.score[usable], equal_nan=True)
    assert set(found.judged_by) == {"score"}


def judged(shop, answers, *, rating=None, corrected="", state="answered"):
    """One turn with a call a model, {model: (text, outcome)}; where staff corrected or answered, by these words."""
    own = {"tenant_id": shop.tenant_id}
    customer = shop.caller().customer_id
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(**own, chatbot_id=shop.chatbot_id, customer_id=customer, state="closed")
        turn = Turn.objects.create(**own, conversation=talk, client_id="1", body_hash="", state=state, process_key=1)
        context = Context(Customer("c1"), "What does it cost?", timezone.now())
        TurnContext.objects.create(**own, turn=turn, context=CONTEXT.dump_python(context, mode="json"))
        for number, (model, (text, outcome)) in enumerate(answers.items(), 1):
            ModelCall.objects.create(
                **own, turn=turn, number=number, tier=number - 1, model=model, threshold=0.5, outcome=outcome,
                text=text, finish_reason="stop", score=0.7, scorer_version="scripted", cost_micros=10, seconds=1,
            )  # fmt: skip
        Message.objects.create(**own, conversation=talk, turn=turn, role="customer", text="What?", seq=1)
        said = next((text for text, outcome in answers.values() if outcome == "accepted"), "A colleague will answer.")
        reply = Message.objects.create(**own, conversation=talk, turn=turn, role="assistant", text=said, seq=2)
        if rating:
            Feedback.objects.create(**own, message=reply, rating=rating)
        if corrected:
            wrong = {"corrects": reply} if state == "answered" else {}
            Message.objects.create(**own, conversation=talk, role="staff", text=corrected, seq=3, **wrong)
    return turn


SHOWN = {"small": ("It costs $5.00.", "accepted")}


def test_a_turn_that_only_memory_answered_in_time_is_left_out_whatever_was_explored(shop):
    refused = {MEMORY: ("It costs $1.00.", "rejected"), "small": ("", "explored")}
    turn = judged(shop, refused, state="handed_over")
    with in_tenant(shop.tenant_id):
        ModelCall.objects.filter(turn=turn, model="small").update(error="timeout", finish_reason="")
    assert read(shop).table.questions == ()


@pytest.mark.parametrize(
    ("answers", "more", "quality", "kinds"),
    [
        (SHOWN, {"rating": 1}, [1], {"people": 1}),
        (SHOWN, {"rating": -1}, [0], {"people": 1}),
        (SHOWN | {"large": ("It is $5.00 in all.", "explored")}, {"rating": 1}, [1, 1], {"people": 1, "facts": 1}),
        (
            SHOWN | {"large": ("It is $9.00.", "explored")},
            {"corrected": "No: $9.00"},
            [0, 1],
            {"people": 1, "facts": 1},
        ),
        (SHOWN | {"large": ("It is $9.00.", "explored")}, {"rating": 1}, [1, 0], {"people": 1, "facts": 1}),
        (SHOWN | {"large": ("I cannot say.", "explored")}, {"rating": 1}, [1, 0.7], {"people": 1, "score": 1}),
        (
            {"small": ("It costs $5.00.", "rejected"), "large": ("It costs $9.00.", "rejected")},
            {"state": "handed_over", "corrected": "It costs $9.00."},
            [0, 1],
            {"people": 1, "facts": 1},
        ),
    ],
)
def test_people_judge_first_and_their_facts_judge_what_they_did_not_see(shop, answers, more, quality, kinds):
    judged(shop, answers, **more)
    found = read(shop)
    assert found.table.quality[0, : len(quality)].tolist() == quality
    assert found.judged_by == kinds


def test_where_nobody_said_anything_the_reference_models_facts_judge(shop):
    judged(shop, SHOWN | {"large": ("It is $9.00.", "explored")})
    found = read(shop, reference_model="large")
    assert found.table.quality.tolist() == [[0, 1]]
    assert found.judged_by == {"reference": 2}


def test_an_answer_that_could_not_be_shown_is_worth_nothing(shop):
    turn = judged(shop, {"small": ("It costs", "rejected"), "large": ("It costs $5.00.", "accepted")})
    with in_tenant(shop.tenant_id):
        ModelCall.objects.filter(turn=turn, model="small").update(finish_reason="length")
    found = read(shop)
    assert found.table.score.tolist() == [[UNUSABLE, 0.7]]
    assert found.table.quality[0, 0] == 0


def test_what_memory_answered_is_no_matter_of_strategies(shop):
    judged(shop, {MEMORY: ("It costs $5.00.", "accepted")})
    judged(shop, {MEMORY: ("It costs $5.00.", "rejected"), "small": ("It costs $6.00.", "accepted")})
    found = read(shop)
    assert (len(found.table.questions), found.asked) == (1, ["small"])


def test_a_call_that_failed_while_exploring_was_not_made(shop):
    turn = judged(shop, SHOWN | {"large": ("", "explored")})
    with in_tenant(shop.tenant_id):
        ModelCall.objects.filter(turn=turn, model="large").update(error="timeout", score=None)
    assert read(shop).asked == ["small"]


def test_turns_that_other_weights_judged_are_left_out_and_counted(shop):
    recorded_turns(shop, 20, version="old", until=timezone.now() - timedelta(days=5), over=timedelta(days=5))
    recorded_turns(shop, 30, over=timedelta(days=2))
    found = read(shop)
    assert (len(found.table.questions), found.other_weights) == (30, 20)


def test_reading_is_bounded_to_the_newest_turns(shop):
    made = recorded_turns(shop, 30)
    now = timezone.now()
    found = turn_table.read(bot(shop), now - timedelta(days=30), now, most=10)
    assert found.table.questions == tuple(str(turn.id) for turn in made[:-11:-1])


def test_another_tenants_turns_are_not_read(shop):
    charlie = open_shop("charlie", "http://127.0.0.1:9/v1")
    recorded_turns(charlie, 10)
    assert read(shop).table.questions == ()


def test_the_explored_stand_for_all_that_stopped_early(shop):
    """Half of those that stopped early are drawn; the weighted table tells what all of them would have come to."""
    recorded_turns(shop, 1000, share=0.5)
    recorded_turns(charlie := open_shop("charlie", "http://127.0.0.1:9/v1", floor=0.3), 1000, share=1.0)
    some, every = read(shop).learnable(["small", "large"]), read(charlie).learnable(["small", "large"])
    assert len(some.questions) < len(every.questions) == 1000
    assert some.weight.sum() == pytest.approx(1000)
    assert some.mean_quality == pytest.approx(every.mean_quality, abs=0.03)
    unweighted = some.quality.mean(axis=0)
    assert abs(unweighted[0] - every.mean_quality[0]) > 2 * abs(some.mean_quality[0] - every.mean_quality[0])


def test_a_segment_of_which_none_was_explored_is_no_segment_and_distorts_no_other(shop):
    """Exploring's money is gone by night: of it only the hard turns are known, which asked every model anyway."""
    recorded_turns(shop, 150, share=0.6, segments=("day",))
    recorded_turns(shop, 120, share=0.0, segments=("night",), seed=4)
    assert {*read(shop).learnable(["small", "large"]).segment} == {""}
    recorded_turns(shop, 130, share=0.6, segments=("evening",), seed=5)
    found = read(shop).learnable(["small", "large"])
    assert {*found.segment} == {"", "day"}  # the evening speaks for the night
    assert found.weight[[name == "day" for name in found.segment]].sum() == pytest.approx(150)
    assert found.weight.sum() == pytest.approx(400)


def test_a_turn_is_of_the_segment_that_its_customer_was_in_then(shop):
    remember(recorded_turns(shop, 4, segments=("home",)))
    with in_tenant(shop.tenant_id):
        accounts.Customer.objects.update(attributes={"segment": "trade"})
    assert {*read(shop).table.segment} == {"home"}


def test_where_nothing_was_explored_the_way_out_is_told(shop):
    recorded_turns(shop, 80, share=0.0)
    with pytest.raises(BadTable, match="none of them was explored: set a share of turns to explore"):
        read(shop).learnable(["small", "large"])


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.05, 0.5, 1.0])), min_size=1, max_size=40))
def test_weights_add_up_to_all_turns_and_only_what_is_known_weighs(turns):
    free, drawn, chance = (np.array(each) for each in zip(*turns, strict=True))
    found = weights(free, free | drawn, chance, [""] * len(turns))
    assert (found[~(free | drawn)] == 0).all()
    assert (found[free] == 1).all()
    someone = (drawn & ~free).any()
    assert found.sum() == pytest.approx(len(turns) if someone else free.sum())
