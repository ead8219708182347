"""What is said, and the frames that say so: stored here before any socket sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from uuid_utils.compat import uuid7

from accounts import webhooks
from accounts.tenancy import in_tenant
from cascade.models import Conversation, Event, Message, Turn

CHANNEL = "conversation_events"


def events_after(tenant_id: UUID, conversation_id: UUID, after_seq: int, limit: int = 500) -> list[dict[str, Any]]:
    """Stored frames with seq > `after_seq`, in order: {"seq", "event", "message_id", "reply_to", "data"}."""
    with in_tenant(tenant_id):
        rows = Event.objects.filter(conversation_id=conversation_id, last_seq__gt=after_seq)
        frames = [frame for row in rows.order_by("first_seq")[:limit] for frame in numbered(row.frames, row.first_seq)]
    return [frame for frame in frames if frame["seq"] > after_seq][:limit]


def shown(message: Message) -> dict[str, Any]:
    """A message as a customer's program sees it."""
    return {
        "id": str(message.id),
        "role": message.role,
        "text": message.text,
        "seq": message.seq,
        "created_at": message.created_at.isoformat(),
        "rating": message.feedback.rating if hasattr(message, "feedback") else None,
    }


def say(
    conversation: Conversation,
    role: str,
    text: str,
    turn: Turn | None = None,
    message_id: UUID | None = None,
    chunks: Sequence[dict[str, Any]] = (),
    corrects: Message | None = None,
) -> list[dict[str, Any]]:
    """Put a message on record and announce it, after the chunks that stream it."""
    first = _take_seqs(conversation, len(chunks) + 1)
    message = Message.objects.create(
        id=message_id or uuid7(),
        tenant_id=conversation.tenant_id,
        conversation=conversation,
        turn=turn,
        role=role,
        text=text,
        seq=first + len(chunks),
        corrects=corrects,
    )
    created = {"event": "message.created", "message_id": str(message.id), "data": shown(message)}
    return _store_frames(conversation, first, [*chunks, created], turn)


def hand_over(conversation: Conversation, turn: Turn | None, reason: str) -> list[dict[str, Any]]:
    """A person answers from now on, unless one has closed it; the customer is told in the chatbot's own words."""
    if conversation.state == Conversation.State.CLOSED:
        return []
    conversation.state = Conversation.State.HANDED_OVER
    conversation.save(update_fields=["state", "updated_at"])
    told = say(conversation, Message.Role.ASSISTANT, conversation.chatbot.hand_over_text, turn)
    update = {"event": "handoff.updated", "data": {"state": conversation.state, "reason": reason}}
    webhooks.tell(conversation.tenant_id, "conversation.handed_over", about(conversation) | {"reason": reason})
    return told + append(conversation, [update], turn)


def about(conversation: Conversation) -> dict[str, str]:
    """As webhooks name it: ids alone."""
    names = ("chatbot_id", "customer_id")
    return {"conversation_id": str(conversation.id)} | {name: str(getattr(conversation, name)) for name in names}


def append(conversation: Conversation, frames: Sequence[dict[str, Any]], turn: Turn | None) -> list[dict[str, Any]]:
    """Store frames that are no message, in order."""
    return _store_frames(conversation, _take_seqs(conversation, len(frames)), frames, turn)


def stream_chunks(tenant_id: UUID, turn_id: UUID, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Store chunks that are shown while their model still writes (a chatbot without a floor)."""
    with in_tenant(tenant_id):
        turn = Turn.objects.select_related("conversation").get(id=turn_id)
        return append(turn.conversation, frames, turn)


def _take_seqs(conversation: Conversation, count: int) -> int:
    """The first of the conversation's next `count` sequence numbers; others wait until we commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE cascade_conversation SET last_seq = last_seq + %s, updated_at = now() WHERE id = %s"
            " RETURNING last_seq",
            [count, conversation.id],
        )
        conversation.last_seq = cursor.fetchone()[0]
    return conversation.last_seq - count + 1


def _store_frames(
    conversation: Conversation, first: int, frames: Sequence[dict[str, Any]], turn: Turn | None
) -> list[dict[str, Any]]:
    reply_to = turn.client_id if turn else None
    whole = [{"message_id": None, "reply_to": reply_to, **frame} for frame in frames]
    Event.objects.create(
        tenant_id=conversation.tenant_id,
        conversation=conversation,
        first_seq=first,
        last_seq=first + len(whole) - 1,
        frames=whole,
    )
    with connection.cursor() as cursor:  # heard by every web process once we commit
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(conversation.id)])
    return numbered(whole, first)


def numbered(frames: Sequence[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    return [frame | {"seq": first + i} for i, frame in enumerate(frames)]
