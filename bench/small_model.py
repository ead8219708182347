"""Which local model is worth asking first? The demo's own questions, judged by written expectations and the scorer.

    .venv/bin/python -m bench.small_model qwen2.5-coder-0.5b-instruct ...

Each named model must be served (`manage.py serve_model NAME`). Answers are kept in var/small_model.jsonl and not asked
for again; `--threshold` shows what a cascade accepts. Prompts are built as in production, for today's shop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

os.environ.setdefault("DEMO", "1")

from cascade.context import Instructions, build
from cascade.local_models import catalogue
from cascade.providers import ADAPTERS, Delta, Finished
from cascade.scorer.serving import Scorer
from cascade.values import Context, Customer, LanguageModel, Passage, Price, Prompt, Record
from chatbackend.demo import shop, tiers

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "var/small_model.jsonl"
WEIGHTS = ROOT / "cascade/scorer/weights"
SECONDS = 600.0
FREE = Price("bench", input=0, output=0)  # type: ignore[arg-type]  # nothing is charged here


@dataclass(frozen=True)
class Question:
    customer: str
    asks: str
    says: tuple[str, ...]
    never: tuple[str, ...]
    use: str  # "report" or "tune"


@dataclass(frozen=True)
class Answer:
    model: str
    question: Question
    text: str
    seconds: float
    right: bool
    score: float | None  # None: not scored


def questions() -> list[Question]:
    told = tomllib.loads(Path(__file__).with_name("small_model_questions.toml").read_text())["questions"]
    return [
        Question(it["customer"], it["asks"], tuple(it["says"]), tuple(it.get("never", ())), it.get("use", "report"))
        for it in told
    ]


def context_of(question: Question, today: shop.Shop, now: datetime) -> Context:
    shopper = today.customer(question.customer)
    assert shopper is not None, question.customer
    records = tuple(Record("order", order.external_id, now, order.data) for order in shopper.orders)
    customer = Customer(shopper.external_id, True, shopper.locale, shopper.attributes, records)
    articles = sorted(today.articles, key=lambda article: article.slug)
    passages = tuple(Passage(article.slug, article.title, article.body) for article in articles)
    return Context(customer, question.asks, now, passages=passages)


def is_right(question: Question, text: str, today: shop.Shop) -> bool:
    shopper = today.customer(question.customer)
    assert shopper is not None
    order = shopper.orders[0].data
    dates = {name: _written(value) for name, value in order.items() if name.endswith(("_on", "_until"))}

    def found(pattern: str) -> bool:
        for name, forms in dates.items():
            pattern = pattern.replace(f"{{{name}}}", forms)
        return bool(re.search(pattern, text.replace("’", "'"), re.IGNORECASE))

    return all(map(found, question.says)) and not any(map(found, question.never))


def _written(day: str) -> str:
    """A pattern for the ways people write a date."""
    it = date.fromisoformat(day)
    month, short = it.strftime("%B"), it.strftime("%b")
    return f"(?:{day}|(?:{month}|{short}\\.?) 0?{it.day}\\b|\\b{it.day}(?:st|nd|rd|th)?(?: of)? (?:{month}|{short}))"


async def ask(model: str, prompt: Prompt) -> tuple[str, float]:
    provider = ADAPTERS["openai"]("", None)
    asked, text, began = LanguageModel(model, "openai", model, FREE, catalogue()[model].base_url), "", time.monotonic()
    stream = provider.stream(asked, prompt, max_output_tokens=tiers.MAX_OUTPUT_TOKENS, timeout_seconds=SECONDS)
    async for event in stream:
        if isinstance(event, Delta):
            text += event.text
        elif isinstance(event, Finished):
            break
    return text.strip(), time.monotonic() - began


async def answers(models: list[str], use: str, today: shop.Shop) -> list[Answer]:
    """Asks what was not asked before; scores everything, where there are weights."""
    now = datetime.now(UTC)
    kept = _read()
    asked = [question for question in questions() if question.use == use]
    scorer = Scorer(WEIGHTS) if WEIGHTS.exists() else None
    instructions = Instructions(today.chatbot["name"], today.chatbot["instructions"], today.chatbot["tone"])
    result = []
    for model in models:
        for question in asked:
            built = build(context_of(question, today, now), instructions, input_token_budget=2500)
            key = (model, question.customer, question.asks, built.prompt.messages[0].content)
            if key not in kept:
                kept[key] = await ask(model, built.prompt)
                _write(key, kept[key])
            text, seconds = kept[key]
            score = await scorer.score(built.context, text, deadline_seconds=120) if scorer and text else None
            result.append(Answer(model, question, text, seconds, is_right(question, text, today), score))
    if scorer:
        await scorer.close()
    return result


def _read() -> dict[tuple[str, ...], tuple[str, float]]:
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return {tuple(it["key"]): (it["text"], it["seconds"]) for it in map(json.loads, lines)}


def _write(key: tuple[str, ...], answer: tuple[str, float]) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    with KEPT.open("a") as file:
        file.write(json.dumps({"key": key, "text": answer[0], "seconds": answer[1]}) + "\n")


def table(found: list[Answer], threshold: float) -> str:
    columns = ("questions", "right", "accepted", "of them right", "right, but refused", "median s")
    lines = [f"| model | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for model in dict.fromkeys(answer.model for answer in found):
        mine = [answer for answer in found if answer.model == model]
        accepted = [answer for answer in mine if answer.score is not None and answer.score >= threshold]
        refused = sum(answer.right for answer in mine) - sum(answer.right for answer in accepted)
        median = sorted(answer.seconds for answer in mine)[len(mine) // 2]
        good = f"{sum(answer.right for answer in accepted)}"
        right = sum(answer.right for answer in mine)
        lines.append(f"| {model} | {len(mine)} | {right} | {len(accepted)} | {good} | {refused} | {median:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--use", choices=["report", "tune"], default="report")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--show", action="store_true", help="every answer")
    options = parser.parse_args()
    today = shop.load(datetime.now(UTC).date())
    found = asyncio.run(answers(options.models, options.use, today))
    if options.show:
        for answer in sorted(found, key=lambda answer: (answer.question.asks, answer.question.customer)):
            score = "none" if answer.score is None else f"{answer.score:.3f}"
            print(f"{'right' if answer.right else 'WRONG'} {score} {answer.model} | {answer.question.customer}: "
                  f"{answer.question.asks} | {answer.text!r}")  # fmt: skip
    print(table(found, options.threshold))


if __name__ == "__main__":
    main()
