"""What customers ask and no article answers is reported once, grouped by meaning, and ready to be written."""

from __future__ import annotations

import pytest

from accounts.tenancy import in_tenant
from cascade import gaps
from cascade.models import Conversation, Lookup, Turn
from tests.cascade.test_knowledge import vector
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice():
    return open_shop("alice", "http://127.0.0.1:1")


def ask(
    shop, question: str, similarity: float | None, *, own=False, state="answered", problem="", vector=vector
) -> None:
    caller = shop.caller()
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=caller.customer_id
        )
        turn = Turn.objects.create(
            tenant_id=shop.tenant_id, conversation=talk, client_id="1", body_hash="", process_key=1, state=state,
            problem=problem,
        )  # fmt: skip
    gaps.note(shop.tenant_id, shop.chatbot_id, turn.id, question, vector(question), similarity, own=own)


def report(shop) -> list[gaps.Gap]:
    with in_tenant(shop.tenant_id):
        return gaps.report()


def test_questions_that_ask_about_the_same_are_one_gap_the_most_asked_first(alice):
    ask(alice, "do you repair old lamps", 0.1)
    ask(alice, "which discount have students", 0.2)
    ask(alice, "do you repair my old lamps", 0.1)
    first, second = report(alice)
    assert (first.asked, set(first.questions)) == (2, {"do you repair old lamps", "do you repair my old lamps"})
    assert second.questions == ("which discount have students",)
    assert first.title.startswith("Do you repair")
    assert all(question in first.outline for question in first.questions)


def test_what_an_article_came_near_or_the_customers_record_answers_is_no_gap(alice):
    ask(alice, "are returns free", 0.8)
    ask(alice, "where is my order", 0.1, own=True)
    assert report(alice) == []


def test_what_a_person_had_to_answer_is_a_gap_however_near_an_article_came(alice):
    ask(alice, "may I return a lit lamp", 0.7, state="handed_over", problem="below_floor")
    ask(alice, "let me talk to somebody", 0.7, state="handed_over", problem="with_person")
    [gap] = report(alice)
    assert (gap.questions, gap.handed_over) == (("may I return a lit lamp",), 1)


def test_a_question_whose_vector_came_too_late_is_nobodys_gap(alice):
    ask(alice, "do you repair old lamps", None, vector=lambda text: None)
    assert report(alice) == []


def test_a_gap_is_its_tenants_own(alice):
    ask(alice, "do you repair old lamps", 0.1)
    assert report(open_shop("charlie", "http://127.0.0.1:1")) == []


def test_a_turn_is_noted_once(alice):
    ask(alice, "do you repair old lamps", 0.1)
    with in_tenant(alice.tenant_id):
        lookup = Lookup.objects.get()
    gaps.note(alice.tenant_id, alice.chatbot_id, lookup.turn_id, "again", None, None, own=False)
    with in_tenant(alice.tenant_id):
        assert [each.question for each in Lookup.objects.all()] == ["do you repair old lamps"]
