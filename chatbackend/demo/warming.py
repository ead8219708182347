"""Lets a local model read once what every prompt of the demo begins with (rules and articles), before anybody asks.

A model keeps what it has read, so the first customer waits for their own facts alone.
"""

from __future__ import annotations

from contextlib import aclosing
from decimal import Decimal

from django.utils import timezone

from cascade.context import Instructions, build
from cascade.errors import ProviderError
from cascade.price_list import Offer
from cascade.providers import ADAPTERS
from cascade.values import Context, Customer, LanguageModel, Passage, Price, Prompt
from chatbackend.demo.shop import load

NOTHING = Price("warming", Decimal(0), Decimal(0))
SECONDS = 180.0


async def warm(offer: Offer, budget: int) -> None:
    """Returns when the model has read it, or cannot be asked: then the first customer waits longer, no more."""
    model = LanguageModel(offer.name, offer.provider, offer.remote_name, NOTHING, offer.base_url)
    stream = ADAPTERS[offer.provider]("", None).stream(
        model, beginning(budget), max_output_tokens=1, timeout_seconds=SECONDS
    )
    try:
        async with aclosing(stream):
            async for _ in stream:
                pass
    except ProviderError:
        return


def beginning(budget: int) -> Prompt:
    """The prompt of a visitor of whom nothing is known. `budget`: tokens, as in production."""
    shop = load(timezone.localdate())
    passages = tuple(
        Passage(article.slug, article.title, article.body)
        for article in sorted(shop.articles, key=lambda article: article.slug)
    )
    told = Instructions(shop.chatbot["name"], shop.chatbot["instructions"], shop.chatbot["tone"])
    context = Context(Customer("nobody"), "Hello", timezone.now(), passages=passages)
    return build(context, told, input_token_budget=budget).prompt
