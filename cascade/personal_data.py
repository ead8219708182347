"""What was said with one customer, told to whoever may ask. Forgetting it is left to `cascade.conversations`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from cascade.models import Conversation, Message, ModelCall


def tell(customer_id: UUID) -> list[dict[str, Any]]:
    """The customer's conversations, oldest first, a JSON object each; in the tenant's transaction.

    With what was drafted and not shown, and how it was judged: it was made of the customer's data.
    """
    conversations = Conversation.objects.filter(customer_id=customer_id).order_by("created_at")
    return [
        {
            "id": str(conversation.id),
            "since": conversation.created_at.isoformat(),
            "state": conversation.state,
            "summary": conversation.summary,
            "messages": [_message(it) for it in conversation.messages.select_related("feedback").order_by("seq")],
            "drafts": [
                _draft(it) for it in ModelCall.objects.filter(turn__conversation=conversation).order_by("created_at")
            ],
        }
        for conversation in conversations
    ]


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"at": message.created_at.isoformat(), "role": message.role, "text": message.text}
    if hasattr(message, "feedback"):
        told |= {"rating": message.feedback.rating, "comment": message.feedback.comment}
    return told


def _draft(call: ModelCall) -> dict[str, Any]:
    told = {"at": call.created_at.isoformat(), "model": call.model, "text": call.text}
    return told | {"outcome": call.outcome, "score": call.score}
