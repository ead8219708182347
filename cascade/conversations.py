"""The only writer of conversations, turns, messages, events, and of the model calls of running turns.

Functions are plain, synchronous and transactional; from the event loop they are called through
`in_db`. A turn is opened before anything is asked and closed once, with its transcript and its
charge in one transaction. Frames are stored here before any socket sends them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import ledger, webhooks
from accounts.models import Customer, CustomerRecord
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant
from cascade import pricing, remembered
from cascade.context import roll
from cascade.material import Material, NoStrategy, dearest_cost, gather, price_value
from cascade.models import Chatbot, Conversation, Event, Exploration, Feedback, Message, ModelCall, Turn, TurnContext
from cascade.providers.remembered import MEMORY
from cascade.scorer.rows import CONTEXT
from cascade.values import Attempt, Context, Outcome, Record, Tier, Usage, Utterance

if TYPE_CHECKING:
    from accounts.auth import Caller

WINDOW = 12  # messages of a conversation that a prompt may quote; older ones are summarised
SUMMARY_TOKENS = 300
LONGEST_REPLY = 8000  # characters a person may write at once
CHANNEL = "conversation_events"

log = structlog.get_logger(__name__)


class Refused(Exception):
    """The door must say no; nothing was written. `code` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class NotFound(Refused):
    """No such thing for this caller, whoever else may have it."""

    def __init__(self, thing: str) -> None:
        super().__init__("not_found", f"no such {thing}")


class TurnOver(Exception):
    """The turn was closed meanwhile, by whoever thought its process dead."""


@dataclass(frozen=True, slots=True)
class ConversationView:
    id: UUID
    state: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn as it was opened, or as it was found: a message sent twice is one turn."""

    tenant_id: UUID
    id: UUID
    conversation_id: UUID
    chatbot_id: UUID
    customer_id: UUID
    reply_to: str  # the client's id
    seq: int  # of the customer's message
    state: str
    duplicate: bool
    frames: tuple[dict[str, Any], ...] = ()  # stored with it, with their seq
    material: Material | None = None  # None: nothing is to be asked (a duplicate, or a person answers)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the customer is told at the end of a turn."""

    message_id: UUID
    text: str


@dataclass(frozen=True, slots=True)
class TurnResult:
    """Everything that closes a turn. Plain values, so that it survives on disk when the database is gone."""

    tenant_id: UUID
    turn_id: UUID
    conversation_id: UUID
    chatbot_id: UUID
    state: str  # a Turn.State
    problem: str = ""
    reply: Reply | None = None  # None: nothing to tell
    frames: tuple[dict[str, Any], ...] = ()  # chunks that were not stored before; without seq
    hand_over: bool = False
    attempts: tuple[Attempt, ...] = ()
    outcomes: tuple[str, ...] = ()  # an Outcome for each attempt
    context_report: dict[str, Any] = field(default_factory=dict)
    context: Context | None = None  # what the answers were judged by; None: nothing was asked


# --- conversations and what a socket reads ---------------------------------------------------


def open_conversation(caller: Caller, conversation_id: UUID | None) -> ConversationView:
    """The caller's conversation; None: their latest that is not closed, or a new one. Raises NotFound."""
    with in_tenant(caller.tenant_id):
        return view(_conversation(caller, conversation_id))


def view(conversation: Conversation) -> ConversationView:
    return ConversationView(conversation.id, conversation.state, conversation.last_seq)


def _conversation(caller: Caller, conversation_id: UUID | None) -> Conversation:
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


def events_after(tenant_id: UUID, conversation_id: UUID, after_seq: int, limit: int = 500) -> list[dict[str, Any]]:
    """Stored frames with seq > `after_seq`, in order: {"seq", "event", "message_id", "reply_to", "data"}."""
    with in_tenant(tenant_id):
        rows = Event.objects.filter(conversation_id=conversation_id, last_seq__gt=after_seq)
        frames = [frame for row in rows.order_by("first_seq")[:limit] for frame in numbered(row.frames, row.first_seq)]
    return [frame for frame in frames if frame["seq"] > after_seq][:limit]


def history(caller: Caller, conversation_id: UUID, before_seq: int | None, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` messages before `before_seq` (None: the latest), oldest first. Raises NotFound."""
    with in_tenant(caller.tenant_id):
        messages = _conversation(caller, conversation_id).messages.select_related("feedback")
        if before_seq is not None:
            messages = messages.filter(seq__lt=before_seq)
        return [shown(message) for message in messages.order_by("-seq")[:limit]][::-1]


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
        webhooks.tell(caller.tenant_id, "feedback.created", _about(message.conversation) | told)
        if rating < 0:
            remembered.voted_down(message)


# --- a turn: opened before anything is asked --------------------------------------------------


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
    return _conversation(caller, conversation_id)


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
    material = None if with_person else gather(conversation.chatbot, conversation.customer, conversation, text)
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


# --- model calls, on record before they are made ----------------------------------------------


@dataclass(frozen=True, slots=True)
class CallRecord:
    """Keeps a turn's attempts on record as they happen (`cascade.runner.Recorder`, synchronous half)."""

    tenant_id: UUID
    turn_id: UUID
    prompt_tokens: int
    scorer_version: str

    def asked(self, attempt_id: str, number: int, tier: int, asked: Tier) -> None:
        """Raises TurnOver: nothing may be asked any more for a turn that was given up and settled."""
        with in_tenant(self.tenant_id):
            if not Turn.objects.select_for_update().filter(id=self.turn_id, state=Turn.State.OPEN):
                raise TurnOver
            self.put(attempt_id, number, tier, asked, Outcome.ASKED)

    def put(self, attempt_id: str, number: int, tier: int, asked: Tier, outcome: Outcome) -> None:
        """In the tenant's transaction: a call that is about to be made."""
        ModelCall.objects.create(
            id=attempt_id,
            tenant_id=self.tenant_id,
            turn_id=self.turn_id,
            number=number,
            tier=tier,
            model=asked.model.name,
            threshold=asked.threshold,
            outcome=outcome,
            prompt_tokens=self.prompt_tokens,
            max_output_tokens=asked.max_output_tokens,
            price_id=asked.model.price.version or None,
            scorer_version=self.scorer_version,
        )

    def wrote(self, attempt_id: str, characters: int) -> None:
        with in_tenant(self.tenant_id):
            ModelCall.objects.filter(id=attempt_id).update(written_characters=characters)

    def billed(self, attempt: Attempt) -> None:
        with in_tenant(self.tenant_id):
            ModelCall.objects.filter(id=attempt.id).update(**columns(attempt))


def set_usage(call_id: UUID, usage: Usage, cost: Money) -> None:
    """What a call has come to after all, as the provider's log says; in the tenant's transaction."""
    ModelCall.objects.filter(id=call_id).update(cost_micros=cost.micros, estimated=False, **asdict(usage))


def columns(attempt: Attempt) -> dict[str, Any]:
    """What a `ModelCall` keeps of an attempt, but its outcome and score."""
    return {
        "text": attempt.text,
        "finish_reason": attempt.finish_reason or "",
        "error": attempt.error or "",
        "estimated": attempt.estimated,
        "cost_micros": attempt.cost.micros,
        "first_token_seconds": attempt.first_token_seconds,
        "seconds": attempt.seconds,
        **asdict(attempt.usage),
    }


# --- a turn: closed once ----------------------------------------------------------------------


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
        turn = Turn.objects.get(id=result.turn_id)
        frames = _tell(conversation, turn, result)
        if result.state == Turn.State.ANSWERED and result.reply:
            told = {"turn_id": str(turn.id), "message_id": str(result.reply.message_id)}
            webhooks.tell(result.tenant_id, "reply.accepted", _about(conversation) | told)
        if result.hand_over:
            frames += hand_over(conversation, turn, turn.problem)
        _charge(result.tenant_id, result.turn_id)  # last: other turns of the tenant wait from here to our commit
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
    _charge(turn.tenant_id, turn.id)


def estimate(call: ModelCall) -> None:
    """Give a call whose usage nobody reported the most it can have come to; not saved."""
    if call.price is None:  # memory costs nothing
        call.input_tokens = call.output_tokens = call.cost_micros = 0
        return
    usage, cost = pricing.estimate(
        call.prompt_tokens, call.written_characters, price_value(call.price), call.max_output_tokens
    )
    call.input_tokens, call.output_tokens = usage.input_tokens, usage.output_tokens
    call.cost_micros, call.estimated = cost.micros, True


def _charge(tenant_id: UUID, turn_id: UUID) -> None:
    """Settle the turn's hold with one charge a call; what was explored has a hold of its own."""
    calls = ModelCall.objects.filter(turn_id=turn_id, cost_micros__isnull=False).exclude(outcome=Outcome.EXPLORED)
    calls = calls.select_related("turn__conversation", "turn__strategy", "price__model").order_by("number")
    settle(tenant_id, turn_id, charges_of(list(calls)))


def settle(tenant_id: UUID, held_id: UUID, charges: Sequence[ledger.Charge]) -> None:
    """Settle the hold of a turn, or of what has a hold of its own; where that was done before, correct it."""
    try:
        settled = ledger.settle(tenant_id, held_id, charges)
    except ledger.NotHeld:
        if charges:
            raise
        return  # the turn ended before anything was held
    for late in () if settled else charges:
        ledger.settle_late(tenant_id, held_id, late, "its usage became known after an interruption")


def charges_of(calls: Sequence[ModelCall]) -> list[ledger.Charge]:
    """One charge a call; the one whose answer counts says what the strategy's dearest model would have cost."""
    counts = max(calls, key=lambda call: (call.outcome == Outcome.ACCEPTED, call.output_tokens or 0), default=None)
    return [charge(call, dearest_cost(call) if call is counts else ZERO) for call in calls]


def charge(call: ModelCall, dearest: Money = ZERO) -> ledger.Charge:
    conversation, from_memory = call.turn.conversation, call.model == MEMORY
    return ledger.Charge(
        call_id=call.id,
        conversation_id=conversation.id,
        chatbot_id=conversation.chatbot_id,
        number=call.number,
        tier=None if from_memory else call.tier,
        model=call.model,
        outcome=call.outcome,
        price_version="" if from_memory else str(call.price_id),
        cost=Money(call.cost_micros or 0),
        estimated=call.estimated,
        input_tokens=call.input_tokens or 0,
        output_tokens=call.output_tokens or 0,
        provider=call.price.model.provider if call.price else "",
        dearest=dearest,
        source="cache" if from_memory else "model",
    )


# --- what is said, and the frames that say so ---------------------------------------------------


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
    webhooks.tell(conversation.tenant_id, "conversation.handed_over", _about(conversation) | {"reason": reason})
    return told + append(conversation, [update], turn)


def _about(conversation: Conversation) -> dict[str, str]:
    """As webhooks name it: ids alone."""
    names = ("chatbot_id", "customer_id")
    return {"conversation_id": str(conversation.id)} | {name: str(getattr(conversation, name)) for name in names}


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


def erase(customer_id: UUID) -> list[UUID]:
    """Forget all that was said with a customer; in the tenant's transaction, which keeps them from beginning anew.

    Conversations in which models are being asked, for a reply or exploring: then nothing was erased, for what that
    costs is not on the books yet.
    """
    list(Customer.objects.select_for_update().filter(id=customer_id))
    theirs = Conversation.objects.filter(customer_id=customer_id)
    list(theirs.select_for_update().order_by("id").values_list("id"))
    asking = Q(turns__state=Turn.State.OPEN) | Q(turns__exploration__state=Exploration.State.ASKING)
    answering = list(theirs.filter(asking).values_list("id", flat=True).distinct())
    if not answering:
        theirs.delete()
    return answering


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
