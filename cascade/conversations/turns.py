"""A turn: opened before anything is asked, closed once, with its transcript and its charge in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from accounts import webhooks
from accounts.models import CustomerRecord
from accounts.tenancy import in_tenant
from cascade.compute import Beside
from cascade.context import roll
from cascade.conversations.calls import charges_of, columns, estimate, settle
from cascade.conversations.customers import find
from cascade.conversations.frames import about, append, hand_over, say
from cascade.conversations.values import OpenTurn, Refused, TurnResult
from cascade.material import NoStrategy, gather
from cascade.models import Conversation, Message, ModelCall, Turn, TurnContext
from cascade.scorer.rows import CONTEXT
from cascade.values import Outcome, Record, Utterance

if TYPE_CHECKING:
    from accounts.auth import Caller


WINDOW = 12  # messages of a conversation that a prompt may quote; older ones are summarised
SUMMARY_TOKENS = 300

log = structlog.get_logger(__name__)


def open_turn(caller: Caller, conversation_id: UUID | None, client_id: str, text: str, process_key: int) -> OpenTurn:
    """Put the customer's message on record, once, and gather what an answer may rest on.

    Raises NotFound, Refused("idempotency_conflict": the id was used for another text;
    "busy": a turn of this conversation is running; "conversation_closed"; "no_strategy" and its like).
    """
    body_hash = hashlib.sha256(text.encode()).hexdigest()
    with in_tenant(caller.tenant_id):
        conversation = _conversation_of(caller, conversation_id, client_id)
        try:
            with transaction.atomic():
                return _begin(caller, conversation, client_id, text, body_hash, process_key)
        except IntegrityError:  # its id, or another open turn, is on record already
            return _found(conversation, client_id, body_hash)
        except NoStrategy as problem:
            raise Refused(problem.code, str(problem)) from problem


def _conversation_of(caller: Caller, conversation_id: UUID | None, client_id: str) -> Conversation:
    """Where a message belongs: sent again without saying where, to the conversation that has it."""
    if conversation_id is None:
        sent = Turn.objects.filter(client_id=client_id, conversation__customer_id=caller.customer_id)
        conversation_id = (
            sent.filter(conversation__chatbot__widget_id=caller.widget_id)
            .values_list("conversation_id", flat=True)
            .first()
        )
    return find(caller, conversation_id)


def _begin(
    caller: Caller, conversation: Conversation, client_id: str, text: str, body_hash: str, process_key: int
) -> OpenTurn:
    with_person = conversation.state == Conversation.State.HANDED_OVER
    turn = Turn.objects.create(  # first: a message that was sent before is found by its id, whatever came of it
        tenant_id=caller.tenant_id,
        conversation=conversation,
        client_id=client_id,
        body_hash=body_hash,
        state=Turn.State.HANDED_OVER if with_person else Turn.State.OPEN,
        problem="with_person" if with_person else "",
        closed_at=timezone.now() if with_person else None,
        strategy_id=conversation.chatbot.live_strategy_id,
        process_key=process_key,
    )
    if conversation.state == Conversation.State.CLOSED:
        raise Refused("conversation_closed", "this conversation is closed; begin a new one")
    _summarise(conversation)
    material = (
        None
        if with_person
        else gather(conversation.chatbot, conversation.customer, conversation, text, turn.created_at)
    )
    frames = say(conversation, Message.Role.CUSTOMER, text, turn)
    return _opened(turn, conversation, frames[-1]["seq"], duplicate=False, frames=frames, material=material)


def _found(conversation: Conversation, client_id: str, body_hash: str) -> OpenTurn:
    turn = Turn.objects.filter(conversation=conversation, client_id=client_id).first()
    if turn is None:
        raise Refused("busy", "an answer is on its way; send this again when it has come")
    if turn.body_hash != body_hash:
        raise Refused("idempotency_conflict", "this id was used for another message")
    return _opened(turn, conversation, turn.messages.earliest("seq").seq, duplicate=True)


def _opened(turn: Turn, conversation: Conversation, seq: int, **more: Any) -> OpenTurn:
    return OpenTurn(
        tenant_id=turn.tenant_id,
        id=turn.id,
        conversation_id=conversation.id,
        chatbot_id=conversation.chatbot_id,
        customer_id=conversation.customer_id,
        reply_to=turn.client_id,
        seq=seq,
        state=turn.state,
        **more,
    )


def _summarise(conversation: Conversation) -> None:
    """Fold what leaves the window into the conversation's summary."""
    unsummarised = list(conversation.messages.order_by("seq")[conversation.summarised :])
    leaving = unsummarised[:-WINDOW]
    if not leaving:
        return
    utterances = [Utterance(role=message.role, text=message.text) for message in leaving]  # type: ignore[arg-type]
    conversation.summary = roll(conversation.summary, utterances, SUMMARY_TOKENS)
    conversation.summarised += len(leaving)
    conversation.save(update_fields=["summary", "summarised"])


def store_records(turn: OpenTurn, records: Sequence[Record], fetched_at: datetime) -> None:
    """Keep what the record source said, unless something newer is on record by now."""
    with in_tenant(turn.tenant_id):
        known = CustomerRecord.objects.select_for_update().filter(customer_id=turn.customer_id).order_by("id")
        newest = {(record.type, record.external_id): record.as_of for record in known}
        CustomerRecord.objects.bulk_create(
            [
                CustomerRecord(tenant_id=turn.tenant_id, customer_id=turn.customer_id, **asdict(record))
                for record in sorted(records, key=lambda record: (record.type, record.external_id))
                if record.as_of >= newest.get((record.type, record.external_id), record.as_of)
            ],
            update_conflicts=True,
            unique_fields=["customer", "type", "external_id"],
            update_fields=["as_of", "data"],
        )
        Conversation.objects.filter(id=turn.conversation_id).update(records_fetched_at=fetched_at)


def close_turn(result: TurnResult) -> list[dict[str, Any]]:
    """Transcript and charge in one transaction; the frames to show, with their seq.

    A turn that was closed already changes nothing. One that was given up for dead meanwhile is
    completed: its reply is kept and its estimated charges are corrected.
    """
    with in_tenant(result.tenant_id):
        if not _claim(result):
            return []
        for attempt, outcome in zip(result.attempts, result.outcomes, strict=True):
            ModelCall.objects.filter(id=attempt.id).update(outcome=outcome, score=attempt.score, **columns(attempt))
        _remember(result)
        conversation = Conversation.objects.select_related("chatbot").get(id=result.conversation_id)
        turn = Turn.objects.select_related("strategy").get(id=result.turn_id)
        turn.conversation = conversation
        frames = _tell(conversation, turn, result)
        if result.state == Turn.State.ANSWERED and result.reply:
            told = {"turn_id": str(turn.id), "message_id": str(result.reply.message_id)}
            webhooks.tell(result.tenant_id, "reply.accepted", about(conversation) | told)
        if result.hand_over:
            frames += hand_over(conversation, turn, turn.problem)
        _charge(turn, result.used)  # last: other turns of the tenant wait from here to our commit
        return frames


def _remember(result: TurnResult) -> None:
    """Keep what the answers were judged by: what people say of them later is learnt from it."""
    if result.context is None or not result.attempts:
        return
    try:
        with transaction.atomic():
            context = CONTEXT.dump_python(result.context, mode="json")
            TurnContext.objects.create(tenant_id=result.tenant_id, turn_id=result.turn_id, context=context)
    except (DatabaseError, ValueError) as problem:  # whatever stands in it, the turn is closed and charged
        log.error("context_not_kept", turn_id=str(result.turn_id), problem=type(problem).__name__)


def _tell(conversation: Conversation, turn: Turn, result: TurnResult) -> list[dict[str, Any]]:
    if result.reply:
        reply = result.reply
        return say(conversation, Message.Role.ASSISTANT, reply.text, turn, reply.message_id, result.frames)
    return append(conversation, result.frames, turn) if result.frames else []


def give_up(tenant_id: UUID) -> int:
    """Close the tenant's open turns whose process is gone; how many. One transaction a turn.

    Attempts whose usage was received are charged as reported; one that was under way is charged at an
    estimate (its prompt and the output that was journalled, at most its ceiling), to be corrected later.
    """
    with in_tenant(tenant_id):
        still_open = list(Turn.objects.filter(state=Turn.State.OPEN).values_list("id", flat=True))
    return sum(_give_up(tenant_id, turn_id) for turn_id in still_open)


def _give_up(tenant_id: UUID, turn_id: UUID) -> bool:
    with in_tenant(tenant_id):
        turn = Turn.objects.select_for_update().filter(id=turn_id, state=Turn.State.OPEN).first()
        if turn is None or not _is_dead(turn):
            return False
        _bury(turn)
        return True


def tenants_with_open_turns() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenants_with_open_turns()")
        return [tenant_id for (tenant_id,) in cursor.fetchall()]


def _claim(result: TurnResult) -> bool:
    closing = {
        "state": result.state,
        "problem": result.problem,
        "context_report": result.context_report,
        "closed_at": timezone.now(),
    }
    unfinished = (Turn.State.OPEN, Turn.State.INTERRUPTED)
    return bool(Turn.objects.filter(id=result.turn_id, state__in=unfinished).update(**closing))


def _is_dead(turn: Turn) -> bool:
    """Nobody holds the lock that the answering process keeps for its whole life (`chatbackend.live`)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [turn.process_key])
        return bool(cursor.fetchone()[0])


def _bury(turn: Turn) -> None:
    turn.state, turn.problem, turn.closed_at = Turn.State.INTERRUPTED, "interrupted", timezone.now()
    turn.save(update_fields=["state", "problem", "closed_at"])
    for call in turn.calls.filter(outcome=Outcome.ASKED).select_related("price"):
        if call.cost_micros is None:
            estimate(call)
        call.outcome, call.error = Outcome.FAILED, call.error or "process_died"
        call.save()
    append(turn.conversation, [{"event": "stream.chunk", "data": {"type": "error", "errorText": "interrupted"}}], turn)
    _charge(turn, Beside())  # what it had judged and embedded died with its process


def _charge(turn: Turn, used: Beside) -> None:
    """Settle the turn's hold; what was explored has a hold of its own."""
    calls = turn.calls.filter(cost_micros__isnull=False).exclude(outcome=Outcome.EXPLORED)
    charges = charges_of(turn, list(calls.select_related("price__model").order_by("number")), used)
    settle(turn.tenant_id, turn.id, charges)
