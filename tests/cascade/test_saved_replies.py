"""A saved reply is found by meaning, for a customer it can be filled for, and proposed where staff would write one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync

from accounts.tenancy import in_tenant
from cascade import saved_replies
from cascade.models import Conversation, ExampleQuestion, Feedback, Message, ModelCall, SavedReply, Turn, TurnContext
from cascade.scorer.rows import CONTEXT
from cascade.values import Context, Customer, Record
from tests.cascade.test_knowledge import Embedding, vector
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")
NOW = datetime.now(UTC)


@pytest.fixture
def alice():
    shop = open_shop("alice", "http://127.0.0.1:1")
    save(shop, "order", "Your order is {{ order.status }}.", "where is my order", "has my parcel been sent")
    save(shop, "hours", "We answer from 8:00 to 18:00.", "when are you open")
    return shop


def save(shop, name: str, text: str, *questions: str, state="approved") -> None:
    with in_tenant(shop.tenant_id):
        reply = SavedReply.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, name=name, text=text, state=state
        )
        for question in questions:
            ExampleQuestion.objects.create(tenant_id=shop.tenant_id, reply=reply, text=question)
    async_to_sync(saved_replies.embed_examples)(shop.tenant_id, Embedding())


def asked(question: str, **order) -> Context:
    records = (Record("order", "A-1", NOW, order),) if order else ()
    return Context(Customer("c1", records=records), question, NOW)


def matched(shop, question: str, **order) -> str | None:
    context = asked(question, **order)
    found = saved_replies.match(shop.tenant_id, shop.chatbot_id, vector(question), context, timedelta(days=1))
    return found and found.text


def test_a_question_like_an_example_is_answered_from_this_customers_record(alice):
    assert matched(alice, "where is my order now", status="shipped") == "Your order is shipped."
    assert matched(alice, "where is my order now", status="packed") == "Your order is packed."


def test_a_question_unlike_all_examples_or_like_those_of_two_replies_is_not(alice):
    assert matched(alice, "can I pay by card", status="shipped") is None
    save(alice, "twin", "Another answer.", "where is my other order")
    assert matched(alice, "where is my order now", status="shipped") is None


def test_what_cannot_be_filled_is_no_match(alice):
    assert matched(alice, "where is my order now") is None
    assert matched(alice, "where is my order now", status="") is None


@pytest.mark.parametrize("state", ["proposed", "retired"])
def test_only_approved_replies_are_given(alice, state):
    with in_tenant(alice.tenant_id):
        SavedReply.objects.update(state=state)
    assert matched(alice, "when are you open") is None


def test_a_match_stays_inside_its_tenant_and_its_chatbot(alice):
    charlie = open_shop("charlie", "http://127.0.0.1:1")
    assert matched(charlie, "when are you open") is None
    found = saved_replies.match(
        charlie.tenant_id, alice.chatbot_id, vector("when are you open"), asked("when are you open"), timedelta(days=1)
    )
    assert found is None


# --- proposals ------------------------------------------------------------------------------------


def answer(shop, customer: str, question: str, text: str, status: str = "shipped", *, rating: int = 0) -> None:
    """An accepted answer to a customer with one order."""
    caller = shop.caller(customer)
    tenant = {"tenant_id": shop.tenant_id}
    context = Context(
        Customer(customer, records=(Record("order", f"A-{customer}", NOW, {"status": status}),)), question, NOW
    )
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(**tenant, chatbot_id=shop.chatbot_id, customer_id=caller.customer_id)
        turn = Turn.objects.create(
            **tenant, conversation=talk, client_id="1", body_hash="", process_key=1, state=Turn.State.ANSWERED
        )
        TurnContext.objects.create(**tenant, turn=turn, context=CONTEXT.dump_python(context, mode="json"))
        ModelCall.objects.create(
            **tenant, turn=turn, number=1, tier=0, model="small", threshold=0.5, outcome="accepted", text=text
        )
        said = Message.objects.create(**tenant, conversation=talk, turn=turn, role="assistant", text=text, seq=1)
        if rating:
            Feedback.objects.create(**tenant, message=said, rating=rating)


def proposals(shop) -> list[SavedReply]:
    saved_replies.propose(shop.tenant_id)
    with in_tenant(shop.tenant_id):
        return list(SavedReply.objects.filter(state="proposed").prefetch_related("examples"))


def test_what_several_customers_were_told_in_the_same_words_is_proposed_without_their_values(alice):
    for number, status in enumerate(["shipped", "packed", "delayed"]):
        answer(alice, f"c{number}", f"is it here yet {number}", f"Order A-c{number} is {status} today.", status)
    [proposal] = proposals(alice)
    assert proposal.text == "Order {{ order.id }} is {{ order.status }} today."
    assert proposal.proposed_from == 3
    assert {example.text for example in proposal.examples.all()} == {f"is it here yet {number}" for number in range(3)}
    assert len(proposals(alice)) == 1  # once


def test_one_customer_who_asks_again_and_again_proposes_nothing(alice):
    for _ in range(5):
        answer(alice, "c1", "is it here yet", "Order A-c1 is shipped.")
    assert proposals(alice) == []


def test_what_was_voted_down_proposes_nothing(alice):
    for number in range(3):
        answer(alice, f"c{number}", "is it here yet", f"Order A-c{number} is shipped.", rating=-1 if number else 0)
    assert proposals(alice) == []


def test_what_was_retired_is_not_proposed_again(alice):
    for number in range(3):
        answer(alice, f"c{number}", "is it here yet", f"Order A-c{number} is shipped.")
    [proposal] = proposals(alice)
    with in_tenant(alice.tenant_id):
        SavedReply.objects.filter(id=proposal.id).update(state="retired")
    assert proposals(alice) == []


def test_a_question_that_names_what_is_the_customers_own_is_no_example(alice):
    for number in range(3):
        answer(alice, f"c{number}", f"where is A-c{number}", f"Order A-c{number} is shipped.")
    answer(alice, "c3", "is it here yet", "Order A-c3 is shipped.")
    [proposal] = proposals(alice)
    assert [example.text for example in proposal.examples.all()] == ["is it here yet"]
