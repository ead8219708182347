"""How the ledger's rows are written down: CSV, JSON lines, Parquet, and CSV in the columns of FOCUS.

Amounts are US dollars with six decimals, as text in CSV and JSON and as exact decimals in Parquet; never floats. Which
rows, and the manifest beside a file, are `accounts.exports`'.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from accounts import focus
from accounts.models import Tenant
from accounts.money import as_dollars
from accounts.tenancy import in_tenant

AMOUNTS = ("received", "amount", "cost", "result", "included", "dearest")  # columns in dollars; *_micros in the ledger
COUNTS = ("number", "tier", "input_tokens", "output_tokens")
TEXTS = (
    *("id", "created_at", "period", "kind", "source", "memo", "estimated", "tariff_id", "hold_id", "corrects_id"),
    *("corrects_period", "turn_id", "call_id", "conversation_id", "chatbot_id", "provider", "model", "outcome"),
    "price_version",
)
COLUMNS = (*TEXTS, *COUNTS, *AMOUNTS)
FREE = ("memo", "provider", "model", "outcome", "source", "price_version")  # texts that people or programs made up
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is computed by a spreadsheet

Rows = list[tuple[Any, ...]]  # in the order of COLUMNS: texts, counts (None: there is none), whole micro-dollars
FIRST_AMOUNT = len(COLUMNS) - len(AMOUNTS)


class Writer(Protocol):
    columns: tuple[str, ...]
    summed: tuple[str, ...]  # which of them can be added up

    def write(self, rows: Rows) -> Sequence[int]:
        """Write them down; what each of `summed` comes to in them, in micro-dollars."""

    def close(self) -> None: ...


class Told(io.RawIOBase):
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


def neutralised(cell: str) -> str:
    """A cell that no spreadsheet computes; `restored` gives back what it was."""
    return f"'{cell}" if cell.startswith((*FORMULA, "'")) else cell


def restored(cell: str) -> str:
    return cell.removeprefix("'")


def _sums(rows: Iterable[Sequence[int]], width: int) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * width


class _Csv:
    columns: tuple[str, ...] = COLUMNS
    summed: tuple[str, ...] = AMOUNTS

    def __init__(self, out: Told, tenant_id: UUID) -> None:
        self._out = out
        self._lines([self.columns])

    def write(self, rows: Rows) -> Sequence[int]:
        free = [COLUMNS.index(name) for name in FREE]
        self._lines(_cells(row, free) for row in rows)
        return _sums((row[FIRST_AMOUNT:] for row in rows), len(AMOUNTS))

    def _lines(self, lines: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        self._out.write(text.getvalue().encode())

    def close(self) -> None: ...


def _cells(row: tuple[Any, ...], free: Iterable[int]) -> list[Any]:
    cells = [*row[:FIRST_AMOUNT], *map(as_dollars, row[FIRST_AMOUNT:])]
    for place in free:
        cells[place] = neutralised(cells[place])
    return cells


class _Focus(_Csv):
    """CSV whose texts are neutralised as those of the ledger itself."""

    summed: tuple[str, ...] = focus.COSTS
    profile: focus.Profile

    def __init__(self, out: Told, tenant_id: UUID) -> None:
        with in_tenant(tenant_id):
            tenant = Tenant.objects.get(id=tenant_id)
        self._account = focus.BillingAccount(str(tenant.id), tenant.name, tenant.time_zone)
        super().__init__(out, tenant_id)

    def write(self, rows: Rows) -> Sequence[int]:
        entries = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        self._lines(self._cells(self.profile.row(entry, self._account)) for entry in entries)
        return _sums(map(focus.costs, entries), len(focus.COSTS))

    def _cells(self, row: focus.Row) -> Iterable[str]:
        for name in self.profile.free:
            row[name] = neutralised(row[name])
        return row.values()


class _Focus10(_Focus):
    profile = focus.FOCUS_1_0
    columns: tuple[str, ...] = profile.columns


class _Focus14(_Focus):
    profile = focus.FOCUS_1_4
    columns: tuple[str, ...] = profile.columns


class _JsonLines:
    columns: tuple[str, ...] = COLUMNS
    summed: tuple[str, ...] = AMOUNTS

    def __init__(self, out: Told, tenant_id: UUID) -> None:
        self._out = out

    def write(self, rows: Rows) -> Sequence[int]:
        self._out.write("".join(map(self._line, rows)).encode())
        return _sums((row[FIRST_AMOUNT:] for row in rows), len(AMOUNTS))

    def _line(self, row: tuple[Any, ...]) -> str:
        values = (*row[:FIRST_AMOUNT], *map(as_dollars, row[FIRST_AMOUNT:]))
        return json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False) + "\n"

    def close(self) -> None: ...


class _Parquet:
    """Amounts are decimal128(19, 6): exact to the micro-dollar."""

    columns: tuple[str, ...] = COLUMNS
    summed: tuple[str, ...] = AMOUNTS

    def __init__(self, out: Told, tenant_id: UUID) -> None:
        import pyarrow  # 0.2 s and 60 MB, only where Parquet is wanted
        from pyarrow import parquet

        amount = pyarrow.decimal128(19, 6)
        types = {name: pyarrow.string() for name in TEXTS} | dict.fromkeys(COUNTS, pyarrow.int64())
        types |= dict.fromkeys(AMOUNTS, amount)
        self._schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
        self._arrow = pyarrow
        self._writer = parquet.ParquetWriter(out, self._schema)

    def write(self, rows: Rows) -> Sequence[int]:
        columns = [self._column(name, values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=False)]
        if columns:
            self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))
        return _sums((row[FIRST_AMOUNT:] for row in rows), len(AMOUNTS))

    def _column(self, name: str, values: tuple[Any, ...]) -> Any:
        if name not in AMOUNTS:
            return self._arrow.array(values, type=self._schema.field(name).type)
        # A whole number of micro-dollars is the very bits of a decimal with six places.
        whole = self._arrow.array(values, type=self._arrow.int64()).cast(self._arrow.decimal128(19, 0))
        return self._arrow.Array.from_buffers(self._schema.field(name).type, len(values), whole.buffers())

    def close(self) -> None:
        self._writer.close()


FORMATS: dict[str, Callable[[Told, UUID], Writer]] = {
    "csv": _Csv,
    "jsonl": _JsonLines,
    "parquet": _Parquet,
    "focus-1.0": _Focus10,
    "focus-1.4": _Focus14,
}
ENDINGS = {form: "csv" if form.startswith("focus") else form for form in FORMATS}  # of a file's name
