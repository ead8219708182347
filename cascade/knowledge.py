"""The tenant's articles as they are searched: the only writer of passages, and the search itself.

Articles are indexed in the background (`index`). What is new is put aside until the whole index is made, then one
transaction switches: until then the old index serves, unchanged, and only what has changed is made anew. A chatbot
that was never indexed has no passages; its articles are put before the models as they are (`cascade.material`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Concat
from pgvector import HalfVector
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from accounts.tenancy import in_db, in_tenant, set_for_transaction
from cascade.embedder import MODEL
from cascade.models import Article, Chatbot, Passage
from cascade.passages import split

MAKER = f"1:{MODEL}"  # another number where passages are made in another way: all are then made anew
ARTICLES_AT_ONCE = 32
MOST_FOUND = 8  # passages of a question
MOST_ASKED = 2000  # characters of a question whose words are looked for
SMALL = 20  # passages; a chatbot that has no more is shown all of them, the best first
WORDS_WEIGHT = 0.2  # of the share of the question's words beside the cosine (bench.retrieval)

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float] | None]]]


class NotEmbedded(RuntimeError):
    """The embedder gave no vector for a passage; the old index goes on serving and the work is done again later."""


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search found, with where it stands among all."""

    slug: str  # of its article
    title: str
    text: str
    relevance: float  # of meaning and words together, for order alone
    similarity: float | None  # cosine with the question; None: the question had no vector


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a chatbot's index."""

    articles: int
    made: int  # of which the passages are there, searched already or put aside
    searched: int  # as they are now

    @property
    def whole(self) -> bool:
        return self.searched == self.articles


# --- the index --------------------------------------------------------------------------------


async def index(tenant_id: UUID, chatbot_id: UUID, embed: Embed) -> None:
    """Bring the chatbot's index up to date. Raises NotEmbedded.

    May die anywhere and be run again: what was put aside is used.
    """
    while batch := await in_db(_unmade)(tenant_id, chatbot_id):
        texts = [_embedded(article, text) for article, pieces in batch for text in pieces]
        vectors = [vector for vector in await embed(texts) if vector is not None]
        if len(vectors) < len(texts):
            raise NotEmbedded
        await in_db(_put_aside)(tenant_id, chatbot_id, batch, vectors)
    await in_db(_switch)(tenant_id, chatbot_id)


def index_soon(chatbot: Chatbot) -> None:
    """In the background, once this transaction is over."""
    deferred("chatbackend.tasks.index_knowledge", chatbot)


def deferred(task: str, chatbot: Chatbot) -> None:
    """The task for this chatbot, unless it waits already; one at a time runs."""
    name = f"{task}:{chatbot.id}"
    with contextlib.suppress(AlreadyEnqueued), transaction.atomic():  # a refused row must not end what is around it
        job = app.configure_task(task, queueing_lock=name, lock=name)
        job.defer(tenant_id=str(chatbot.tenant_id), chatbot_id=str(chatbot.id))


def outdated() -> list[Chatbot]:
    """The tenant's chatbots whose index is not that of their articles. Runs inside `in_tenant`."""
    changed = _articles().filter(chatbot=OuterRef("pk")).exclude(indexed_as=F("wanted"))
    return list(Chatbot.objects.filter(Exists(changed)))


def progress(chatbot: Chatbot) -> Progress:
    with in_tenant(chatbot.tenant_id):
        told = _articles().filter(chatbot=chatbot).aggregate(
            articles=Count("pk"),
            made=Count("pk", filter=Exists(_made())),
            searched=Count("pk", filter=Q(indexed_as=_made_from(F("content_hash")))),
        )  # fmt: skip
    return Progress(**told)


def with_index_state(articles: QuerySet[Any]) -> QuerySet[Any]:
    """With `is_searched`: the index has them as they are now."""
    return articles.annotate(is_searched=ExpressionWrapper(Q(indexed_as=_made_from(F("content_hash"))), BooleanField()))


def _articles() -> QuerySet[Any]:
    """With `wanted`: what `indexed_as` should be."""
    return Article.objects.annotate(wanted=_made_from(F("content_hash")))


def _made() -> QuerySet[Passage]:
    return Passage.objects.filter(article=OuterRef("pk"), made_from=_made_from(OuterRef("content_hash")))


def _made_from(content_hash: Any) -> Concat:
    return Concat(content_hash, Value(f":{MAKER}"), output_field=CharField())


def _unmade(tenant_id: UUID, chatbot_id: UUID) -> list[tuple[Any, list[str]]]:
    """Articles that have no passages of their present text, some, each with the texts of its passages."""
    with in_tenant(tenant_id):
        rows = _articles().filter(~Exists(_made()), chatbot_id=chatbot_id).order_by("id")[:ARTICLES_AT_ONCE]
        return [(article, split(article.body)) for article in rows]


def _embedded(article: Article, text: str) -> str:
    return f"{article.title}\n{text}"


def _put_aside(
    tenant_id: UUID, chatbot_id: UUID, batch: Sequence[tuple[Any, list[str]]], vectors: Iterable[Sequence[float]]
) -> None:
    """Keep the passages; those of an article that was deleted meanwhile are dropped."""
    ready = iter(vectors)
    rows = [
        Passage(
            tenant_id=tenant_id, chatbot_id=chatbot_id, article_id=article.id, made_from=article.wanted,
            position=position, title=article.title, text=text, embedding=list(next(ready)),
        )
        for article, pieces in batch
        for position, text in enumerate(pieces)
    ]  # fmt: skip
    with in_tenant(tenant_id):
        wanted = [article.id for article, _ in batch]
        there = set(Article.objects.select_for_update(no_key=True).filter(id__in=wanted).values_list("id", flat=True))
        Passage.objects.bulk_create([row for row in rows if row.article_id in there], ignore_conflicts=True)


def _switch(tenant_id: UUID, chatbot_id: UUID) -> None:
    """From the old index to the new one, all articles at once; what is not searched any more is deleted."""
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", "120s")  # ten thousand articles may change at once
        chatbot = Chatbot.objects.select_for_update(no_key=True).get(id=chatbot_id)  # new conversations do not wait
        made = _articles().filter(Exists(_made()), chatbot_id=chatbot_id).exclude(indexed_as=F("wanted"))
        switched = made.update(indexed_as=F("wanted"), searched_from=chatbot.knowledge_version + 1)
        kept = Case(When(article__indexed_as=F("made_from"), then=Value(True)), default=Value(False))
        Passage.objects.alias(kept=kept).filter(chatbot_id=chatbot_id, kept=False).delete()
        if switched:
            changed(chatbot_id)


def changed(chatbot_id: UUID) -> None:
    """What is searched for the chatbot is another from now on; its first version is its first index."""
    Chatbot.objects.filter(id=chatbot_id).update(knowledge_version=F("knowledge_version") + 1)


# --- the search ---------------------------------------------------------------------------------

# Row-level security does not let the words' or the vectors' index be used before the tenant is known; a chatbot's
# passages are few enough to be looked at one by one, which finds exactly the nearest.
_SEARCH = """
    WITH searched AS MATERIALIZED (
        SELECT p.id, a.slug, p.title, p.text, p.words, p.position,
            1 - (p.embedding <=> %(vector)s::halfvec) AS similarity
        FROM cascade_passage p JOIN cascade_article a ON a.id = p.article_id AND a.indexed_as = p.made_from
        WHERE p.tenant_id = %(tenant)s AND p.chatbot_id = %(chatbot)s
    ),
    size AS (SELECT count(*) AS passages FROM searched),
    asked AS MATERIALIZED (
        SELECT word, ln(1 + passages::float / greatest(have, 1)) AS weight
        FROM size,
            unnest(tsvector_to_array(to_tsvector('english', %(question)s))) lexeme,
            LATERAL (SELECT quote_literal(lexeme)::tsquery AS word) words,
            LATERAL (SELECT count(*) AS have FROM searched s WHERE s.words @@ word) holders
    ),
    ranked AS (
        SELECT s.*, (SELECT sum(weight) FROM asked WHERE s.words @@ word) / (SELECT sum(weight) FROM asked) AS share
        FROM searched s
    )
    SELECT slug, title, text, similarity,
        coalesce(similarity, 0) + %(words_weight)s::float * coalesce(share, 0) AS relevance
    FROM ranked, size
    WHERE similarity IS NOT NULL OR share IS NOT NULL OR passages <= %(small)s
    ORDER BY relevance DESC, slug, position
    LIMIT CASE WHEN (SELECT passages FROM size) <= %(small)s THEN %(small)s ELSE %(most)s END
"""


def search(
    tenant_id: UUID, chatbot_id: UUID, question: str, vector: Sequence[float] | None, *, most: int = MOST_FOUND
) -> list[Found]:
    """The chatbot's best passages for a question, the best first; all of them where they are no more than `SMALL`.

    By meaning, the cosine of `vector` (the question's; None: by words alone), and by words, the share of the question's
    that a passage has, each weighed by how few have it. Their weighted sum ranks better than the usual fusion of ranks
    (arXiv 2210.11934; `bench.retrieval` prints both).
    """
    wanted: dict[str, Any] = {
        "tenant": tenant_id, "chatbot": chatbot_id, "question": question[:MOST_ASKED].replace("\0", ""), "most": most,
        "vector": HalfVector(list(vector)).to_text() if vector is not None else None, "small": SMALL,
        "words_weight": WORDS_WEIGHT,
    }  # fmt: skip
    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(_SEARCH, wanted)
        names = [column.name for column in cursor.description]
        return [Found(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
