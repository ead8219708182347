"""How a turn is judged follows the tenant's people: its live weights at the next question, and stricter for some."""

from __future__ import annotations

import re
from contextlib import aclosing

import pytest
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.tenancy import in_db, in_tenant
from cascade import scorer_labels
from cascade.models import Conversation, Feedback, Message, ModelCall, ScorerVersion, TurnContext
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from cascade.scorer.pool import Judge, Pool
from cascade.scorer.rows import CONTEXT
from cascade.scorer_tuning import ratings
from cascade.strictness import Expectation, Ratings, stricter, strictness
from chatbackend import chat
from chatbackend.protocol import Send
from tests.cascade.judged_turns import judged_turn, said_of
from tests.cascade.small_scorer import small_weights
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.test_admin import logged_in
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")
QUESTION = "Where is my order?"


@pytest.fixture
def models():
    with ModelServer() as server:
        server.script("small", Reply("Your desk lamp is good."))
        server.script("large", Reply("Your desk lamp is good."))
        yield server


async def ask(shop, caller, models, scorer) -> list[ModelCall]:
    """One question, answered to its end; the calls of its turn."""
    engine = Engine({"openai": OpenAIProvider("key", models.base_url)}, scorer, score_seconds=60)
    async with aclosing(chat.answer(caller, Send(str(uuid7()), None, QUESTION), engine=engine)) as frames:
        assert not [frame.data async for frame in frames if frame.event == "problem"]
    await chat.kept()
    return await in_db(calls_of_latest)(shop)


def calls_of_latest(shop) -> list[ModelCall]:
    with in_tenant(shop.tenant_id):
        calls = list(ModelCall.objects.select_related("turn").exclude(model="").order_by("-turn__created_at", "number"))
        return [call for call in calls if call.turn_id == calls[0].turn_id]


def disappoint(shop, caller, times: int) -> None:
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=caller.customer_id, state="closed"
        )
        for nth in range(times):
            judged_turn(talk, 1, False, 2 * nth + 1)


async def test_a_disappointed_customer_has_stricter_thresholds_and_the_story_says_so(models):
    shop = await in_db(open_shop)("alice", models.base_url, thresholds=(0.7, 0.7), floor=0.7)
    sad, new = await in_db(shop.caller)("sad"), await in_db(shop.caller)("new")
    await in_db(disappoint)(shop, sad, 6)
    scorer = ScriptedScorer({"good": 0.75})
    raised = stricter(0.7, strictness(Ratings(0, 6), Expectation()))
    assert raised > 0.75

    (call,) = await ask(shop, new, models, scorer)
    assert (call.threshold, call.outcome) == (0.7, "accepted")
    assert "stricter_for_this_customer" not in call.turn.context_report

    calls = await ask(shop, sad, models, scorer)
    assert [(call.threshold, call.outcome) for call in calls] == [(raised, "rejected")] * 2
    assert calls[0].turn.state == "handed_over"
    assert "times the chatbot's" in calls[0].turn.context_report["stricter_for_this_customer"]


def test_who_dislikes_a_hand_over_or_a_persons_words_is_not_treated_more_strictly():
    shop = open_shop("alice", "http://127.0.0.1:1")
    caller = shop.caller()
    with in_tenant(shop.tenant_id):
        own = {"tenant_id": shop.tenant_id}
        talk = Conversation.objects.create(**own, chatbot_id=shop.chatbot_id, customer_id=caller.customer_id)
        told = judged_turn(talk, 1, False, 1, state="handed_over").messages.get(role="assistant")
        said = Message.objects.create(**own, conversation=talk, role="staff", text="No.", seq=3)
        for message in (told, said):
            Feedback.objects.create(**own, message=message, rating=-1)
        assert ratings(caller.customer_id) == Ratings()
        judged_turn(talk, 1, False, 5)
        assert ratings(caller.customer_id) == Ratings(good=0, bad=1)


async def test_what_an_answer_was_judged_by_is_kept_with_the_turn(models):
    shop = await in_db(open_shop)("alice", models.base_url)
    scorer = ScriptedScorer({"good": 0.9})
    await ask(shop, await in_db(shop.caller)(), models, scorer)
    (kept,) = await in_db(contexts_of)(shop)
    assert CONTEXT.validate_python(kept.context) == scorer.seen[0][0]


def contexts_of(shop) -> list[TurnContext]:
    with in_tenant(shop.tenant_id):
        return list(TurnContext.objects.all())


async def test_a_promotion_judges_the_next_question_without_a_restart(models, settings, tmp_path):
    settings.VAR = tmp_path
    shipped = small_weights(tmp_path / "shipped")
    shop = await in_db(open_shop)("alice", models.base_url, thresholds=(1e-9, 1e-9), floor=1e-9)
    caller, pool = await in_db(shop.caller)(), PoolOfNames(shipped)
    try:
        await pool.start()
        (before,) = await ask(shop, caller, models, pool)
        assert (before.scorer_version, before.score is not None) == (pool.version, True)
        await in_db(make_live)(shop, "own")
        (after,) = await ask(shop, caller, models, pool)
        await in_db(retire)(shop)
        await ask(shop, caller, models, pool)
    finally:
        await pool.close()
    assert after.scorer_version == pool.version  # the shipped weights stand in until the tenant's own are warm
    assert pool.wanted == [None, tmp_path / "scorers" / "own", None]


class PoolOfNames(Pool):
    """Remembers which weights turns wanted."""

    def __init__(self, shipped) -> None:
        super().__init__(shipped)
        self.wanted: list[object] = []

    def judge(self, scoring) -> Judge:
        self.wanted.append(scoring.folder)
        return super().judge(scoring)


def make_live(shop, folder: str) -> None:
    with in_tenant(shop.tenant_id):
        ScorerVersion.objects.create(tenant_id=shop.tenant_id, weights_version="v1", folder=folder, state="live")


def retire(shop) -> None:
    with in_tenant(shop.tenant_id):
        ScorerVersion.objects.update(state="retired")


async def test_another_tenants_ratings_and_versions_change_nothing(models):
    shop = await in_db(open_shop)("alice", models.base_url, thresholds=(0.7, 0.7))
    other = await in_db(open_shop)("charlie", models.base_url)
    await in_db(disappoint)(other, await in_db(other.caller)(), 8)
    await in_db(make_live)(other, "theirs")
    caller = await in_db(shop.caller)()
    turn = await in_db(chat.conversations.open_turn)(caller, None, "m1", QUESTION, 1)
    assert (turn.material.strictness, turn.material.scoring.folder) == (0.0, None)
    assert [tier.threshold for tier in turn.material.strategy.tiers] == [0.7, 0.5]


def test_a_person_says_that_the_last_reply_was_wrong_and_what_it_should_have_said(models):
    shop = open_shop("alice", models.base_url)
    caller, client = shop.caller(), logged_in((shop, "support"))
    with in_tenant(shop.tenant_id):
        talk = Conversation.objects.create(
            tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer_id=caller.customer_id, last_seq=10
        )
    address = reverse("admin:cascade_conversation_answer", args=[talk.id])
    client.post(address, {"text": said_of(1), "corrects": "on"})
    assert "has not replied here yet" in story_of(client, talk)
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 1, False, 1, rating=None)
    read = story_of(client, talk)
    wrong = re.search('name="corrects" value="([^"]+)"', read)[1]
    client.post(address, {"text": said_of(1), "corrects": wrong})
    assert "corrects the chatbot's reply" in story_of(client, talk)
    found = {(label.kind, label.answer, label.good) for label in scorer_labels.labels(shop.tenant_id)}
    assert found == {("reply", said_of(2), False), ("correction", said_of(1), True)}
    with in_tenant(shop.tenant_id):
        judged_turn(talk, 1, True, 20, rating=None)  # the page that was read does not show it
        before = talk.messages.count()
    client.post(address, {"text": said_of(1), "corrects": wrong})
    assert "has replied again meanwhile" in story_of(client, talk)
    with in_tenant(shop.tenant_id):
        assert talk.messages.count() == before


def story_of(client, talk) -> str:
    return client.get(reverse("admin:cascade_conversation_change", args=[talk.id])).content.decode()


@pytest.mark.parametrize("role", ["owner", "analyst", "support"])
def test_who_reads_the_books_sees_the_scorers_life_and_nobody_changes_it_by_hand(role):
    shop = open_shop("alice", "http://127.0.0.1:1")
    make_live(shop, "own")
    client = logged_in((shop, role))
    for name in ("scorerversion", "shadowscore", "scorercalibration"):
        assert client.get(reverse(f"admin:cascade_{name}_changelist")).status_code == (
            403 if role == "support" else 200
        )
        assert client.get(reverse(f"admin:cascade_{name}_add")).status_code == 403
    with in_tenant(shop.tenant_id):
        version = ScorerVersion.objects.get()
    page = client.get(reverse("admin:cascade_scorerversion_change", args=[version.id]))
    assert page.status_code == (403 if role == "support" else 200)
    assert ("cannot judge any more" in page.content.decode()) is (role != "support")  # its files are missing here
    assert client.post(reverse("admin:cascade_scorerversion_change", args=[version.id]), {}).status_code == 403
    shipped = client.get(reverse("admin:cascade_scorer_shipped"))
    assert shipped.status_code == page.status_code
    assert ("right for another customer, wrong for this one" in shipped.content.decode()) is (role != "support")
