"""The ledger as a file: CSV, JSON lines or Parquet, for any months and filter, with a manifest beside it.

Rows are read through one cursor, so a file is one moment of the books however long it takes to write and
whatever is charged meanwhile, and only some rows are in memory at a time. Amounts are US dollars with six
decimals, as text in CSV and JSON and as exact decimals in Parquet; never floats. What the rows mean is
told by `accounts.models.LedgerEntry`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from accounts.models import LedgerEntry
from accounts.money import Money
from accounts.tenancy import in_tenant, set_for_transaction

ROWS_AT_A_TIME = 5_000
LONGEST_SECONDS = 120  # for the database to find the first rows, or the next

AMOUNTS = ("received", "amount", "cost", "result", "included", "dearest")  # columns in dollars; *_micros in the ledger
COUNTS = ("number", "tier", "input_tokens", "output_tokens")
TEXTS = (
    *("id", "created_at", "period", "kind", "source", "memo", "estimated", "tariff_id", "hold_id", "corrects_id"),
    *("turn_id", "call_id", "conversation_id", "chatbot_id", "provider", "model", "outcome", "price_version"),
)
COLUMNS = (*TEXTS, *COUNTS, *AMOUNTS)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is computed by a spreadsheet

Row = dict[str, Any]  # texts, counts (None: there is none), and amounts as Money


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries: of the months `first` to `last`, both included, where the named columns are equal."""

    first: date  # first day of a month
    last: date
    equal: dict[str, str] = field(default_factory=dict)  # column: value

    def __post_init__(self) -> None:
        if self.first.day != 1 or self.last.day != 1 or self.first > self.last:
            raise ValueError(f"{self.first} to {self.last} is not a range of months")
        if unknown := self.equal.keys() - {"kind", "source", "chatbot_id", "provider", "model", "outcome"}:
            raise ValueError(f"entries cannot be chosen by {', '.join(sorted(unknown))}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds, to be checked against it and against the ledger."""

    format: str
    first: str
    last: str
    equal: dict[str, str]
    columns: tuple[str, ...]
    rows: int
    sums: dict[str, str]  # of each amount, in dollars
    bytes: int
    sha256: str


class Writer(Protocol):
    def write(self, rows: list[Row]) -> None: ...
    def close(self) -> None: ...


def export(tenant_id: UUID, selection: Selection, form: str, out: BinaryIO) -> Manifest:
    """Write the chosen entries of a tenant to `out` as `form`, a key of FORMATS; rows stand in the order of the books.

    Raises ValueError: no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form}: {', '.join(FORMATS)}")
    told = _Told(out)
    writer, rows, sums = FORMATS[form](told), 0, dict.fromkeys(AMOUNTS, 0)
    for batch in _batches(entries(tenant_id, selection)):
        writer.write(batch)
        rows += len(batch)
        for name in AMOUNTS:
            sums[name] += sum(row[name].micros for row in batch)
    writer.close()
    return Manifest(
        form,
        f"{selection.first:%Y-%m}",
        f"{selection.last:%Y-%m}",
        selection.equal,
        COLUMNS,
        rows,
        {name: str(Money(micros)) for name, micros in sums.items()},
        told.bytes,
        told.hash.hexdigest(),
    )


def entries(tenant_id: UUID, selection: Selection) -> Iterator[Row]:
    """The chosen entries as the books were when the first was read, in their order."""
    columns = [f"{name}_micros" if name in AMOUNTS else name for name in COLUMNS]
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        chosen = LedgerEntry.objects.filter(
            tenant_id=tenant_id, period__gte=selection.first, period__lte=selection.last, **selection.equal
        )
        for values in chosen.order_by("period", "id").values_list(*columns).iterator(ROWS_AT_A_TIME):
            yield _row(values)


def neutralised(cell: str) -> str:
    """A cell that no spreadsheet computes; `restored` gives back what it was."""
    return f"'{cell}" if cell.startswith((*FORMULA, "'")) else cell


def restored(cell: str) -> str:
    return cell.removeprefix("'")


def _row(values: tuple[Any, ...]) -> Row:
    row: Row = dict(zip(COLUMNS, values, strict=True))
    for name in TEXTS:
        row[name] = _text(row[name])
    for name in AMOUNTS:
        row[name] = Money(row[name])
    return row


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime() | date():
            return value.isoformat()
        case bool():
            return "true" if value else "false"
    return str(value)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_A_TIME:
            yield batch
            batch = []
    yield batch  # the last; empty, where there is nothing at all, so that a file has its columns


# --- formats --------------------------------------------------------------------------------------


class _Told(io.RawIOBase):
    """Passes on what is written, and remembers how much it was and its hash."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.bytes, self.hash = out, 0, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = bytes(data)
        self._out.write(written)
        self.bytes += len(written)
        self.hash.update(written)
        return len(written)


class _Csv:
    def __init__(self, out: _Told) -> None:
        self._out = out
        self._write([COLUMNS])

    def write(self, rows: list[Row]) -> None:
        self._write([_cell(name, row[name]) for name in COLUMNS] for row in rows)

    def _write(self, lines: Iterable[Iterable[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        self._out.write(text.getvalue().encode())

    def close(self) -> None: ...


def _cell(name: str, value: Any) -> str:
    return neutralised(value) if name in TEXTS else "" if value is None else str(value)


class _JsonLines:
    def __init__(self, out: _Told) -> None:
        self._out = out

    def write(self, rows: list[Row]) -> None:
        lines = (json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows)
        self._out.write("".join(lines).encode("utf-8", "surrogatepass"))

    def close(self) -> None: ...


class _Parquet:
    """Amounts are decimal128(19, 6): exact to the micro-dollar."""

    def __init__(self, out: _Told) -> None:
        import pyarrow  # 0.2 s and 60 MB, only where Parquet is wanted
        from pyarrow import parquet

        amount = pyarrow.decimal128(19, 6)
        types = {name: pyarrow.string() for name in TEXTS} | dict.fromkeys(COUNTS, pyarrow.int64())
        types |= dict.fromkeys(AMOUNTS, amount)
        self._schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
        self._arrow = pyarrow
        self._writer = parquet.ParquetWriter(out, self._schema)

    def write(self, rows: list[Row]) -> None:
        columns = [self._column(name, [row[name] for row in rows]) for name in COLUMNS]
        self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))

    def _column(self, name: str, values: list[Any]) -> Any:
        exact: list[Any] = [value.usd for value in values] if name in AMOUNTS else values
        return self._arrow.array(exact, type=self._schema.field(name).type)

    def close(self) -> None:
        self._writer.close()


FORMATS: dict[str, Callable[[_Told], Writer]] = {"csv": _Csv, "jsonl": _JsonLines, "parquet": _Parquet}
