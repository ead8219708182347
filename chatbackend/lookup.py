"""What the tenant's articles say about a question, for one turn: the question's vector, then the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.db import DatabaseError, InterfaceError

from accounts.tenancy import in_db
from cascade import gaps, knowledge
from cascade.conversations import OpenTurn
from cascade.facts import record_relevance
from cascade.leaning import whole_question
from cascade.runner import Embedder
from cascade.values import Context, Passage
from chatbackend.reporting import report

VECTOR_SECONDS = 0.5  # a question whose vector takes longer is searched by its words alone


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was searched for, and how near the best passage came."""

    question: str  # with what it leans on
    vector: Sequence[float] | None  # None: not in time
    similarity: float | None  # of the best passage; None: no vector, or no passage


async def look_up(turn: OpenTurn, known: Context, embedder: Embedder | None) -> tuple[Context, Lookup]:
    """The context with the passages that were found, and what was searched for."""
    question = whole_question(known.question, known.history)
    vector = await embedder.embed(question, deadline_seconds=VECTOR_SECONDS) if embedder else None
    found = await in_db(knowledge.search)(turn.tenant_id, turn.chatbot_id, question, vector)
    passages = tuple(Passage(each.slug, each.title, each.text, each.relevance) for each in found)
    best = max((each.similarity for each in found if each.similarity is not None), default=None)
    return replace(known, passages=passages), Lookup(question, vector, best)


async def note(turn: OpenTurn, known: Context, lookup: Lookup) -> None:
    """Keep what was searched for; a turn that is over is none the worse where that cannot be."""
    own = any(record_relevance(known.question, known.customer.records))
    keep = in_db(gaps.note)
    told = (turn.tenant_id, turn.chatbot_id, turn.id, lookup.question, lookup.vector, lookup.similarity)
    try:
        await keep(*told, own=own)
    except (DatabaseError, InterfaceError) as problem:
        report(problem)
