"""What the tenant's articles say about a question, for one turn: the question is read once, then comes the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from django.db import DatabaseError, InterfaceError

from accounts.tenancy import in_db
from cascade import gaps, knowledge
from cascade.conversations import OpenTurn
from cascade.embedder.serving import Reading
from cascade.facts import record_relevance
from cascade.leaning import whole_question
from cascade.material import Material
from cascade.runner import Engine
from cascade.values import Context, Passage
from chatbackend.reporting import report

VECTOR_SECONDS = 0.5  # a question whose vector takes longer is searched by its words alone


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it is searched for, remembered and matched with saved replies."""

    text: str  # with what it leans on
    reading: Reading | None  # None: not in time, there is no encoder, or nothing wants it

    @property
    def vector(self) -> Sequence[float] | None:
        return self.reading.meaning if self.reading else None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was searched for, and how near the best passage came."""

    asked: Asked
    similarity: float | None  # of the best passage; None: no vector, or no passage


async def read(known: Context, material: Material, engine: Engine) -> Asked:
    """The question, read once for all that want it."""
    text, embedder = whole_question(known.question, known.history), engine.embedder
    remembering = engine.memory and material.remembering
    wanted = material.knowledge_version or material.has_saved_replies or remembering
    try:
        reading = await embedder.read(text, deadline_seconds=VECTOR_SECONDS) if embedder and wanted else None
    except Exception as problem:  # whoever wanted it goes on without
        report(problem)
        reading = None
    return Asked(text, reading)


async def look_up(turn: OpenTurn, known: Context, asked: Asked) -> tuple[Context, Lookup]:
    """The context with the passages that were found, and what was searched for."""
    found = await in_db(knowledge.search)(turn.tenant_id, turn.chatbot_id, asked.text, asked.vector)
    passages = tuple(Passage(each.slug, each.title, each.text, each.relevance) for each in found)
    best = max((each.similarity for each in found if each.similarity is not None), default=None)
    return replace(known, passages=passages), Lookup(asked, best)


async def note(turn: OpenTurn, known: Context, lookup: Lookup) -> None:
    """Keep what was searched for; a turn that is over is none the worse where that cannot be."""
    own = any(record_relevance(known.question, known.customer.records))
    keep = in_db(gaps.note)
    told = (turn.tenant_id, turn.chatbot_id, turn.id, lookup.asked.text, lookup.asked.vector, lookup.similarity)
    try:
        await keep(*told, own=own)
    except (DatabaseError, InterfaceError) as problem:
        report(problem)
