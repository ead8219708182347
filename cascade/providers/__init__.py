"""The vendors that can be asked: one thin adapter a file, and one line here.

The name of a provider is a plain string in every row that has one, so a new adapter needs no
migration. A local model is no case of its own: it is an "openai" model with an address.
"""

from collections.abc import Callable

from cascade.providers.anthropic import AnthropicProvider
from cascade.providers.openai import OpenAIProvider
from cascade.providers.protocol import Delta, Finished, Provider

# Each is made with (api_key, base_url); base_url None: the vendor's own address.
ADAPTERS: dict[str, Callable[[str, str | None], Provider]] = {
    "anthropic": AnthropicProvider,
    "openai": OpenAIProvider,
}

__all__ = ["ADAPTERS", "AnthropicProvider", "Delta", "Finished", "OpenAIProvider", "Provider"]
