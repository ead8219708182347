"""What customers ask and no article answers: the only writer of `Lookup`, and a report to write articles from.

A question is a gap where no passage came near it and it is not about the customer's own records, or where every
model's answer was too poor, so that a person had to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade.embedder import SIZE
from cascade.models import Lookup, Turn

NEAR = 0.3  # cosine of question and passage; below it nothing was found
ALIKE = 0.6  # cosine of two questions that one article would answer
REMEMBERED = timedelta(days=60)
MOST = 1000  # gaps that are looked at, the newest
SHOWN_QUESTIONS = 5  # of a group


@dataclass(frozen=True, slots=True)
class Gap:
    """Questions that ask about the same, most like each other first."""

    questions: tuple[str, ...]  # at most SHOWN_QUESTIONS, no two the same
    asked: int  # times
    handed_over: int  # of which a person had to answer
    last: datetime
    chatbot_id: UUID

    @property
    def title(self) -> str:
        """Of the article to be written, until somebody finds a better one."""
        return self.questions[0][:1].upper() + self.questions[0][1:200]

    @property
    def outline(self) -> str:
        return "Customers ask:\n" + "\n".join(f"- {question[:300]}" for question in self.questions)


def note(
    tenant_id: UUID, chatbot_id: UUID, turn_id: UUID, question: str, vector: Sequence[float] | None,
    similarity: float | None, *, own: bool,
) -> None:  # fmt: skip
    """Keep what was searched for, once a turn."""
    told = {
        "tenant_id": tenant_id, "chatbot_id": chatbot_id, "question": question, "similarity": similarity, "own": own,
        "embedding": list(vector) if vector is not None else None,
    }  # fmt: skip
    with in_tenant(tenant_id):
        Lookup.objects.get_or_create(turn_id=turn_id, defaults=told)


def forget(tenant_id: UUID) -> None:
    with in_tenant(tenant_id):
        Lookup.objects.filter(created_at__lt=timezone.now() - REMEMBERED).delete()


def found() -> QuerySet[Lookup]:
    """The tenant's gaps. Runs inside `in_tenant`."""
    far = Q(similarity__lt=NEAR, own=False)
    poor = Q(turn__state=Turn.State.HANDED_OVER, turn__problem="below_floor")
    return Lookup.objects.filter(far | poor).order_by("-created_at")


def report() -> list[Gap]:
    """The tenant's gaps grouped by meaning, the most asked first. Runs inside `in_tenant`.

    Each question, newest first, joins the group whose first question it is most like, from `ALIKE` on, or begins one.
    """
    groups: list[list[Lookup]] = []
    leaders = np.zeros((MOST, SIZE), np.float32)
    for lookup in found().exclude(embedding=None).select_related("turn")[:MOST]:
        vector = np.asarray(lookup.embedding, np.float32)
        vector /= np.linalg.norm(vector) or 1.0
        alike = leaders[: len(groups)] @ vector
        alike[[group[0].chatbot_id != lookup.chatbot_id for group in groups]] = -1.0
        if groups and alike.max() >= ALIKE:
            groups[int(alike.argmax())].append(lookup)
        else:
            leaders[len(groups)] = vector
            groups.append([lookup])
    return sorted(map(_gap, groups), key=lambda gap: (-gap.asked, -gap.last.timestamp()))


def _gap(group: list[Lookup]) -> Gap:
    questions = tuple(dict.fromkeys(lookup.question for lookup in group))[:SHOWN_QUESTIONS]
    over = sum(lookup.turn.state == Turn.State.HANDED_OVER for lookup in group)
    return Gap(questions, len(group), over, group[0].created_at, group[0].chatbot_id)
