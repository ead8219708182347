"""The vendors that can be asked: one thin adapter a file, one line for each in `adapters`.

The name of a provider is a plain string in every row that has one, so a new adapter needs no
migration. A local model is no case of its own: it is an "openai" model with an address.
"""

from importlib import import_module
from typing import Any

from cascade.providers.protocol import Delta, Finished, Provider

__all__ = ["ADAPTERS", "AnthropicProvider", "Delta", "Finished", "OpenAIProvider", "Provider"]


def __getattr__(name: str) -> Any:
    """The adapters, with the vendors' SDKs: most of a second and 60 MB, only where models are asked."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module("cascade.providers.adapters"), name)
