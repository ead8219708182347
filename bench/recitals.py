"""Which recitals of articles never seen before the scorer accepts: `python -m bench.recitals [--weights DIR]`

A Basic member of the demo's shop asks about each of its articles and is told the article as it stands, then with its
first figure replaced, then in every other way in which `counterfactuals.misrecited` goes wrong. All articles are shown,
the one asked about first, as the product would. Nothing of this shop has trained the weights.
"""

from __future__ import annotations

import argparse
import os
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("DEMO", "1")

import torch

from bench.small_model import WEIGHTS, Question, context_of
from cascade.context import Instructions, build
from cascade.scorer import head
from cascade.scorer import model as network
from cascade.scorer.counterfactuals import misrecited
from cascade.scorer.manifest import read
from cascade.values import Context
from chatbackend.demo import shop

ACCEPT = (0.5, 0.9)  # an even chance, and what the demo asks of its small model
ASKS = {
    "returns": "How can I return a lamp?",
    "return-shipping": "What does a return cost?",
    "refunds": "When does the refund come?",
    "shipping-costs": "What does shipping cost?",
    "delivery-times": "How long does delivery take?",
    "late-parcels": "What happens when a parcel is late?",
    "change-or-cancel": "How can I change or cancel an order?",
    "damaged": "What do I do when something arrived damaged?",
    "warranty": "How long is the warranty?",
    "plans": "What plans are there?",
    "price-drops": "What if the price falls after I ordered?",
    "payment": "How can I pay?",
    "gift-cards": "How do gift cards work?",
    "bulbs": "Which bulbs do your lamps take?",
    "contact": "When are you open, and do you have shops?",
}
Score = Callable[[Context, str], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    score = scored_by(parser.parse_args().weights)
    right, replaced, wrong = list[float](), list[float](), list[float]()
    for slug, context, text in asked():
        right.append(score(context, text))
        figure = first_figure_replaced(text)
        replaced += [score(context, figure)] if figure else []
        changed = [score(context, other) for other in misrecited(text, random.Random(slug))]
        wrong += changed
        shown = f"{replaced[-1]:.3f}" if figure else "  -  "
        print(f"{slug:18} as it stands {right[-1]:.3f}   figure {shown}   wrong", *(f"{each:.3f}" for each in changed))
    told = (("as it stands", right), ("first figure replaced", replaced), ("wrong in any way", wrong))
    for name, found in told:
        print(f"{name:24}", *(accepted(found, threshold) for threshold in ACCEPT))


def scored_by(weights: Path) -> Score:
    torch.set_num_threads(1)
    manifest, joined = read(weights), head.load(weights)
    model, tokenizer = network.load(weights)

    def score(context: Context, answer: str) -> float:
        logits = head.logits(model, joined, [network.reading(tokenizer, context, answer, manifest.window)])
        return manifest.calibration.probability(logits[0])

    return score


def asked() -> list[tuple[str, Context, str]]:
    """Each article's slug, what is put before a model when it is asked about, and its text."""
    now = datetime.now(UTC)
    today = shop.load(now.date())
    told = Instructions(today.chatbot["name"], today.chatbot["instructions"], today.chatbot["tone"])
    texts = {article.slug: article.body.strip() for article in today.articles}
    found = []
    for slug, question in ASKS.items():
        context = context_of(Question("diego", question, (), (), "report"), today, now)
        passages = [replace(each, relevance=float(each.source_id == slug)) for each in context.passages]
        best_first = replace(context, passages=tuple(sorted(passages, key=lambda each: -each.relevance)))
        found.append((slug, build(best_first, told, input_token_budget=2500).context, texts[slug]))
    return found


def first_figure_replaced(text: str) -> str | None:
    found = re.search(r"\b\d+\b", text)
    return text[: found.start()] + ("50" if found.group() == "45" else "45") + text[found.end() :] if found else None


def accepted(found: Sequence[float], threshold: float) -> str:
    return f"  at {threshold}: {sum(each >= threshold for each in found)} of {len(found)}"


if __name__ == "__main__":
    main()
