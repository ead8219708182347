"""OpenAI's chat completions, and every server that speaks the same: to the wire, call, from the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

from openai import AsyncOpenAI

from cascade.errors import AuthenticationFailed
from cascade.providers.exchange import Exchange, count, names, network_timeout
from cascade.providers.protocol import Delta, Finished
from cascade.values import FinishReason, LanguageModel, Prompt, Usage

ADDRESS = "https://api.openai.com/v1"
_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class OpenAIProvider:
    """One client, shared by all calls. The key goes to `base_url` and to no model's own address."""

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        self._has_key = bool(api_key)  # without one, only models with an address of their own can be asked
        self._client = AsyncOpenAI(api_key=api_key or "none", base_url=base_url or ADDRESS, max_retries=0)
        self._elsewhere: dict[str, AsyncOpenAI] = {}

    async def stream(
        self, model: LanguageModel, prompt: Prompt, *, max_output_tokens: int, timeout_seconds: float
    ) -> AsyncGenerator[Delta | Finished]:
        """See `Provider.stream`."""
        usage = None
        with Exchange(model.name) as exchange:
            async with await self._client_of(model).chat.completions.create(
                model=model.remote_name,
                messages=cast(Any, [{"role": m.role, "content": m.content} for m in prompt.messages]),
                max_completion_tokens=max_output_tokens,
                stream=True,
                stream_options={"include_usage": True},
                timeout=network_timeout(timeout_seconds),
                extra_headers=names(prompt),
            ) as chunks:
                async for chunk in chunks:
                    exchange.begun = True
                    usage = chunk.usage or usage  # comes after the finish reason: read to the end
                    for choice in chunk.choices:
                        if choice.delta.content:
                            yield Delta(choice.delta.content)
                        exchange.finish = choice.finish_reason or exchange.finish
        reason = _REASONS.get(exchange.finish or "", FinishReason.OTHER)
        yield Finished(reason, _usage(usage) if usage else None)

    def _client_of(self, model: LanguageModel) -> AsyncOpenAI:
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


def _usage(wire: Any) -> Usage:
    prompt, completion = wire.prompt_tokens_details, wire.completion_tokens_details
    return Usage(
        input_tokens=count(wire.prompt_tokens),
        output_tokens=count(wire.completion_tokens),
        cached_input_tokens=count(prompt and prompt.cached_tokens),
        cache_write_tokens=count(prompt and prompt.cache_write_tokens),
        reasoning_tokens=count(completion and completion.reasoning_tokens),
    )
