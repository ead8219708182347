"""A provider's log of single requests, as JSON lines or CSV: what each call really used. Pure.

Each line names our call: adapters send its id as `X-Client-Request-Id` (`cascade.providers.exchange`). Columns are
client_request_id, input_tokens and output_tokens, and where they are told cached_input_tokens, cache_write_tokens,
reasoning_tokens (parts of those, as in `Usage`) and cost (US dollars). Others are ignored. Bringing it into the books
is left to `cascade.call_reconciliation`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

from accounts.money import Money
from accounts.provider_usage import Unreadable
from cascade.values import Usage

PARTS = ("cached_input_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class Used:
    """What the provider says of one call. `cost` None: it does not tell; the call's own price applies."""

    usage: Usage
    cost: Money | None = None


def is_one(text: str, suffix: str) -> bool:
    """A table is a log where it tells our calls, else a report of sums (`accounts.provider_usage`)."""
    return suffix == ".jsonl" or (suffix == ".csv" and "client_request_id" in text.partition("\n")[0])


def read(text: str, suffix: str) -> dict[UUID, Used]:
    """By call. `suffix` is .jsonl or .csv. Raises Unreadable, which names the entry."""
    found: dict[UUID, Used] = {}
    try:
        for line in _lines(text, suffix):
            call_id = UUID(line["client_request_id"])
            if call_id in found:
                raise ValueError(f"call {call_id} is told twice")
            found[call_id] = _used(line)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, csv.Error) as error:
        raise Unreadable(f"entry {len(found) + 1}: {error or type(error).__name__}") from None
    if not found:
        raise Unreadable("there is nothing in it")
    return found


def _lines(text: str, suffix: str) -> Iterator[Mapping[str, Any]]:
    if suffix == ".csv":
        yield from csv.DictReader(StringIO(text), strict=True)
    else:
        yield from (json.loads(line, parse_float=Decimal) for line in text.splitlines() if line.strip())


def _used(line: Mapping[str, Any]) -> Used:
    usage = Usage(
        _count(line["input_tokens"]),
        _count(line["output_tokens"]),
        **{name: _count(line.get(name) or 0) for name in PARTS},
    )
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    if min(fresh, usage.output_tokens - usage.reasoning_tokens) < 0:
        raise ValueError("a part is more than the whole")
    told = line.get("cost")
    cost = None if told in (None, "") else Money.from_exact(Decimal(str(told)) * 1_000_000)
    if cost is not None and cost.micros < 0:
        raise ValueError(f"a cost of {told}")
    return Used(usage, cost)


def _count(told: Any) -> int:
    count = int(str(told))  # neither 1.5 nor true
    if count < 0:
        raise ValueError(f"{told} tokens")
    return count
