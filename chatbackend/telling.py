"""What a customer is told of one turn: its frames, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from cascade.conversations import OpenTurn, Reply, TurnResult
from chatbackend import chunks, protocol
from chatbackend.protocol import Frame, Send

PART = "t0"  # the one text part of a streamed reply
TOLD = ("busy", "not_found", "conversation_closed", "idempotency_conflict", "internal_error")  # to a customer as is


@dataclass
class Telling:
    """Frames come out of `frames`; None after the last."""

    send: Send
    frames: asyncio.Queue[Frame | None] = field(default_factory=asyncio.Queue)
    message_id: UUID = field(default_factory=uuid7)
    told: str = ""  # of the reply, so far

    def acknowledge(self, turn: OpenTurn) -> None:
        told = {
            "turn_id": str(turn.id),
            "conversation_id": str(turn.conversation_id),
            "seq": turn.seq,
            "state": turn.state,
            "duplicate": turn.duplicate,
        }
        self.frames.put_nowait(Frame("ack", told, conversation_id=str(turn.conversation_id), reply_to=turn.reply_to))
        self.show(turn, turn.frames)

    def show(self, turn: OpenTurn, frames: Sequence[dict[str, Any]]) -> None:
        for frame in frames:
            self.frames.put_nowait(
                Frame(**{"reply_to": turn.reply_to} | frame, conversation_id=str(turn.conversation_id))
            )

    def refuse(self, code: str, detail: str = "") -> None:
        outward = _outward(code)
        told = detail if outward == code else ""  # else it would tell what the code does not
        self.frames.put_nowait(
            protocol.problem(outward, told, reply_to=self.send.id, conversation_id=self.send.conversation_id)
        )

    # --- the chunks of a reply ----------------------------------------------------------------

    def more(self, text: str) -> list[dict[str, Any]]:
        """The chunks by which `text` goes beyond what is told already, which is told with them."""
        frames = self._chunks(text[len(self.told) :])
        self.told = text if frames else self.told
        return frames

    def ended(self, result: TurnResult, text: str, *ending: dict[str, Any]) -> TurnResult:
        """With the reply (none, where nothing may be told) and the chunks that are still to be shown."""
        rest = text[len(self.told) :].rstrip()
        whole = self.told + rest
        closing = [chunks.text_end(PART), *ending] if whole else list(ending)
        frames = (*self._chunks(rest), *(self._frame(chunk) for chunk in closing))
        return replace(result, reply=Reply(self.message_id, whole) if whole else None, frames=frames)

    def failed(self, result: TurnResult, code: str) -> TurnResult:
        return self.ended(result, self.told, chunks.error(_outward(code)))

    def _chunks(self, text: str) -> list[dict[str, Any]]:
        deltas = [chunks.text_delta(PART, piece) for piece in chunks.pieces(text)]
        begun = bool(self.told) or not deltas
        opening = [] if begun else [chunks.start(str(self.message_id)), chunks.text_start(PART)]
        return [self._frame(chunk) for chunk in (*opening, *deltas)]

    def _frame(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return {"event": "stream.chunk", "message_id": str(self.message_id), "data": chunk}


def _outward(code: str) -> str:
    """What a customer may know: not their tenant's money, nor how it has set things up."""
    return code if code in TOLD else "temporarily_unavailable"
