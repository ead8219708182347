"""Remembered answers: found by whom they are for and by nobody else, and forgotten when they must be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from accounts.tenancy import in_tenant
from cascade import conversations, remembered
from cascade.embedder import SIZE
from cascade.memory.scope import Scope
from cascade.models import Article, Chatbot, Conversation, MemoryUse, Message, ModelCall, RememberedAnswer, Turn
from cascade.passages import split
from cascade.remembered import Keep, Place
from cascade.values import Passage
from tests.cast import Shop, open_shop

pytestmark = pytest.mark.usefixtures("database")


RETURNS = Passage("returns", "Returns", "Returns are free for 30 days.")


def vector(angle: float = 0.0) -> list[float]:
    """Unit vectors: the smaller the difference of two angles, the more alike."""
    import math

    return [math.cos(angle), math.sin(angle), *[0.0] * (SIZE - 2)]


@pytest.fixture
def alice() -> Shop:
    return open_shop("alice", "http://localhost:1")


def place_of(shop: Shop, customer: str = "c1", segment: str = "", basis: str = "basis", records: str = "own") -> Place:
    caller = shop.caller(customer)
    with in_tenant(shop.tenant_id):
        strategy_id = Chatbot.objects.get(id=shop.chatbot_id).live_strategy_id
    return Place(shop.tenant_id, shop.chatbot_id, strategy_id, caller.customer_id, segment, basis, records)


def answered(place: Place, **columns) -> Turn:
    """A turn of this customer whose answer was accepted."""
    with in_tenant(place.tenant_id):
        conversation = Conversation.objects.create(
            tenant_id=place.tenant_id, chatbot_id=place.chatbot_id, customer_id=place.customer_id
        )
        turn = Turn.objects.create(
            tenant_id=place.tenant_id,
            conversation=conversation,
            client_id=str(uuid7()),
            body_hash="",
            process_key=1,
            strategy_id=place.strategy_id,
            **{"state": Turn.State.ANSWERED} | columns,
        )
        ModelCall.objects.create(
            tenant_id=place.tenant_id,
            turn=turn,
            number=1,
            tier=0,
            model="small",
            threshold=0.5,
            outcome="accepted",
            score=0.9,
            cost_micros=30,
        )
    return turn


def keep(place: Place, scope: Scope = Scope.EVERYBODY, question: str = "What?", angle: float = 0.0, **more):
    turn = more.pop("turn", None) or answered(place)
    given = {
        "answer": f"to {question}",
        "answer_vector": vector(),
        "general": 5.0,
        "passages": (),
        "knowledge": "",
    } | more
    return remembered.keep(place, Keep(turn.id, scope, question, vector(angle), **given))


def found(place: Place, angle: float = 0.0, shown: Sequence[str] = ()) -> list[str]:
    return [candidate.question for candidate in remembered.candidates(place, vector(angle), shown)]


def test_an_answer_for_everybody_is_found_by_others_the_most_similar_first(alice):
    keep(place_of(alice), question="far", angle=0.5)
    keep(place_of(alice), question="near", angle=0.1)
    assert found(place_of(alice, "c2")) == ["near", "far"]


def test_a_customers_own_answer_is_found_by_nobody_else(alice):
    keep(place_of(alice), Scope.CUSTOMER, question="mine")
    assert found(place_of(alice)) == ["mine"]
    assert found(place_of(alice, "c2")) == []


def test_a_segments_answer_stays_in_the_segment(alice):
    keep(place_of(alice, segment="gold"), Scope.SEGMENT, question="for gold")
    assert found(place_of(alice, "c2", segment="gold")) == ["for gold"]
    assert found(place_of(alice, "c3", segment="silver")) == []
    assert found(place_of(alice, "c4")) == []


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["alice", "charlie"]),
        st.sampled_from(["c1", "c2", "c3"]),
        st.sampled_from(["", "gold", "silver"]),
        st.sampled_from(Scope),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=8)
@given(WRITES)
def test_whoever_wrote_what_no_look_up_crosses_customers_segments_or_tenants(django_db_blocker, writes):
    """The same wording everywhere: only whose it is tells them apart."""
    from tests.conftest import empty_tables

    empty_tables()
    shops = {name: open_shop(name, "http://localhost:1") for name in ("alice", "charlie")}
    places = {w: place_of(shops[w[0]], w[1], w[2]) for w in writes}
    for number, write in enumerate(writes):
        keep(places[write], write[3], question=f"same {number}", answer=repr(write))
    for tenant, customer, segment, _ in writes:
        for candidate in remembered.candidates(places[tenant, customer, segment, _], vector()):
            from_tenant, from_customer, from_segment, scope = next(w for w in writes if repr(w) == candidate.answer)
            assert from_tenant == tenant
            if scope is Scope.SEGMENT and from_segment:
                assert from_segment == segment
            elif scope is not Scope.EVERYBODY:  # who is in no segment shares with nobody
                assert from_customer == customer


@pytest.mark.parametrize("change", [{"basis": "other instructions"}, {"records": "other records"}])
def test_an_answer_falls_with_what_it_rests_on(alice, change):
    keep(place_of(alice), Scope.CUSTOMER if "records" in change else Scope.EVERYBODY)
    assert found(place_of(alice))
    assert not found(place_of(alice, **change))


def test_an_answer_falls_with_an_article_that_it_used_and_with_no_other(alice):
    with in_tenant(alice.tenant_id):
        Article.objects.create(
            tenant_id=alice.tenant_id, chatbot_id=alice.chatbot_id, slug="other", title="O", body="o"
        )
    keep(place_of(alice), passages=(RETURNS,))
    with in_tenant(alice.tenant_id):
        Article.objects.filter(slug="other").update(body="changed")
    assert found(place_of(alice))
    with in_tenant(alice.tenant_id):
        Article.objects.filter(slug="returns").update(body="Returns cost $5.")
    assert not found(place_of(alice))
    with in_tenant(alice.tenant_id):
        assert not RememberedAnswer.objects.exists()


def test_an_answer_from_before_an_article_that_is_shown_now_is_not_given(alice):
    """ "We do not know" is wrong from the moment on that an article tells."""
    keep(place_of(alice), question="before")
    with in_tenant(alice.tenant_id):
        tenant = {"tenant_id": alice.tenant_id, "chatbot_id": alice.chatbot_id}
        Article.objects.create(**tenant, slug="new", title="New", body="It tells.", searched_from=3)
        Article.objects.create(**tenant, slug="not-indexed", title="N", body="n")
    keep(place_of(alice), question="after", angle=0.1, knowledge_version=3)
    assert found(place_of(alice)) == found(place_of(alice), shown=["elsewhere"]) == ["before", "after"]
    assert found(place_of(alice), shown=["new"]) == ["after"]
    assert found(place_of(alice), shown=["not-indexed"]) == []


def test_an_answer_to_which_an_article_was_shown_as_it_no_longer_is_is_not_kept(alice):
    """It may have changed while the model wrote, and the index has it as it was until it is made again."""
    with in_tenant(alice.tenant_id):
        body = "\n\n".join(["Returns cost $5. " * 60, "Send them to Oslo. " * 60])
        Article.objects.filter(slug="returns").update(body=body)
    assert keep(place_of(alice), passages=(RETURNS,)) is None
    assert keep(place_of(alice), passages=(Passage("gone", "Gone", "Gone."),)) is None
    assert keep(place_of(alice), passages=(Passage("returns", "Returns", body),))
    assert all(keep(place_of(alice), passages=(Passage("returns", "Returns", text),)) for text in split(body))


def test_an_answer_falls_with_the_strategy_and_with_time(alice):
    keep(place_of(alice), question="old")
    with in_tenant(alice.tenant_id):
        RememberedAnswer.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert not found(place_of(alice))
    assert remembered.forget_old(alice.tenant_id) == 1
    keep(place_of(alice))
    with in_tenant(alice.tenant_id):
        Chatbot.objects.update(live_strategy=None)
    assert remembered.forget_old(alice.tenant_id) == 1


@pytest.mark.parametrize("state", [Turn.State.HANDED_OVER, Turn.State.REFUSED, Turn.State.CANCELLED])
def test_only_the_answer_of_an_answered_turn_is_kept(alice, state):
    assert keep(place_of(alice), turn=answered(place_of(alice), state=state)) is None
    assert keep(place_of(alice), turn=answered(place_of(alice), problem="cut")) is None
    assert not found(place_of(alice))


@pytest.mark.parametrize(
    ("outcome", "checks"), [("served", [(0.99, True)]), ("right", [(0.99, True)]), ("refused", [])]
)
def test_a_vote_against_the_reply_forgets_what_said_it_and_counts_against_memory_alone_where_it_did(
    alice, outcome, checks
):
    place = place_of(alice)
    keep(place)
    caller = alice.caller("c2")
    other = place_of(alice, "c2")
    turn = answered(other)
    [candidate] = remembered.candidates(other, vector())
    remembered.note(other, turn.id, candidate, outcome, 0.99)
    with in_tenant(alice.tenant_id):
        message = Message.objects.create(
            tenant_id=alice.tenant_id,
            conversation=turn.conversation,
            turn=turn,
            role="assistant",
            text="to What?",
            seq=1,
        )
    conversations.set_feedback(caller, message.id, -1)
    assert (not found(place)) == (outcome != "refused")
    assert remembered.checked(place) == checks


def test_an_answer_that_a_check_found_wrong_is_forgotten(alice):
    place = place_of(alice)
    keep(place)
    [candidate] = remembered.candidates(place, vector())
    remembered.note(place, answered(place).id, candidate, MemoryUse.Outcome.WRONG, 0.97)
    assert not found(place)


def test_of_too_many_those_that_save_least_go_and_pinned_ones_stay(alice):
    place = place_of(alice)
    often, pinned, seldom = (keep(place, question=name) for name in ("often", "pinned", "seldom"))
    with in_tenant(alice.tenant_id):
        RememberedAnswer.objects.filter(id=often).update(hits=50)
        RememberedAnswer.objects.filter(id=pinned).update(pinned=True, cost_micros=0)
        Chatbot.objects.update(most_remembered=2)
    assert remembered.forget_old(alice.tenant_id) == 1
    assert sorted(found(place)) == ["often", "pinned"]
    assert seldom is not None


def test_erasing_a_customer_erases_what_was_said_to_them_and_nothing_else(alice):
    keep(place_of(alice), Scope.CUSTOMER, question="mine")
    keep(place_of(alice), question="mine for all")
    keep(place_of(alice, "c2"), question="of another")
    assert remembered.erase(alice.tenant_id, place_of(alice).customer_id) == 2
    assert found(place_of(alice)) == ["of another"]


def test_the_same_question_is_kept_once_in_a_scope(alice):
    keep(place_of(alice), answer="old")
    keep(place_of(alice), answer="new")
    assert [candidate.answer for candidate in remembered.candidates(place_of(alice), vector())] == ["new"]


def test_shared_answers_are_found_by_the_index_of_meanings(alice):
    place = place_of(alice)
    wanted = remembered.wanted(place, vector())
    with in_tenant(alice.tenant_id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        cursor.execute("EXPLAIN " + remembered.FIND, wanted)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "remembered_by_meaning" in plan
