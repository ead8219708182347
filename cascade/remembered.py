"""The only writer of remembered answers: found by meaning, kept, checked and forgotten.

Tenant and chatbot stand in every statement, on top of row-level security; whose an answer is stands in the WHERE of
the look-up itself. Functions are plain and synchronous; from the event loop they are called through `in_db`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from django.utils import timezone
from pgvector import HalfVector

from accounts.tenancy import in_tenant
from cascade.material import dearest_cost
from cascade.memory.scope import Scope
from cascade.models import Article, Chatbot, MemoryUse, Message, ModelCall, RememberedAnswer, Turn
from cascade.passages import split
from cascade.values import Outcome, Passage

CANDIDATES = 8  # of each kind, own and shared, that the hit rule looks at
OWN_FOR = timedelta(hours=1)  # a personal answer is not given again later, nor on another day
MOST_CHECKS = 1000  # of hits, the latest, that tell how sure to be
WAIT = "7 days"  # a new answer is given so long to show what it saves
# In a list as long as this, the nearest of 99 in 100 questions is found; in a scope of few, the scan goes on.
BREADTH = "SET LOCAL hnsw.ef_search = 100; SET LOCAL hnsw.iterative_scan = 'relaxed_order'"

_COLUMNS = (
    "id, question, answer, embedding::text AS vector, answer_embedding::text AS answer_vector, general, articles,"
    " cost_micros, dearest_micros, customer_id"
)
_ALIVE = """
    tenant_id = %(tenant)s AND chatbot_id = %(chatbot)s AND strategy_id = %(strategy)s
    AND (pinned OR expires_at > now()) AND knowledge_version >= %(newest)s AND articles ?& %(unsearched)s
"""
FIND = f"""
    WITH own AS MATERIALIZED (
        SELECT {_COLUMNS}, embedding <=> %(vector)s::halfvec AS distance FROM cascade_rememberedanswer
        WHERE {_ALIVE} AND customer_id = %(customer)s AND basis = %(own_basis)s
        ORDER BY 11 LIMIT %(most)s
    ),
    shared AS MATERIALIZED (
        SELECT {_COLUMNS}, embedding <=> %(vector)s::halfvec AS distance FROM cascade_rememberedanswer
        WHERE {_ALIVE} AND customer_id IS NULL AND segment IN ('', %(segment)s) AND basis = %(basis)s
        ORDER BY embedding <=> %(vector)s::halfvec LIMIT %(most)s
    )
    SELECT * FROM own UNION ALL SELECT * FROM shared ORDER BY 11
"""  # noqa: S608  (constants of this file)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: nothing outside it is ever found."""

    tenant_id: UUID
    chatbot_id: UUID
    strategy_id: UUID
    customer_id: UUID
    segment: str
    basis: str  # what an answer for several rests on today (`memory.scope.basis`)
    own_basis: str  # and one of this customer's own


@dataclass(frozen=True, slots=True)
class Candidate:
    id: UUID
    question: str
    answer: str
    vector: Sequence[float]  # of `question`
    answer_vector: Sequence[float]
    general: float  # log odds that `question` is nobody's own
    personal: bool  # of this customer alone
    similarity: float  # cosine of the two questions
    cost_micros: int
    dearest_micros: int


def candidates(place: Place, vector: Sequence[float], shown: Collection[str] = ()) -> list[Candidate]:
    """What may be given to this customer of what was answered before, the most similar question first.

    `shown`: slugs of the articles that are put before the models now. Whoever was answered before one of them was
    there, or as it is, may have been told less. Those that used an article which has changed are forgotten on the way;
    what lay behind them is found next time.
    """
    with in_tenant(place.tenant_id):
        found = rows(place, vector, *_news(place.chatbot_id, shown))
        now = article_hashes(place.chatbot_id, {slug for row in found for slug in row["articles"]})
        stale = [row["id"] for row in found if any(now.get(slug) != was for slug, was in row["articles"].items())]
        if stale:
            _of(place.tenant_id, place.chatbot_id).filter(id__in=stale).delete()
        return [_candidate(row) for row in found if row["id"] not in stale]


def _news(chatbot_id: UUID, shown: Collection[str]) -> tuple[int, list[str]]:
    """The knowledge version that brought the latest of these articles, and those that no version has yet."""
    since = dict(Article.objects.filter(chatbot_id=chatbot_id, slug__in=shown).values_list("slug", "searched_from"))
    unsearched = [slug for slug, version in since.items() if version is None]
    return max((version for version in since.values() if version is not None), default=0), unsearched


def wanted(place: Place, vector: Sequence[float], newest: int = 0, unsearched: Sequence[str] = ()) -> dict[str, Any]:
    """What `FIND` asks for: nothing from before the version `newest`, nor without the articles `unsearched`."""
    return {
        "tenant": place.tenant_id,
        "chatbot": place.chatbot_id,
        "strategy": place.strategy_id,
        "customer": place.customer_id,
        "segment": place.segment,
        "basis": place.basis,
        "own_basis": place.own_basis,
        "vector": HalfVector(list(vector)).to_text(),
        "most": CANDIDATES,
        "newest": newest,
        "unsearched": list(unsearched),
    }


def rows(
    place: Place, vector: Sequence[float], newest: int = 0, unsearched: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The nearest of what may be given here, by nothing but the database. Runs inside `in_tenant`."""
    with connection.cursor() as cursor:
        cursor.execute(BREADTH)
        cursor.execute(FIND, wanted(place, vector, newest, unsearched))
        names = [column.name for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [row | {"articles": json.loads(row["articles"])} for row in found]


def _candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(
        id=row["id"],
        question=row["question"],
        answer=row["answer"],
        vector=HalfVector.from_text(row["vector"]).to_list(),
        answer_vector=HalfVector.from_text(row["answer_vector"]).to_list(),
        general=row["general"],
        personal=row["customer_id"] is not None,
        similarity=1 - row["distance"],
        cost_micros=row["cost_micros"],
        dearest_micros=row["dearest_micros"],
    )


def article_hashes(chatbot_id: UUID, slugs: set[str]) -> dict[str, str]:
    """What the named articles say now; one that is gone is not in it."""
    if not slugs:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slug, md5(title || chr(10) || body) FROM cascade_article WHERE chatbot_id = %s AND slug = ANY(%s)",
            [chatbot_id, sorted(slugs)],
        )
        return dict(cursor.fetchall())


# --- what is kept ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keep:
    """An accepted answer, and to whom it may be given again."""

    turn_id: UUID
    scope: Scope
    question: str
    vector: Sequence[float]
    answer: str
    answer_vector: Sequence[float]
    general: float
    passages: tuple[Passage, ...]  # that were before the model
    knowledge: str
    knowledge_version: int = 0  # of the chatbot before they were looked for


def keep(place: Place, kept: Keep) -> UUID | None:
    """The new answer's id; it takes the place of an older one to the same question, in the same scope.

    None: the turn's answer must not be kept. It was not accepted (a person answers, it was filtered, cut or voted
    down), its call is not on record, or an article says something else by now (the index may still have it as it was).
    """
    with in_tenant(place.tenant_id):
        call, articles = _accepted(kept.turn_id), _still_said(place.chatbot_id, kept.passages)
        if call is None or call.score is None or call.turn.strategy_id != place.strategy_id or articles is None:
            return None
        personal = kept.scope is Scope.CUSTOMER or (kept.scope is Scope.SEGMENT and not place.segment)
        whose = {
            "customer_id": place.customer_id if personal else None,
            "segment": place.segment if kept.scope is Scope.SEGMENT else "",
        }
        _of(place.tenant_id, place.chatbot_id).filter(question=kept.question, pinned=False, **whose).delete()
        made = RememberedAnswer.objects.create(
            tenant_id=place.tenant_id,
            chatbot_id=place.chatbot_id,
            **whose,
            question=kept.question,
            embedding=HalfVector(list(kept.vector)),
            answer=kept.answer,
            answer_embedding=HalfVector(list(kept.answer_vector)),
            turn_id=kept.turn_id,
            model=call.model,
            score=call.score,
            scorer_version=call.scorer_version,
            strategy_id=place.strategy_id,
            general=kept.general,
            basis=place.own_basis if personal else place.basis,
            articles=articles,
            knowledge=kept.knowledge,
            knowledge_version=kept.knowledge_version,
            cost_micros=call.turn.calls.aggregate(cost=Sum("cost_micros"))["cost"] or 0,
            dearest_micros=dearest_cost(call).micros,
            expires_at=timezone.now() + _lifetime(place.chatbot_id, personal=personal),
        )
        return made.id


def _accepted(turn_id: UUID) -> ModelCall | None:
    calls = ModelCall.objects.select_related("turn__strategy").filter(turn_id=turn_id, outcome=Outcome.ACCEPTED)
    calls = calls.filter(tier__gte=0, turn__state=Turn.State.ANSWERED, turn__problem="")
    return calls.exclude(turn__messages__feedback__rating=-1).first()


def _still_said(chatbot_id: UUID, passages: Sequence[Passage]) -> dict[str, str] | None:
    """Hashes of the passages' articles, by slug; None: one of them does not say its passage now."""
    articles = Article.objects.filter(chatbot_id=chatbot_id, slug__in={passage.source_id for passage in passages})
    now = {article.slug: article for article in articles}
    for passage in passages:
        article = now.get(passage.source_id)
        if article is None or passage.title != article.title:
            return None
        if passage.text != article.body and passage.text not in split(article.body):
            return None
    return {slug: article.content_hash for slug, article in now.items()}


def _lifetime(chatbot_id: UUID, *, personal: bool) -> timedelta:
    whole: timedelta = Chatbot.objects.values_list("remembered_for", flat=True).get(id=chatbot_id)
    return min(whole, OWN_FOR) if personal else whole


# --- what came of it --------------------------------------------------------------------------------


def note(place: Place, turn_id: UUID, candidate: Candidate, outcome: str, confidence: float) -> None:
    """A question that `candidate` could answer. One that turned out wrong is forgotten at once."""
    served = outcome == MemoryUse.Outcome.SERVED
    with in_tenant(place.tenant_id):
        known = _of(place.tenant_id, place.chatbot_id).filter(id=candidate.id)
        MemoryUse.objects.create(
            tenant_id=place.tenant_id,
            remembered=known.first(),
            turn_id=turn_id,
            outcome=outcome,
            similarity=candidate.similarity,
            confidence=confidence,
            saved_micros=candidate.cost_micros if served else 0,
            dearest_micros=candidate.dearest_micros if served else 0,
        )
        if served:
            known.update(hits=F("hits") + 1, last_hit_at=timezone.now())
        elif outcome == MemoryUse.Outcome.WRONG:
            known.delete()


def voted_down(message: Message) -> None:
    """A customer does not think the reply good: what is remembered of it is forgotten. Runs inside `in_tenant`."""
    if message.turn_id is None:  # staff wrote it unasked
        return
    said_it = (MemoryUse.Outcome.SERVED, MemoryUse.Outcome.RIGHT)
    uses = MemoryUse.objects.filter(turn_id=message.turn_id, outcome__in=said_it)
    wrong = Q(turn_id=message.turn_id) | Q(id__in=list(uses.values_list("remembered_id", flat=True)))
    _of(message.tenant_id, message.conversation.chatbot_id).filter(wrong).delete()
    uses.update(outcome=MemoryUse.Outcome.WRONG, saved_micros=0, dearest_micros=0)


def checked(place: Place) -> list[tuple[float, bool]]:
    """Confidence of each of the chatbot's last hits that were checked, and whether it was wrong."""
    known = (MemoryUse.Outcome.RIGHT, MemoryUse.Outcome.WRONG)
    with in_tenant(place.tenant_id):
        uses = MemoryUse.objects.filter(tenant_id=place.tenant_id, turn__conversation__chatbot_id=place.chatbot_id)
        uses = uses.filter(outcome__in=known).order_by("-created_at")[:MOST_CHECKS]
        return [(use.confidence, use.outcome == MemoryUse.Outcome.WRONG) for use in uses]


# --- what is forgotten --------------------------------------------------------------------------------


def _of(tenant_id: UUID, chatbot_id: UUID) -> QuerySet[RememberedAnswer]:
    return RememberedAnswer.objects.filter(tenant_id=tenant_id, chatbot_id=chatbot_id)


def forget_old(tenant_id: UUID) -> int:
    """What is past its time or its strategy, and of too many answers those that save least; how many."""
    with in_tenant(tenant_id):
        late = Q(pinned=False, expires_at__lte=timezone.now()) | ~Q(strategy=F("chatbot__live_strategy"))
        gone = RememberedAnswer.objects.filter(late, tenant_id=tenant_id).delete()[0]
        crowded = Chatbot.objects.annotate(known=Count("remembered")).filter(known__gt=F("most_remembered"))
        return gone + sum(_evict(tenant_id, bot.id, bot.known - bot.most_remembered) for bot in crowded)


def _evict(tenant_id: UUID, chatbot_id: UUID, surplus: int) -> int:
    """Forget the `surplus` answers that are expected to save least a day: what one costs, by how often it is asked."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM cascade_rememberedanswer WHERE id IN (
                SELECT id FROM cascade_rememberedanswer WHERE tenant_id = %s AND chatbot_id = %s AND NOT pinned
                ORDER BY (cost_micros + 1) * (hits + 1) / extract(epoch FROM now() - created_at + %s::interval),
                    created_at
                LIMIT %s
            )
            """,
            [tenant_id, chatbot_id, WAIT, surplus],
        )
        return cursor.rowcount


def forget(chatbot: Chatbot, *conditions: Q, **equal: Any) -> int:
    """Those of the chatbot's answers that a person chose; how many. Runs inside `in_tenant`."""
    return _of(chatbot.tenant_id, chatbot.id).filter(*conditions, **equal).only("pk").delete()[0]


def erase(tenant_id: UUID, customer_id: UUID) -> int:
    """Forget every answer that was given to this customer, for whomever it was kept, with its vector; how many."""
    with in_tenant(tenant_id):
        theirs = Q(customer_id=customer_id) | Q(turn__conversation__customer_id=customer_id)
        return RememberedAnswer.objects.filter(theirs, tenant_id=tenant_id).only("pk").delete()[0]
