"""Anthropic's messages: to the wire, call, from the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from anthropic import AsyncAnthropic

from cascade.errors import AuthenticationFailed
from cascade.providers.exchange import Exchange, count, names, network_timeout
from cascade.providers.protocol import Delta, Finished
from cascade.values import FinishReason, LanguageModel, Prompt, Usage

ADDRESS = "https://api.anthropic.com"
_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}
_COUNTS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "output_tokens_details",
)


class AnthropicProvider:
    """One client, shared by all calls. The key goes to `base_url` and to no model's own address."""

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        self._has_key = bool(api_key)  # without one, only models with an address of their own can be asked
        self._client = AsyncAnthropic(api_key=api_key or "none", base_url=base_url or ADDRESS, max_retries=0)
        self._elsewhere: dict[str, AsyncAnthropic] = {}

    async def stream(
        self, model: LanguageModel, prompt: Prompt, *, max_output_tokens: int, timeout_seconds: float
    ) -> AsyncGenerator[Delta | Finished]:
        """See `Provider.stream`."""
        counts: dict[str, Any] = {}
        with Exchange(model.name) as exchange:
            async with await self._client_of(model).messages.create(
                **_to_wire(prompt),
                model=model.remote_name,
                max_tokens=max_output_tokens,
                stream=True,
                timeout=network_timeout(timeout_seconds),
                extra_headers=names(prompt),
            ) as events:
                async for event in events:
                    exchange.begun = True
                    match event.type:
                        case "message_start":
                            _update(counts, event.message.usage)
                        case "content_block_delta" if event.delta.type == "text_delta":
                            if event.delta.text:
                                yield Delta(event.delta.text)
                        case "message_delta":
                            _update(counts, event.usage)
                            exchange.finish = event.delta.stop_reason or exchange.finish
        reason = _REASONS.get(exchange.finish or "", FinishReason.OTHER)
        yield Finished(reason, _usage(counts) if counts else None)

    def _client_of(self, model: LanguageModel) -> AsyncAnthropic:
        if not (model.base_url or self._has_key):
            raise AuthenticationFailed(model.name, "no key")
        if not model.base_url:
            return self._client
        if model.base_url not in self._elsewhere:
            other = self._client.with_options(base_url=model.base_url, api_key="none")
            self._elsewhere[model.base_url] = other
        return self._elsewhere[model.base_url]

    async def aclose(self) -> None:
        """See `Provider.aclose`."""
        await self._client.close()  # the others share its connections


def _to_wire(prompt: Prompt) -> dict[str, Any]:
    """System messages have a place of their own there; what is the same whoever asks is marked to be kept."""
    system = "\n\n".join(m.content for m in prompt.messages if m.role == "system")
    others = [{"role": m.role, "content": m.content} for m in prompt.messages if m.role != "system"]
    told = _blocks(system, prompt.stable) if prompt.stable else system
    return {"messages": others} | ({"system": told} if system else {})


def _blocks(system: str, stable: int) -> list[dict[str, Any]]:
    kept = {"type": "text", "text": system[:stable], "cache_control": {"type": "ephemeral"}}
    return [kept, {"type": "text", "text": system[stable:]}] if system[stable:].strip() else [kept]


def _update(counts: dict[str, Any], wire: Any) -> None:
    """Counts are cumulative: the latest of each stands."""
    counts.update({name: value for name in _COUNTS if (value := getattr(wire, name, None)) is not None})


def _usage(counts: dict[str, Any]) -> Usage:
    """There, input_tokens leaves out what was read from and written to the cache; here it is all of it."""
    fresh = count(counts.get("input_tokens"))
    read = count(counts.get("cache_read_input_tokens"))
    written = count(counts.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=fresh + read + written,
        output_tokens=count(counts.get("output_tokens")),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(getattr(counts.get("output_tokens_details"), "thinking_tokens", None)),
    )
