"""Rows of labelled answers (JSON lines) as the values the scorer reads; the only place that knows their columns."""

from __future__ import annotations

import gzip
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cascade.values import Context, Customer, Passage, Record, Utterance

_NOW = {"airline": datetime(2024, 5, 15, 15, tzinfo=UTC), "retail": datetime(2024, 5, 15, 15, tzinfo=UTC)}
_NOW_ELSEWHERE = datetime(2019, 3, 1, tzinfo=UTC)  # the day on which all dialogues of SGD play
_RULES = tomllib.loads(Path(__file__).with_name("rules.toml").read_text())
_RECORD_LISTS = ("orders", "reservations", "records", "products")
_ID_KEYS = ("external_id", "order_id", "reservation_id", "id")
CONTEXT: TypeAdapter[Context] = TypeAdapter(Context)  # of rows that were made here: a column "context" says it all


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled answer. `slices` are the names of those tables it counts in."""

    id: str
    user_id: str
    group_id: str
    conversation_id: str
    split: str
    source: str
    good: bool
    negative_type: str | None  # None: good
    needs: str | None
    own_record: bool
    context: Context
    answer: str


def read_rows(paths: Iterable[Path], split: str | None = None) -> list[Row]:
    """All rows of the files, or those of one split. Raises ValueError naming file and line of a broken row."""
    return [row for path in paths for row in _read(Path(path)) if split is None or row.split == split]


def _read(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield row_of(json.loads(line))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: not a labelled answer ({error!r})") from error


def row_of(columns: Mapping[str, Any]) -> Row:
    good = columns["label"] == "good"
    if not good and columns["label"] != "bad":
        raise ValueError(f"label {columns['label']!r}")
    return Row(
        id=str(columns["id"]),
        user_id=str(columns.get("user_id") or columns["id"]),
        group_id=str(columns.get("group_id") or columns["id"]),
        conversation_id=str(columns.get("conversation_id") or columns.get("group_id") or columns["id"]),
        split=str(columns.get("split") or ""),
        source=str(columns["id"]).split("-")[0],
        good=good,
        negative_type=None if good else columns.get("negative_type") or "other",
        needs=columns.get("needs"),
        own_record=bool(columns.get("corrupted_own_record")),
        context=CONTEXT.validate_python(columns["context"]) if "context" in columns else _context(columns),
        answer=str(columns["answer"]),
    )


def _context(columns: Mapping[str, Any]) -> Context:
    known = columns.get("user_context") or {}
    now = _NOW.get(str(known.get("domain")), _NOW_ELSEWHERE)
    attributes = dict(known.get("profile") or {})
    if known.get("session"):
        attributes["current request"] = known["session"]
    lists = [(key, known[key]) for key in _RECORD_LISTS if known.get(key)]
    if known.get("order"):
        lists.append(("orders", [known["order"]]))
    records = tuple(_record(key, number, item, now) for key, items in lists for number, item in enumerate(items))
    customer = Customer(str(columns.get("user_id") or ""), True, None, attributes, records)
    history = tuple(
        Utterance("assistant" if role == "assistant" else "customer", str(text))
        for role, text in columns.get("history") or ()
    )
    return Context(
        customer, str(columns["question"]), now, history, passages=_passages(columns, str(known.get("domain")))
    )


def _passages(columns: Mapping[str, Any], domain: str) -> tuple[Passage, ...]:
    """The row's own passages; without any, the rules of the two companies that every tau and records row is about."""
    ours = _RULES.get(domain, ()) if str(columns["id"]).startswith(("tau", "records")) else ()
    told = columns.get("passages") or ours
    return tuple(Passage(str(number), it["title"], it["text"]) for number, it in enumerate(told))


def _record(key: str, number: int, item: Mapping[str, Any], now: datetime) -> Record:
    kind = str(item.get("method") or key.rstrip("s"))
    words = "".join(f" {c}" if c.isupper() else c for c in kind).strip().lower()
    external_id = next((str(item[k]) for k in _ID_KEYS if item.get(k)), f"{key}/{number}")
    data = {k: v for k, v in item.items() if k not in (*_ID_KEYS, "service", "method")}
    return Record(words, external_id, now, data)


def fingerprint(paths: Iterable[Path]) -> str:
    """sha256 over the files' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda p: Path(p).name):
        digest.update(Path(path).name.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()


def half(row: Row) -> int:
    """0 or 1 by hash of the user: one half of validation chooses and calibrates, the other reports."""
    return hashlib.sha256(row.user_id.encode()).digest()[0] & 1


def without_customer(rows: Sequence[Row], blank: Any) -> list[Row]:
    return [replace(row, context=blank(row.context)) for row in rows]
