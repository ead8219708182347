"""What counts as a label: verdicts of people on answers whose context was kept, each with what was known then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade import scorer_labels
from cascade.models import Conversation, Feedback, Message, TurnContext
from cascade.values import FinishReason
from tests.cascade.judged_turns import customer_value, judged_turn, judged_turns, said_of
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop():
    return open_shop("alice", "http://127.0.0.1:1")


@pytest.fixture
def talk(shop):
    with in_tenant(shop.tenant_id):
        return Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=shop.caller().customer_id
        )


def found(shop) -> list[tuple[str, str, bool]]:
    return [(label.kind, label.answer, label.good) for label in scorer_labels.labels(shop.tenant_id)]


def by_staff(talk: Conversation, text: str, seq: int, **more) -> Message:
    return Message.objects.create(tenant_id=talk.tenant_id, conversation=talk, role="staff", text=text, seq=seq, **more)


def test_what_customers_like_is_good_and_what_they_dislike_is_bad(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, True, 1)
        judged_turn(talk, 3, False, 3)
        judged_turn(talk, 3, True, 5, rating=None)
    assert sorted(found(shop)) == [("reply", said_of(3), True), ("reply", said_of(4), False)]


def test_a_label_knows_what_was_known_when_the_answer_was_given(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, True, 1)
    (label,) = scorer_labels.labels(shop.tenant_id)
    assert label.context.customer == customer_value(3)


def test_what_staff_writes_after_a_hand_over_is_good_and_the_rejected_draft_bad(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, False, 1, state="handed_over")
        by_staff(talk, said_of(3), 3)
    assert sorted(found(shop)) == [("draft", said_of(4), False), ("staff", said_of(3), True)]


def test_a_draft_that_said_what_staff_then_said_is_not_bad(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, True, 1, state="handed_over")
        by_staff(talk, "Hello! It is order W1003, $23.", 3)
    assert found(shop) == [("staff", "Hello! It is order W1003, $23.", True)]


def test_a_draft_in_staffs_own_words_is_not_bad_though_it_names_nothing(shop, talk):
    with in_tenant(shop.tenant_id):
        turn = judged_turn(talk, 3, True, 1, state="handed_over")
        turn.calls.update(text="Yes, you  can return it.")
        by_staff(talk, "Yes, you can return it.\n", 3)
    assert [kind for kind, _, _ in found(shop)] == ["staff"]


def test_the_beginning_of_a_draft_that_was_given_up_is_no_label(shop, talk):
    with in_tenant(shop.tenant_id):
        turn = judged_turn(talk, 3, False, 1, state="handed_over")
        turn.calls.update(text="Your order #W1004", finish_reason=FinishReason.GIVEN_UP)
        by_staff(talk, said_of(3), 3)
    assert [kind for kind, _, _ in found(shop)] == ["staff"]


def test_a_hand_over_nobody_answered_or_answered_badly_says_nothing(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, False, 1, state="handed_over")
        assert found(shop) == []
        said = by_staff(talk, "No idea.", 3)
        Feedback.objects.create(tenant_id=shop.tenant_id, message=said, rating=-1)
    assert found(shop) == []


def test_a_correction_makes_the_reply_bad_whatever_the_customer_thought(shop, talk):
    with in_tenant(shop.tenant_id):
        turn = judged_turn(talk, 3, False, 1, rating=1)
        by_staff(talk, said_of(3), 3, corrects=turn.messages.get(role="assistant"))
    assert sorted(found(shop)) == [("correction", said_of(3), True), ("reply", said_of(4), False)]


def test_another_tenants_labels_are_not_found(shop):
    other = open_shop("charlie", "http://127.0.0.1:1")
    judged_turns(other, 3)
    assert found(shop) == []
    assert len(found(other)) == 6


def test_what_is_too_old_is_no_label_and_is_forgotten(shop, talk):
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 3, True, 1)
        old = timezone.now() - scorer_labels.REMEMBERED - timedelta(days=1)
        TurnContext.objects.update(created_at=old)
    assert found(shop) == []
    assert scorer_labels.forget(shop.tenant_id) == 1
    with in_tenant(shop.tenant_id):
        assert not TurnContext.objects.exists()
