"""Answered and judged turns of many customers, put on record at once: what a tenant's own scorer learns from."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import NAMESPACE_OID, uuid5

from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import models as accounts
from accounts.tenancy import in_tenant
from cascade.models import Conversation, Feedback, Message, ModelCall, Turn, TurnContext
from cascade.scorer.rows import CONTEXT
from cascade.values import Context, Customer, Record
from tests.cast import Shop

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
QUESTION = "What does my order cost?"


def customer_value(number: int) -> Customer:
    data = {"total": number + 20.0, "status": "pending"}
    return Customer(
        f"c{number}", True, None, {"name": f"C{number}"}, (Record("order", f"W{1000 + number}", NOW, data),)
    )


def said_of(number: int) -> str:
    """What is right for one customer and wrong for every other."""
    return f"Your order #W{1000 + number} costs ${number + 20}.00."


def judged_turns(
    shop: Shop, customers: int, each: int = 2, *, score: float | None = 0.9, version: str = "scripted"
) -> list[Turn]:
    """`customers` x `each` answered turns: a customer's first is right and liked, the next wrong, and so on.

    Who teaches and who measures goes by the customers' ids, which are the same each time.
    """
    with in_tenant(shop.tenant_id):
        slug = accounts.Tenant.objects.get(id=shop.tenant_id).slug
        who = accounts.Customer.objects.bulk_create(
            accounts.Customer(id=uuid5(NAMESPACE_OID, f"{slug} {n}"), tenant_id=shop.tenant_id, external_id=f"c{n}")
            for n in range(customers)
        )
        talks = Conversation.objects.bulk_create(
            Conversation(tenant_id=shop.tenant_id, chatbot_id=shop.chatbot_id, customer=customer) for customer in who
        )
        turns = []
        for number, talk in enumerate(talks):
            for nth in range(each):
                right = nth % 2 == 0
                turns.append(judged_turn(talk, number, right, 2 * nth + 1, score=score, version=version))
        return turns


def judged_turn(
    talk: Conversation,
    number: int,
    right: bool,
    seq: int,
    *,
    score: float | None = 0.9,
    version: str = "scripted",
    rating: int | None = 0,
    state: str = Turn.State.ANSWERED,
) -> Turn:
    """One turn, inside `in_tenant`. `rating` 0: the customer likes what is right; None: says nothing."""
    own = {"tenant_id": talk.tenant_id}
    turn = Turn.objects.create(
        **own,
        conversation=talk,
        client_id=str(uuid7()),
        body_hash="",
        state=state,
        process_key=1,
        closed_at=timezone.now(),
    )
    answer = said_of(number if right else number + 1)
    context = Context(customer_value(number), QUESTION, NOW)
    TurnContext.objects.create(**own, turn=turn, context=CONTEXT.dump_python(context, mode="json"))
    answered = state == Turn.State.ANSWERED
    ModelCall.objects.create(
        **own, turn=turn, number=1, tier=0, model="small", threshold=0.5, score=score, scorer_version=version,
        text=answer, outcome="accepted" if answered else "rejected",
    )  # fmt: skip
    Message.objects.create(**own, conversation=talk, turn=turn, role="customer", text=QUESTION, seq=seq)
    told = answer if answered else "Somebody will reply here soon."
    reply = Message.objects.create(**own, conversation=talk, turn=turn, role="assistant", text=told, seq=seq + 1)
    if rating is not None and answered:
        Feedback.objects.create(**own, message=reply, rating=rating or (1 if right else -1))
    return turn
