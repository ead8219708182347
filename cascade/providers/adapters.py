"""Every adapter, by the name of its provider."""

from collections.abc import Callable

from cascade.providers.anthropic import AnthropicProvider
from cascade.providers.openai import OpenAIProvider
from cascade.providers.protocol import Provider

# Each is made with (api_key, base_url); base_url None: the vendor's own address.
ADAPTERS: dict[str, Callable[[str, str | None], Provider]] = {
    "anthropic": AnthropicProvider,
    "openai": OpenAIProvider,
}
