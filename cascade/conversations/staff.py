"""What a person of the tenant does in a conversation: take it over, answer, give it back, close it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from accounts.tenancy import in_tenant
from cascade.conversations.frames import append, hand_over, say
from cascade.conversations.values import NotFound, Refused
from cascade.models import Conversation, Message, Turn

LONGEST_REPLY = 8000  # characters a person may write at once

log = structlog.get_logger(__name__)


def reply_as_staff(
    tenant_id: UUID, conversation_id: UUID, by: str, text: str, *, corrects: str = ""
) -> list[dict[str, Any]]:
    """A person of the tenant (`by`, "user:ID") writes.

    `corrects`: in place of the chatbot's last reply of this id, which was wrong.

    Raises NotFound, Refused("invalid_message"; "conversation_closed"; "nothing_to_correct"; "replied_meanwhile").
    """
    if not text.strip() or len(text) > LONGEST_REPLY or "\0" in text:
        raise Refused("invalid_message", f"a reply needs 1 to {LONGEST_REPLY} characters, none of them NUL")
    with in_tenant(tenant_id):
        conversation = _locked(conversation_id)
        wrong = _wrong(conversation, corrects) if corrects else None
        frames = say(conversation, Message.Role.STAFF, text, corrects=wrong)
    _note("staff_replied", tenant_id, conversation_id, by)
    return frames


def last_reply(conversation: Conversation) -> Message | None:
    """Of the chatbot's own."""
    replies = conversation.messages.filter(role=Message.Role.ASSISTANT, turn__state=Turn.State.ANSWERED)
    return replies.order_by("-seq").first()


def _wrong(conversation: Conversation, message_id: str) -> Message:
    """The last reply, which must be the one that was read. Raises Refused."""
    reply = last_reply(conversation)
    if reply is None:
        raise Refused("nothing_to_correct", "the chatbot has not replied here yet")
    if str(reply.id) != message_id:
        raise Refused("replied_meanwhile", "the chatbot has replied again meanwhile; nothing was sent, read that first")
    return reply


def give_back(tenant_id: UUID, conversation_id: UUID, by: str) -> list[dict[str, Any]]:
    """The chatbot answers from now on. Raises NotFound, Refused("conversation_closed")."""
    return _move(tenant_id, conversation_id, by, Conversation.State.OPEN, "given_back")


def take_over(tenant_id: UUID, conversation_id: UUID, by: str) -> list[dict[str, Any]]:
    """A person answers from now on; the customer is told. Raises NotFound, Refused("conversation_closed")."""
    with in_tenant(tenant_id):
        conversation = _locked(conversation_id)
        if conversation.state == Conversation.State.HANDED_OVER:
            return []
        frames = hand_over(conversation, None, "taken_over")
    _note("staff_taken_over", tenant_id, conversation_id, by)
    return frames


def close(tenant_id: UUID, conversation_id: UUID, by: str) -> list[dict[str, Any]]:
    """Nobody answers here any more, for good. Raises NotFound, Refused("conversation_closed")."""
    return _move(tenant_id, conversation_id, by, Conversation.State.CLOSED, "closed")


def _move(tenant_id: UUID, conversation_id: UUID, by: str, state: str, reason: str) -> list[dict[str, Any]]:
    with in_tenant(tenant_id):
        conversation = _locked(conversation_id)
        if conversation.state == state:
            return []
        conversation.state = state
        conversation.save(update_fields=["state", "updated_at"])
        frames = append(conversation, [{"event": "handoff.updated", "data": {"state": state, "reason": reason}}], None)
    _note(f"staff_{reason}", tenant_id, conversation_id, by)
    return frames


def _locked(conversation_id: UUID) -> Conversation:
    """The conversation, which nobody else changes until we commit."""
    conversation = Conversation.objects.select_for_update().filter(id=conversation_id).first()
    if conversation is None:
        raise NotFound("conversation")
    if conversation.state == Conversation.State.CLOSED:
        raise Refused("conversation_closed", "this conversation is closed")
    return conversation


def _note(event: str, tenant_id: UUID, conversation_id: UUID, by: str) -> None:
    """Who did it, and not what they wrote."""
    log.info(event, tenant_id=str(tenant_id), conversation_id=str(conversation_id), by=by)
