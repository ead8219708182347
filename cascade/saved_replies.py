"""Saved replies: matched to a question by meaning, filled from this customer's record, proposed from accepted answers.

What is found here is a candidate like a model's draft: the scorer judges it for this customer before it is shown.
Functions are plain and synchronous; from the event loop they are called through `in_db`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone
from pgvector.django import CosineDistance

from accounts.tenancy import in_db, in_tenant
from cascade import knowledge, placeholders
from cascade.models import Chatbot, ExampleQuestion, Feedback, Message, SavedReply, Turn
from cascade.scorer.rows import CONTEXT
from cascade.values import Context

ALIKE = 0.75  # cosine of a question and the example nearest to it, at least
APART = 0.10  # and it is so much nearer than any example of another reply
NEIGHBOURS = 50  # examples that are looked at
AT_ONCE = 64  # texts that are embedded together
LEAST_SAID = 3  # customers who were told the same, before it is proposed
MOST_READ = 1000  # accepted answers that proposals are made from, the newest
MOST_EXAMPLES = 8  # of a proposal
SINCE = timedelta(days=30)

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float] | None]]]


@dataclass(frozen=True, slots=True)
class Match:
    """A saved reply for this question and customer."""

    reply_id: UUID
    name: str
    text: str  # filled
    similarity: float


def match(
    tenant_id: UUID, chatbot_id: UUID, vector: Sequence[float], context: Context, stale_after: timedelta
) -> Match | None:
    """The reply whose examples are clearly nearest to the question, filled; None: there is none.

    None too where a placeholder has no value, or it is unclear which record is meant.
    """
    with in_tenant(tenant_id):
        examples = ExampleQuestion.objects.filter(
            tenant_id=tenant_id, reply__chatbot_id=chatbot_id, reply__state=SavedReply.State.APPROVED
        )
        near = examples.exclude(embedding=None).annotate(distance=CosineDistance("embedding", list(vector)))
        found = list(near.select_related("reply").order_by("distance")[:NEIGHBOURS])
    if not found:
        return None
    reply, similarity = found[0].reply, 1 - found[0].distance
    others = (1 - each.distance for each in found if each.reply_id != reply.id)
    if similarity < ALIKE or similarity - max(others, default=-1.0) < APART:
        return None
    try:
        return Match(reply.id, reply.name, placeholders.fill(reply.text, context, stale_after), similarity)
    except (placeholders.NoValue, placeholders.BadPlaceholder):
        return None


def given(tenant_id: UUID, reply_id: UUID) -> None:
    """It was shown to a customer."""
    with in_tenant(tenant_id):
        SavedReply.objects.filter(id=reply_id).update(given=F("given") + 1)


# --- the examples' vectors, in the background ------------------------------------------------------


def put_examples(reply: SavedReply, texts: Sequence[str]) -> None:
    """The reply answers these questions and no others; those that are new are matched once they have a vector.

    Runs inside `in_tenant`.
    """
    reply.examples.exclude(text__in=texts).delete()
    known = set(reply.examples.values_list("text", flat=True))
    new = [text for text in dict.fromkeys(texts) if text not in known]
    ExampleQuestion.objects.bulk_create(
        ExampleQuestion(tenant_id=reply.tenant_id, reply=reply, text=text) for text in new
    )
    knowledge.deferred("chatbackend.tasks.index_knowledge", reply.chatbot)


async def embed_examples(tenant_id: UUID, embed: Embed) -> None:
    """Give each example question that has none a vector; those that cannot have one now are tried again later."""
    while batch := await in_db(_without_vector)(tenant_id):
        vectors = await embed([text for _, text in batch])
        ready = [(id, vector) for (id, _), vector in zip(batch, vectors, strict=True) if vector is not None]
        await in_db(_keep_vectors)(tenant_id, ready)
        if len(ready) < len(batch):
            raise knowledge.NotEmbedded


def chatbots_waiting() -> list[Chatbot]:
    """The tenant's chatbots with an example question that has no vector yet. Runs inside `in_tenant`."""
    return list(
        Chatbot.objects.filter(
            saved_replies__examples__embedding=None, saved_replies__examples__isnull=False
        ).distinct()
    )


def _without_vector(tenant_id: UUID) -> list[tuple[UUID, str]]:
    with in_tenant(tenant_id):
        return list(ExampleQuestion.objects.filter(embedding=None).values_list("id", "text")[:AT_ONCE])


def _keep_vectors(tenant_id: UUID, vectors: Sequence[tuple[UUID, Sequence[float]]]) -> None:
    with in_tenant(tenant_id):
        rows = [ExampleQuestion(id=id, embedding=list(vector)) for id, vector in vectors]
        ExampleQuestion.objects.bulk_update(rows, ["embedding"])


# --- proposals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    customer_id: UUID
    question: str  # "": it names what is the customer's own, and is shown to nobody
    text: str  # with placeholders for the customer's own values


def propose(tenant_id: UUID) -> int:
    """Propose what so many customers were told in the same words, their own values aside; how many are new.

    Only answers that were accepted, shown and not voted down count. A member of staff approves or retires a proposal;
    what was retired is not proposed again.
    """
    with in_tenant(tenant_id):
        return sum(_propose_for(chatbot) for chatbot in Chatbot.objects.all())


def _propose_for(chatbot: Chatbot) -> int:
    known = {_normal(text) for text in SavedReply.objects.filter(chatbot=chatbot).values_list("text", flat=True)}
    told: dict[str, list[_Said]] = defaultdict(list)
    for said in _said(chatbot):
        told[_normal(said.text)].append(said)
    new, room = 0, SavedReply.MOST - SavedReply.objects.count()
    for normal, same in told.items():
        if normal not in known and len({said.customer_id for said in same}) >= LEAST_SAID:
            if new >= room:
                break
            _add(chatbot, same)
            new += 1
    return new


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _said(chatbot: Chatbot) -> list[_Said]:
    replies = Message.objects.filter(
        role=Message.Role.ASSISTANT,
        turn__state=Turn.State.ANSWERED,
        turn__calls__outcome="accepted",
        turn__context__isnull=False,
        conversation__chatbot=chatbot,
        created_at__gte=timezone.now() - SINCE,
    ).exclude(id__in=Feedback.objects.filter(rating=-1).values("message_id"))
    rows = replies.select_related("turn__context", "conversation").distinct().order_by("-created_at")[:MOST_READ]
    return [_generalised(row) for row in rows]


def _generalised(row: Any) -> _Said:
    context = CONTEXT.validate_python(row.turn.context.context)
    text = placeholders.with_placeholders(row.text, context)
    own = placeholders.with_placeholders(context.question, context) != context.question
    return _Said(row.conversation.customer_id, "" if own else context.question, text)


def _add(chatbot: Chatbot, same: list[_Said]) -> None:
    questions = list(dict.fromkeys(said.question[:500] for said in same if said.question))[:MOST_EXAMPLES]
    name = (questions or [same[0].text])[0][:80]
    if SavedReply.objects.filter(chatbot=chatbot, name=name).exists():
        name = f"{name} ({timezone.now():%Y-%m-%d %H:%M:%S})"[:100]
    reply = SavedReply.objects.create(
        tenant_id=chatbot.tenant_id,
        chatbot=chatbot,
        name=name,
        text=same[0].text,
        state=SavedReply.State.PROPOSED,
        proposed_from=len(same),
    )
    ExampleQuestion.objects.bulk_create(
        ExampleQuestion(tenant_id=chatbot.tenant_id, reply=reply, text=question) for question in questions
    )
