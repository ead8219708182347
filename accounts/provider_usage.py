"""A provider's own report of what was used, as it can be downloaded: tokens or costs by day and model. Pure.

Read are the JSON answers of OpenAI's organization/usage/completions
(https://platform.openai.com/docs/api-reference/usage) and of Anthropic's usage_report/messages and cost_report
(https://platform.claude.com/docs/en/api/admin/cost_report), grouped by model, in buckets of a day or less.
Comparing them with the books is left to `accounts.reconciliation`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from accounts.money import Money

SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")  # a model's name as it is reported: with the day it was made


class Unreadable(ValueError):
    """The file is no complete report that is known here; the message says why."""


@dataclass(frozen=True, slots=True)
class Used:
    """Of one model on one day (UTC). None: the report does not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Money | None = None


def read(text: str) -> dict[tuple[date, str], Used]:
    """By day and the provider's name of the model. `text` is one answer, or a list of all pages. Raises Unreadable."""
    try:
        told = json.loads(text, parse_float=Decimal)
        pages = told if isinstance(told, list) else [told]
        if not pages or pages[-1]["has_more"]:
            raise Unreadable("pages are missing at the end")
        figures: dict[tuple[date, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for day, result in _results(pages):
            for what, count in _figures(result).items():
                figures[day, _model(result)][what] += count
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise Unreadable(str(error) or type(error).__name__) from None
    return {where: _used(sums) for where, sums in figures.items()}


def _results(pages: list[Any]) -> Iterator[tuple[date, Mapping[str, Any]]]:
    for page in pages:
        for bucket in page["data"]:
            if "start_time" in bucket:
                begins = datetime.fromtimestamp(int(bucket["start_time"]), UTC)
            else:
                begins = datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC)
            for result in bucket["results"]:
                yield begins.date(), result


def _figures(result: Mapping[str, Any]) -> dict[str, Decimal]:
    if "uncached_input_tokens" in result:  # Anthropic, tokens
        written = sum((result.get("cache_creation") or {}).values())
        entering = result["uncached_input_tokens"] + result["cache_read_input_tokens"] + written
        return {"input": Decimal(entering), "output": Decimal(result["output_tokens"])}
    if "input_tokens" in result:  # OpenAI, tokens; the cached are among them
        return {"input": Decimal(result["input_tokens"]), "output": Decimal(result["output_tokens"])}
    if result.get("currency") == "USD" and isinstance(result["amount"], str):  # Anthropic, cents
        return {"cost": Decimal(result["amount"]) * 10_000}
    raise Unreadable("neither tokens nor costs in US dollars are told")


def _model(result: Mapping[str, Any]) -> str:
    if not result["model"]:
        raise Unreadable("the report is not grouped by model")
    return SNAPSHOT.sub("", result["model"])


def _used(sums: Mapping[str, Decimal]) -> Used:
    def count(what: str) -> int | None:
        return int(sums[what]) if what in sums else None

    return Used(count("input"), count("output"), Money.from_exact(sums["cost"]) if "cost" in sums else None)
