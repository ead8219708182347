"""The only writer of conversations, turns, messages, events, and of the model calls of running turns.

Functions are plain, synchronous and transactional; from the event loop they are called through
`in_db`. A turn is opened before anything is asked and closed once, with its transcript and its
charge in one transaction. Frames are stored here before any socket sends them.
"""

from cascade.conversations.calls import CallRecord, charge, columns, computed, estimate, set_usage, settle
from cascade.conversations.customers import answering, begin, erase, history, open_conversation, set_feedback, view
from cascade.conversations.frames import (
    CHANNEL,
    append,
    events_after,
    hand_over,
    say,
    stream_chunks,
)
from cascade.conversations.staff import (
    LONGEST_REPLY,
    close,
    give_back,
    last_reply,
    reply_as_staff,
    take_over,
)
from cascade.conversations.turns import (
    SUMMARY_TOKENS,
    WINDOW,
    close_turn,
    give_up,
    open_turn,
    store_records,
    tenants_with_open_turns,
)
from cascade.conversations.values import ConversationView, NotFound, OpenTurn, Refused, Reply, TurnOver, TurnResult

__all__ = [
    "CHANNEL",
    "LONGEST_REPLY",
    "SUMMARY_TOKENS",
    "WINDOW",
    "CallRecord",
    "ConversationView",
    "NotFound",
    "OpenTurn",
    "Refused",
    "Reply",
    "TurnOver",
    "TurnResult",
    "answering",
    "append",
    "begin",
    "charge",
    "close",
    "close_turn",
    "columns",
    "computed",
    "erase",
    "estimate",
    "events_after",
    "give_back",
    "give_up",
    "hand_over",
    "history",
    "last_reply",
    "open_conversation",
    "open_turn",
    "reply_as_staff",
    "say",
    "set_feedback",
    "set_usage",
    "settle",
    "shown",
    "store_records",
    "stream_chunks",
    "take_over",
    "tenants_with_open_turns",
    "view",
]
