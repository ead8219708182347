"""What a customer does besides asking: begin, read back, rate, be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q

from accounts import webhooks
from accounts.models import Customer
from accounts.tenancy import in_tenant
from cascade import remembered
from cascade.conversations.frames import about, say, shown
from cascade.conversations.values import ConversationView, NotFound
from cascade.models import Chatbot, Conversation, Exploration, Feedback, Message, Turn
from cascade.values import Utterance

if TYPE_CHECKING:
    from accounts.auth import Caller


def open_conversation(caller: Caller, conversation_id: UUID | None) -> ConversationView:
    """The caller's conversation; None: their latest that is not closed, or a new one. Raises NotFound."""
    with in_tenant(caller.tenant_id):
        return view(find(caller, conversation_id))


def view(conversation: Conversation) -> ConversationView:
    return ConversationView(conversation.id, conversation.state, conversation.last_seq)


def find(caller: Caller, conversation_id: UUID | None) -> Conversation:
    """In the tenant's transaction; None and what it raises: as `open_conversation`."""
    chatbot = Chatbot.objects.filter(widget_id=caller.widget_id).first()
    if chatbot is None:
        raise NotFound("chatbot")
    own = Conversation.objects.filter(chatbot=chatbot, customer_id=caller.customer_id)
    if conversation_id is not None:
        found = own.filter(id=conversation_id).first()
        if found is None:
            raise NotFound("conversation")
        return found
    latest = own.exclude(state=Conversation.State.CLOSED).order_by("-created_at").first()
    return latest or Conversation.objects.create(
        tenant_id=caller.tenant_id, chatbot=chatbot, customer_id=caller.customer_id
    )


def begin(caller: Caller, conversation_id: UUID, history: Sequence[Utterance]) -> bool:
    """A new conversation that opens with what was said elsewhere before; without turns, for nothing was asked here.

    False: it is there already, with another history. Raises NotFound.
    """
    with in_tenant(caller.tenant_id):
        chatbot = Chatbot.objects.filter(widget_id=caller.widget_id).first()
        if chatbot is None:
            raise NotFound("chatbot")
        conversation, new = Conversation.objects.get_or_create(
            id=conversation_id,
            defaults={"tenant_id": caller.tenant_id, "chatbot": chatbot, "customer_id": caller.customer_id},
        )
        if not new:
            before = conversation.messages.filter(turn=None).exclude(role=Message.Role.STAFF).order_by("seq")
            return [(m.role, m.text) for m in before] == [(said.role, said.text) for said in history]
        for said in history:
            say(conversation, said.role, said.text)
        return True


def history(caller: Caller, conversation_id: UUID, before_seq: int | None, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` messages before `before_seq` (None: the latest), oldest first. Raises NotFound."""
    with in_tenant(caller.tenant_id):
        messages = find(caller, conversation_id).messages.select_related("feedback")
        if before_seq is not None:
            messages = messages.filter(seq__lt=before_seq)
        return [shown(message) for message in messages.order_by("-seq")[:limit]][::-1]


def set_feedback(caller: Caller, message_id: UUID, rating: int, comment: str = "") -> None:
    """The customer's verdict on a reply of theirs; a later one replaces it. Raises NotFound."""
    with in_tenant(caller.tenant_id):
        message = Message.objects.filter(
            ~Q(role=Message.Role.CUSTOMER), id=message_id, conversation__customer_id=caller.customer_id
        ).first()
        if message is None:
            raise NotFound("message")
        feedback, _ = Feedback.objects.update_or_create(
            message=message, defaults={"tenant_id": caller.tenant_id, "rating": rating, "comment": comment}
        )
        told = {"feedback_id": str(feedback.id), "message_id": str(message_id), "rating": rating}
        webhooks.tell(caller.tenant_id, "feedback.created", about(message.conversation) | told)
        if rating < 0:
            remembered.voted_down(message)


def answering(customer_id: UUID) -> list[UUID]:
    """The customer's conversations in which models are being asked, for a reply or exploring.

    In the tenant's transaction, which keeps them from beginning anew.
    """
    list(Customer.objects.select_for_update().filter(id=customer_id))
    theirs = Conversation.objects.filter(customer_id=customer_id)
    list(theirs.select_for_update().order_by("id").values_list("id"))
    asking = Q(turns__state=Turn.State.OPEN) | Q(turns__exploration__state=Exploration.State.ASKING)
    return list(theirs.filter(asking).values_list("id", flat=True).distinct())


def erase(customer_id: UUID) -> None:
    """Forget all that was said with a customer, of whom nothing is `answering`: what that costs would be lost."""
    Conversation.objects.filter(customer_id=customer_id).delete()
