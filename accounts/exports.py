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
from datetime import date
from typing import Any, BinaryIO, Protocol
from uuid import UUID

from django.db import connection

from accounts import focus
from accounts.models import Tenant
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
FREE = ("memo", "provider", "model", "outcome", "source", "price_version")  # texts that people or programs made up


def _selected(name: str) -> str:
    if name == "created_at":
        return f"to_char(created_at AT TIME ZONE 'UTC', '{MOMENT}')"
    if name in AMOUNTS:
        return f"{name}_micros"
    return name if name in COUNTS else f"coalesce({name}::text, '')"


MOMENT = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'
ENTRIES = f"""
    SELECT {", ".join(_selected(name) for name in COLUMNS)}
    FROM accounts_ledgerentry
"""  # noqa: S608  (names are ours)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is computed by a spreadsheet

Rows = list[tuple[Any, ...]]  # in the order of COLUMNS: texts, counts (None: there is none), whole micro-dollars
FIRST_AMOUNT = len(COLUMNS) - len(AMOUNTS)


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
    def write(self, rows: Rows) -> None: ...
    def close(self) -> None: ...


def export(tenant_id: UUID, selection: Selection, form: str, out: BinaryIO) -> Manifest:
    """Write the chosen entries of a tenant to `out` as `form`, a key of FORMATS; rows stand in the order of the books.

    Raises ValueError: no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form}: {', '.join(FORMATS)}")
    told = _Told(out)
    writer, rows, sums = FORMATS[form](told, tenant_id), 0, [0] * len(AMOUNTS)
    for batch in entries(tenant_id, selection):
        writer.write(batch)
        rows += len(batch)
        for place in range(len(AMOUNTS)):
            sums[place] += sum(row[FIRST_AMOUNT + place] for row in batch)
    writer.close()
    return Manifest(
        form,
        f"{selection.first:%Y-%m}",
        f"{selection.last:%Y-%m}",
        selection.equal,
        _Focus.columns if form == "focus-1.0" else COLUMNS,
        rows,
        {name: str(Money(micros)) for name, micros in zip(AMOUNTS, sums, strict=True)},
        told.bytes,
        told.hash.hexdigest(),
    )


def entries(tenant_id: UUID, selection: Selection) -> Iterator[Rows]:
    """The chosen entries as the books were when the first was read, in their order, some at a time.

    The last are fewer, or none: so there always are some.
    """
    where = ["tenant_id = %s", "period BETWEEN %s AND %s", *(f"{column} = %s" for column in selection.equal)]
    chosen: list[Any] = [tenant_id, selection.first, selection.last, *selection.equal.values()]
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        with connection.chunked_cursor() as cursor:
            cursor.execute(f"{ENTRIES} WHERE {' AND '.join(where)} ORDER BY period, id", chosen)
            while len(batch := cursor.fetchmany(ROWS_AT_A_TIME)) == ROWS_AT_A_TIME:
                yield batch
            yield batch


def neutralised(cell: str) -> str:
    """A cell that no spreadsheet computes; `restored` gives back what it was."""
    return f"'{cell}" if cell.startswith((*FORMULA, "'")) else cell


def restored(cell: str) -> str:
    return cell.removeprefix("'")


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
    columns: tuple[str, ...] = COLUMNS

    def __init__(self, out: _Told, tenant_id: UUID) -> None:
        self._out = out
        self._write([self.columns])

    def write(self, rows: Rows) -> None:
        free = [COLUMNS.index(name) for name in FREE]
        self._write(_cells(row, free) for row in rows)

    def _write(self, lines: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        self._out.write(text.getvalue().encode())

    def close(self) -> None: ...


def _cells(row: tuple[Any, ...], free: Iterable[int]) -> list[Any]:
    cells = [*row[:FIRST_AMOUNT], *map(_dollars, row[FIRST_AMOUNT:])]
    for place in free:
        cells[place] = neutralised(cells[place])
    return cells


class _Focus(_Csv):
    """FOCUS 1.0, as CSV. Its texts are neutralised as those of the ledger itself."""

    columns = (*focus.COLUMNS, *focus.SYNONYMS)

    def __init__(self, out: _Told, tenant_id: UUID) -> None:
        super().__init__(out, tenant_id)
        with in_tenant(tenant_id):
            tenant = Tenant.objects.get(id=tenant_id)
        self._account = focus.BillingAccount(str(tenant.id), tenant.name, tenant.time_zone)

    def write(self, rows: Rows) -> None:
        entries = (dict(zip(COLUMNS, row, strict=True)) for row in rows)
        self._write(map(self._cells, (focus.row(entry, self._account) for entry in entries)))

    def _cells(self, row: dict[str, str]) -> list[str]:
        free = ("BillingAccountName", "ChargeDescription", "PublisherName", "Publisher", "SkuId", "SkuPriceId")
        return list((row | {name: neutralised(row[name]) for name in free}).values())


class _JsonLines:
    def __init__(self, out: _Told, tenant_id: UUID) -> None:
        self._out = out

    def write(self, rows: Rows) -> None:
        self._out.write("".join(map(self._line, rows)).encode())

    def _line(self, row: tuple[Any, ...]) -> str:
        values = (*row[:FIRST_AMOUNT], *map(_dollars, row[FIRST_AMOUNT:]))
        return json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False) + "\n"

    def close(self) -> None: ...


def _dollars(micros: int) -> str:
    """As `str(Money(micros))`, a good deal faster: six to a row."""
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{whole}.{rest:06d}"


class _Parquet:
    """Amounts are decimal128(19, 6): exact to the micro-dollar."""

    def __init__(self, out: _Told, tenant_id: UUID) -> None:
        import pyarrow  # 0.2 s and 60 MB, only where Parquet is wanted
        from pyarrow import parquet

        amount = pyarrow.decimal128(19, 6)
        types = {name: pyarrow.string() for name in TEXTS} | dict.fromkeys(COUNTS, pyarrow.int64())
        types |= dict.fromkeys(AMOUNTS, amount)
        self._schema = pyarrow.schema([(name, types[name]) for name in COLUMNS])
        self._arrow = pyarrow
        self._writer = parquet.ParquetWriter(out, self._schema)

    def write(self, rows: Rows) -> None:
        columns = [self._column(name, values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=False)]
        if columns:
            self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))

    def _column(self, name: str, values: tuple[Any, ...]) -> Any:
        if name not in AMOUNTS:
            return self._arrow.array(values, type=self._schema.field(name).type)
        # A whole number of micro-dollars is the very bits of a decimal with six places.
        whole = self._arrow.array(values, type=self._arrow.int64()).cast(self._arrow.decimal128(19, 0))
        return self._arrow.Array.from_buffers(self._schema.field(name).type, len(values), whole.buffers())

    def close(self) -> None:
        self._writer.close()


FORMATS: dict[str, Callable[[_Told, UUID], Writer]] = {
    "csv": _Csv,
    "jsonl": _JsonLines,
    "parquet": _Parquet,
    "focus-1.0": _Focus,
}
