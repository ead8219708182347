"""A provider's own report of what was used, as it can be downloaded: tokens or costs by day and model. Pure.

Read are the JSON answers of OpenAI's organization/usage/completions and organization/costs
(https://platform.openai.com/docs/api-reference/usage) and of Anthropic's usage_report/messages and cost_report
(https://platform.claude.com/docs/en/api/admin/cost_report), grouped by model (OpenAI's costs by line item), in
buckets of a day or less; and the CSV files of the same that both let one export, each known by its columns.
Comparing them with the books is left to `accounts.reconciliation`.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
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


def read(text: str, suffix: str = ".json") -> dict[tuple[date, str], Used]:
    """By day and the provider's name of the model. Raises Unreadable.

    `text` is one answer, or a list of all pages; with the suffix .csv a table.
    """
    figures: dict[tuple[date, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    try:
        for day, result in _rows(text) if suffix == ".csv" else _results(text):
            for what, count in _figures(result).items():
                figures[day, _model(result)][what] += count
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, csv.Error) as error:
        raise Unreadable(str(error) or type(error).__name__) from None
    return {where: _used(sums) for where, sums in figures.items()}


def _rows(text: str) -> Iterator[tuple[date, Mapping[str, Any]]]:
    """Anthropic's tables tell days, OpenAI's seconds, and those of its costs have a row for a day without any."""
    for row in csv.DictReader(StringIO(text), strict=True):
        if row.get("amount_value", "0") == "":
            continue
        if "usage_date_utc" in row:
            yield date.fromisoformat(row["usage_date_utc"][:10]), row
        else:
            yield datetime.fromtimestamp(int(row["start_time"]), UTC).date(), row


def _results(text: str) -> Iterator[tuple[date, Mapping[str, Any]]]:
    told = json.loads(text, parse_float=Decimal)
    pages = told if isinstance(told, list) else [told]
    if not pages or pages[-1]["has_more"]:
        raise Unreadable("pages are missing at the end")
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
    if "usage_output_tokens" in result:  # the same as a table
        entering = sum(int(count or 0) for name, count in result.items() if name.startswith("usage_input_tokens"))
        return {"input": Decimal(entering), "output": Decimal(result["usage_output_tokens"])}
    if "input_tokens" in result:  # OpenAI, tokens; the cached are among them
        return {"input": Decimal(result["input_tokens"]), "output": Decimal(result["output_tokens"])}
    return {"cost": _dollars(result) * 1_000_000}


def _dollars(result: Mapping[str, Any]) -> Decimal:
    if "cost_usd" in result:  # Anthropic, as a table
        return Decimal(result["cost_usd"])
    amount, currency = result.get("amount"), result.get("currency")
    if currency == "USD" and isinstance(amount, str):  # Anthropic, cents
        return Decimal(amount) / 100
    if isinstance(amount, Mapping):  # OpenAI
        amount, currency = amount["value"], amount["currency"]
    elif "amount_value" in result:  # as a table
        amount, currency = result["amount_value"], result["amount_currency"]
    if amount is None or str(currency).lower() != "usd":
        raise Unreadable("neither tokens nor costs in US dollars are told")
    return Decimal(amount)


def _model(result: Mapping[str, Any]) -> str:
    """A cost of OpenAI is of a line, "gpt-6-luna, input"; Anthropic's table of costs has "Claude Haiku 5.5"."""
    told = result.get("model") or result.get("model_version") or (result.get("line_item") or "").partition(", ")[0]
    if not told:
        raise Unreadable("the report is not grouped by model")
    name = re.sub("[ .]", "-", told).lower() if "cost_usd" in result else told
    return SNAPSHOT.sub("", name)


def _used(sums: Mapping[str, Decimal]) -> Used:
    def count(what: str) -> int | None:
        return int(sums[what]) if what in sums else None

    return Used(count("input"), count("output"), Money.from_exact(sums["cost"]) if "cost" in sums else None)
