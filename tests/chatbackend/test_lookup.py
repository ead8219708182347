"""A turn rests on the passages that were found for it, and names the articles that stand behind its reply."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync

from accounts.tenancy import in_db, in_tenant
from cascade import knowledge
from cascade.embedder.serving import Reading
from cascade.leaning import whole_question
from cascade.models import Article, Turn
from cascade.providers import OpenAIProvider
from cascade.runner import Engine
from cascade.values import Utterance
from tests.cascade.test_knowledge import Embedding, vector
from tests.cast import ScriptedScorer, open_shop
from tests.chatbackend.test_chat import ask
from tests.model_server import ModelServer, Reply

pytestmark = pytest.mark.usefixtures("database")


class Embedder:
    """`vector`, or none in time."""

    def __init__(self, *, late: bool = False) -> None:
        self.late, self.asked = late, list[str]()

    async def read(self, text: str, *, deadline_seconds: float):
        self.asked.append(text)
        return None if self.late else Reading(vector(text), vector(""))


@pytest.fixture
def models():
    with ModelServer() as server:
        yield server


@pytest.fixture
def alice(models):
    shop = open_shop("alice", models.base_url)
    with in_tenant(shop.tenant_id):
        Article.objects.bulk_create(
            Article(tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, slug=f"bulb-{number}", title=f"Bulb {number}",
                    body=f"Bulb number {number} shines for {number} thousand hours.")
            for number in range(60)
        )  # fmt: skip
    async_to_sync(knowledge.index)(shop.tenant_id, shop.chatbot_id, Embedding())
    return shop


def engine(models, embedder=None) -> tuple[Engine, ScriptedScorer]:
    scorer = ScriptedScorer({"": 0.9})
    return Engine({"openai": OpenAIProvider("key", models.base_url)}, scorer, embedder=embedder), scorer


def sources(frames) -> list[tuple[str, str]]:
    chunks = [frame.data for frame in frames if frame.event == "stream.chunk"]
    return [(chunk["sourceId"], chunk["title"]) for chunk in chunks if chunk["type"] == "source-document"]


async def test_the_best_passages_are_put_before_the_model_and_the_scorer(models, alice):
    models.script("*", Reply("They are free."))
    embedder = Embedder()
    built, scorer = engine(models, embedder)
    await ask(await in_db(alice.caller)(), "Are returns free?", engine=built)
    assert embedder.asked == ["Are returns free?"]
    prompt = models.calls[0].body["messages"][0]["content"]
    assert "Returns are free for 30 days." in prompt
    assert prompt.count("shines") < 10
    shown = [passage.source_id for passage in scorer.seen[0][0].passages]
    assert shown[0] == "returns"
    assert len(shown) == knowledge.MOST_FOUND


@pytest.mark.parametrize("embedder", [None, Embedder(late=True)])
async def test_without_a_vector_in_time_words_alone_find_the_passages(models, alice, embedder):
    models.script("*", Reply("They are free."))
    built, scorer = engine(models, embedder)
    await ask(await in_db(alice.caller)(), "Are returns free?", engine=built)
    assert scorer.seen[0][0].passages[0].source_id == "returns"


async def test_a_reply_names_the_articles_behind_it_and_no_others(models, alice):
    models.script("*", Reply("Returns are free for 30 days."))
    frames = await ask(await in_db(alice.caller)(), "Are returns possible?", engine=engine(models, Embedder())[0])
    assert sources(frames) == [("returns", "Returns")]
    types = [frame.data["type"] for frame in frames if frame.event == "stream.chunk"]
    assert types[-3:] == ["text-end", "source-document", "finish"]
    assert (await in_db(turns)(alice))[0].context_report["sources"] == ["returns"]


async def test_a_reply_from_the_customers_own_record_names_no_article(models, alice):
    models.script("*", Reply("Your desk lamp has been shipped and should arrive on 2026-11-25."))
    frames = await ask(await in_db(alice.caller)(), "Where is my order?", engine=engine(models, Embedder())[0])
    assert sources(frames) == []


async def test_before_there_is_an_index_the_articles_are_shown_as_they_are(models):
    shop = await in_db(open_shop)("bert", models.base_url)
    models.script("*", Reply("They are free."))
    embedder = Embedder()
    built, scorer = engine(models, embedder)
    await ask(await in_db(shop.caller)(), "Are returns free?", engine=built)
    assert embedder.asked == []
    assert [passage.source_id for passage in scorer.seen[0][0].passages] == ["returns"]


def turns(shop):
    with in_tenant(shop.tenant_id):
        return list(Turn.objects.all())


def test_a_question_that_leans_on_the_one_before_is_searched_with_it():
    talk = [Utterance("customer", "How long is the warranty?"), Utterance("assistant", "2 years.")]
    assert whole_question("And for Plus members?", talk) == "How long is the warranty? And for Plus members?"
    assert whole_question("What does express shipping cost me?", talk) == "What does express shipping cost me?"
    assert whole_question("And for Plus members?", []) == "And for Plus members?"


def test_two_turns_at_once_find_each_their_own(models, alice):
    models.script("*", Reply("Good."))
    built, scorer = engine(models, Embedder())

    async def both():
        callers = [await in_db(alice.caller)(name) for name in ("c1", "c2")]
        questions = ("Are returns free?", "How long does bulb number 7 shine?")
        await asyncio.gather(*(ask(c, q, engine=built) for c, q in zip(callers, questions, strict=True)))

    async_to_sync(both)()
    first = {context.question: context.passages[0].source_id for context, _ in scorer.seen}
    assert first == {"Are returns free?": "returns", "How long does bulb number 7 shine?": "bulb-7"}
