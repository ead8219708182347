"""The chunks of a streamed reply: the UI-message chunks of the AI SDK (vercel/ai, ui-message-chunks.ts)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import regex


def start(message_id: str) -> dict[str, Any]:
    return {"type": "start", "messageId": message_id}


def text_start(part: str) -> dict[str, Any]:
    return {"type": "text-start", "id": part}


def text_delta(part: str, delta: str) -> dict[str, Any]:
    return {"type": "text-delta", "id": part, "delta": delta}


def text_end(part: str) -> dict[str, Any]:
    return {"type": "text-end", "id": part}


def source_document(source_id: str, title: str) -> dict[str, Any]:
    """An article that stands behind the reply."""
    return {"type": "source-document", "sourceId": source_id, "mediaType": "text/plain", "title": title}


def finish(reason: str) -> dict[str, Any]:
    """`reason`: stop, length, content-filter, tool-calls, error or other."""
    return {"type": "finish", "finishReason": reason}


def abort() -> dict[str, Any]:
    return {"type": "abort"}


def error(text: str) -> dict[str, Any]:
    return {"type": "error", "errorText": text}


# --- an accepted reply in pieces ----------------------------------------------------------------

MAX_PIECES = 24  # one every 40 ms: an accepted reply is shown within about a second


def pieces(text: str, most: int = MAX_PIECES) -> list[str]:
    """`text` in at most `most` pieces of whole words, none of which cuts a grapheme (UAX #29).

    "".join(pieces(text)) == text; the empty text has no pieces.
    """
    words = list(_words(text))
    size = -(-len(words) // most) or 1
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _words(text: str, longest: int = 24) -> Iterator[str]:
    """Words with the white space behind them; what has no spaces is cut after `longest` graphemes."""
    word: list[str] = []
    for grapheme in regex.findall(r"\X", text):
        if word and (len(word) >= longest or (word[-1].isspace() and not grapheme.isspace())):
            yield "".join(word)
            word = []
        word.append(grapheme)
    if word:
        yield "".join(word)
