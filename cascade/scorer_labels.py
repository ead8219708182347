"""What people said of a tenant's answers: the scorer's labels, read from its conversations.

Good: a reply that the customer liked, and what staff wrote to a question. Bad: a reply that was disliked or that staff
corrected, and the drafts that the cascade had to offer before staff answered. Only turns whose context was kept count,
so that an answer is judged by what was known then. Everything is read inside `in_tenant`; what becomes of the labels is
left to `cascade.scorer.own_rows` and `cascade.scorer_training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from accounts.tenancy import in_tenant
from cascade.models import Feedback, Message, ModelCall, Turn, TurnContext
from cascade.scorer.lexing import lex
from cascade.scorer.own_rows import Label
from cascade.scorer.rows import CONTEXT
from cascade.values import Context, FinishReason, Outcome

REMEMBERED = timedelta(days=90)  # how long contexts are kept, and so how old labels may be
MOST_TURNS = 20_000  # of a tenant, the newest
AT_ONCE = 200  # turns read in one transaction


def labels(tenant_id: UUID) -> list[Label]:
    """All labels of the last REMEMBERED, newest turn first."""
    since = timezone.now() - REMEMBERED
    with in_tenant(tenant_id):
        kept = TurnContext.objects.filter(created_at__gte=since).order_by("-created_at")
        turns = list(kept.values_list("turn_id", flat=True)[:MOST_TURNS])
    found: list[Label] = []
    for start in range(0, len(turns), AT_ONCE):
        with in_tenant(tenant_id):
            found += [label for turn in read(turns[start : start + AT_ONCE]) for label in of_turn(turn)]
    return found


def judged() -> int:
    """Replies that customers rated, and that staff wrote, in the last REMEMBERED; in the tenant's transaction."""
    since = timezone.now() - REMEMBERED
    written = Message.objects.filter(role=Message.Role.STAFF, created_at__gte=since)
    return written.count() + Feedback.objects.filter(created_at__gte=since).count()


def forget(tenant_id: UUID) -> int:
    """Delete contexts older than REMEMBERED; how many."""
    with in_tenant(tenant_id):
        return TurnContext.objects.filter(created_at__lt=timezone.now() - REMEMBERED).delete()[0]


# --- one turn ------------------------------------------------------------------------------


def _messages() -> QuerySet[Message]:
    return Message.objects.select_related("feedback").prefetch_related("corrections").order_by("seq")


def read(turns: Sequence[UUID]) -> QuerySet[Turn]:
    """Turns, newest first, with all that their labels are read from; inside `in_tenant`."""
    rows = Turn.objects.filter(id__in=turns).select_related("conversation", "context").order_by("-created_at")
    return rows.prefetch_related(Prefetch("messages", _messages(), to_attr="said"), "calls")


def of_turn(turn: Turn) -> Iterator[Label]:
    """The labels of a turn that was `read`, whose context was kept."""
    context: Context = CONTEXT.validate_python(turn.context.context)

    def label(number: int | str, answer: str, good: bool, kind: str) -> Label:
        customer = str(turn.conversation.customer_id)
        return Label(f"{turn.id}-{number}", customer, context, answer, good, kind, str(turn.id))

    if turn.state == Turn.State.HANDED_OVER:
        answer = _by_staff(turn)
        if answer is None:
            return
        yield label("staff", answer.text, True, "staff")
        for call in turn.calls.all():
            if _whole_reject(call) and not same_facts(call.text, answer.text, context):
                yield label(call.number, call.text, False, "draft")
        return
    reply, draft = _reply(turn), next((c for c in turn.calls.all() if c.outcome == Outcome.ACCEPTED), None)
    if reply is None or draft is None or (good := _verdict(reply)) is None:
        return
    yield label("reply", draft.text, good, "reply")
    for correction in reply.corrections.all():
        yield label(f"by-{correction.seq}", correction.text, True, "correction")


def _reply(turn: Turn) -> Message | None:
    """What the chatbot said to the question."""
    said: list[Message] = turn.said  # type: ignore[attr-defined]
    return next((message for message in said if message.role == Message.Role.ASSISTANT), None)


def _verdict(reply: Message | None) -> bool | None:
    """Good, bad, or None: nobody said."""
    if reply is None:
        return None
    if reply.corrections.all():
        return False
    return reply.feedback.rating > 0 if hasattr(reply, "feedback") else None


def _whole_reject(call: ModelCall) -> bool:
    """Whether it is a draft that was rejected, and not the beginning of one that was given up."""
    return call.outcome == Outcome.REJECTED and bool(call.text) and call.finish_reason != FinishReason.GIVEN_UP


def _by_staff(turn: Turn) -> Message | None:
    """What a person wrote to the question that was handed over, unless the customer disliked it."""
    asked: list[Message] = turn.said  # type: ignore[attr-defined]
    if not asked:
        return None
    after = Message.objects.filter(conversation=turn.conversation, seq__gt=asked[-1].seq)
    following = after.select_related("feedback").order_by("seq").first()
    if following is None or following.role != Message.Role.STAFF:
        return None
    disliked = hasattr(following, "feedback") and following.feedback.rating < 0
    return None if disliked else following


def same_facts(one: str, other: str, context: Context) -> bool:
    """Whether two answers say the same words, or name the same amounts, dates, ids and numbers, and some.

    Neither alone is wrong then.
    """
    return agrees(one, other, context) is True


def agrees(answer: str, truth: str, context: Context) -> bool | None:
    """Whether an answer is right as far as one that is tells.

    True: it says the same words, or names the same amounts, dates, ids and numbers, and some. False: it names some
    that the truth does not. None: it names none, or fewer; who knows.
    """
    if answer.casefold().split() == truth.casefold().split():
        return True
    named, true = _telling(answer, context), _telling(truth, context)
    if not named or not true:
        return None
    return True if named == true else False if named - true else None


def _telling(text: str, context: Context) -> set[str]:
    return {x.value for x in lex(text, context.now) if x.kind not in ("word", "name", "stop")}
