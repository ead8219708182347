"""What passes between the doors and the conversations: plain values, and what the door must say no to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cascade.compute import Beside
from cascade.material import Material
from cascade.values import Attempt, Context


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
    used: Beside = field(default_factory=Beside)
