"""How OpenAI's chat completions and Anthropic's messages look on the wire, seen from the vendor's side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tests.model_server import Call


@dataclass(frozen=True)
class Tokens:
    """A provider's count; `input` is all of the prompt, the cached and written parts included."""

    input: int
    output: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


class OpenAIWire:
    name: Literal["openai"] = "openai"
    _kinds = {401: "invalid_api_key", 429: "rate_limit_exceeded"}

    def kind_of(self, status: int) -> str:
        return self._kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")

    def error(self, kind: str, text: str) -> dict[str, Any]:
        return {"error": {"message": text, "type": kind, "code": kind}}

    def error_event(self, kind: str) -> str:
        return _event(self.error(kind, "It broke."))

    def start(self, call: Call, usage: Tokens | None) -> list[str]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def piece(self, text: str) -> str:
        return self._chunk({"content": text})

    def end(self, call: Call, finish: str, usage: Tokens | None, *, done: bool) -> list[str]:
        asked = (call.body.get("stream_options") or {}).get("include_usage")
        counted = [_event({**_OPENAI, "choices": [], "usage": self.usage(usage)})] if usage and asked else []
        return [self._chunk({}, finish), *counted, *(["data: [DONE]\n\n"] if done else [])]

    def whole(self, call: Call, text: str, finish: str, usage: Tokens | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        answer = {**_OPENAI, "object": "chat.completion", "model": call.model, "choices": [choice]}
        return answer | ({"usage": self.usage(usage)} if usage else {})

    def usage(self, tokens: Tokens) -> dict[str, Any]:
        return {
            "prompt_tokens": tokens.input,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.input + tokens.output,
            "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> str:
        return _event({**_OPENAI, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


class AnthropicWire:
    name: Literal["anthropic"] = "anthropic"
    _kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    _finishes = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

    def kind_of(self, status: int) -> str:
        return self._kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")

    def error(self, kind: str, text: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": text}}

    def error_event(self, kind: str) -> str:
        return _event(self.error(kind, "It broke."), "error")

    def start(self, call: Call, usage: Tokens | None) -> list[str]:
        message = self.whole(call, "", "stop", usage) | {"content": [], "stop_reason": None}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return [_named("message_start", {"message": message}), _named("content_block_start", block)]

    def piece(self, text: str) -> str:
        return _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    def end(self, call: Call, finish: str, usage: Tokens | None, *, done: bool) -> list[str]:
        delta = {"stop_reason": self._finishes.get(finish, finish), "stop_sequence": None}
        counted = {"usage": self.usage(usage)} if usage else {}
        stop = [_named("message_stop", {})] if done else []
        return [
            _named("content_block_stop", {"index": 0}),
            _named("message_delta", {"delta": delta} | counted),
            *stop,
        ]

    def whole(self, call: Call, text: str, finish: str, usage: Tokens | None) -> dict[str, Any]:
        answer = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": self._finishes.get(finish, finish),
        }
        return answer | ({"usage": self.usage(usage)} if usage else {})

    def usage(self, tokens: Tokens) -> dict[str, Any]:
        return {
            "input_tokens": tokens.input - tokens.cached - tokens.written,
            "cache_read_input_tokens": tokens.cached,
            "cache_creation_input_tokens": tokens.written,
            "output_tokens": tokens.output,
            "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        }


Wire = OpenAIWire | AnthropicWire
WIRES: dict[str, Wire] = {"completions": OpenAIWire(), "messages": AnthropicWire()}
_OPENAI = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}


def _event(body: dict[str, Any], name: str = "") -> str:
    lead = f"event: {name}\n" if name else ""
    plain = json.dumps(body, ensure_ascii=False)
    whole = not any("\ud800" <= character <= "\udfff" for character in plain)  # else only escapes can carry it
    return f"{lead}data: {plain if whole else json.dumps(body)}\n\n"


def _named(name: str, body: dict[str, Any]) -> str:
    return _event({"type": name, **body}, name)
