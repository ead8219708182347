"""The ledger as a file, for any months and filter, with a manifest beside it.

Rows are read through one cursor, so a file is one moment of the books however long it takes to write and
whatever is charged meanwhile, and only some rows are in memory at a time. What the rows mean is told by
`accounts.models.LedgerEntry`, how they are written by `accounts.export_formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, BinaryIO
from uuid import UUID

from django.db import connection

from accounts.export_formats import AMOUNTS, COLUMNS, COUNTS, FORMATS, Rows, Told
from accounts.money import as_dollars
from accounts.tenancy import in_tenant, set_for_transaction

ROWS_AT_A_TIME = 2_000
LONGEST_SECONDS = 120  # for the database to find the first rows, or the next

MOMENT = 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'
# Of corrections alone, which are few.
CORRECTED = """CASE WHEN corrects_id IS NULL THEN '' ELSE
    (SELECT c.period::text FROM accounts_ledgerentry c WHERE c.id = accounts_ledgerentry.corrects_id) END"""
ZONE = "(SELECT time_zone FROM accounts_tenant WHERE id = current_setting('app.tenant')::uuid)"
DAY = f"(created_at AT TIME ZONE {ZONE})::date"
DAYS = {"since": f"{DAY} >= %s", "until": f"{DAY} <= %s"}  # on which entries were written, where the tenant is
CHOSEN_BY = ("kind", "source", "chatbot_id", "provider", "model", "outcome", *DAYS)


def _selected(name: str) -> str:
    if name == "created_at":
        return f"to_char(created_at AT TIME ZONE 'UTC', '{MOMENT}')"
    if name == "corrects_period":
        return CORRECTED
    if name in AMOUNTS:
        return f"{name}_micros"
    return name if name in COUNTS else f"coalesce({name}::text, '')"


ENTRIES = f"""
    SELECT {", ".join(_selected(name) for name in COLUMNS)}
    FROM accounts_ledgerentry
"""  # noqa: S608  (names are ours)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries: of the months `first` to `last`, both included, where the named columns are equal.

    `since` and `until` are no columns but days, both included too.
    """

    first: date  # first day of a month
    last: date
    equal: dict[str, str] = field(default_factory=dict)  # column: value

    def __post_init__(self) -> None:
        if self.first.day != 1 or self.last.day != 1 or self.first > self.last:
            raise ValueError(f"{self.first} to {self.last} is not a range of months")
        if unknown := self.equal.keys() - set(CHOSEN_BY):
            raise ValueError(f"entries cannot be chosen by {', '.join(sorted(unknown))}: {', '.join(CHOSEN_BY)}")
        for name in self.equal.keys() & DAYS.keys():
            date.fromisoformat(self.equal[name])
        chatbot = self.equal.get("chatbot_id")
        if chatbot is not None and not _is_uuid(chatbot):
            raise ValueError(f"{chatbot} is not the id of a chatbot")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a file holds, to be checked against it and against the ledger."""

    format: str
    first: str
    last: str
    equal: dict[str, str]
    as_of: str  # which moment of the books is in the file, to within milliseconds
    columns: tuple[str, ...]
    rows: int
    sums: dict[str, str]  # of each column that can be added up, in dollars
    bytes: int
    sha256: str


def export(
    tenant_id: UUID, selection: Selection, form: str, out: BinaryIO, progress: Callable[[int], None] = lambda rows: None
) -> Manifest:
    """Write the chosen entries of a tenant to `out` as `form`, a key of FORMATS; rows stand in the order of the books.

    `progress` is told now and then how many rows are written. Raises ValueError: no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"there is no format {form}: {', '.join(FORMATS)}")
    told = Told(out)
    writer, rows, as_of = FORMATS[form](told, tenant_id), 0, _now()
    sums = [0] * len(writer.summed)
    for batch in entries(tenant_id, selection):
        sums = [sum(pair) for pair in zip(sums, writer.write(batch), strict=True)]
        rows += len(batch)
        progress(rows)
    writer.close()
    return Manifest(
        form,
        f"{selection.first:%Y-%m}",
        f"{selection.last:%Y-%m}",
        selection.equal,
        as_of,
        writer.columns,
        rows,
        dict(zip(writer.summed, map(as_dollars, sums), strict=True)),
        told.bytes,
        told.hash.hexdigest(),
    )


def entries(tenant_id: UUID, selection: Selection) -> Iterator[Rows]:
    """The chosen entries as the books were when the first was read, in their order, some at a time.

    The last are fewer, or none: so there always are some.
    """
    chosen_by = (DAYS.get(name, f"{name} = %s") for name in selection.equal)
    where = ["tenant_id = %s", "period BETWEEN %s AND %s", *chosen_by]
    chosen: list[Any] = [tenant_id, selection.first, selection.last, *selection.equal.values()]
    with in_tenant(tenant_id):
        set_for_transaction("statement_timeout", f"{LONGEST_SECONDS}s")
        with connection.chunked_cursor() as cursor:
            cursor.execute(f"{ENTRIES} WHERE {' AND '.join(where)} ORDER BY period, id", chosen)
            while len(batch := cursor.fetchmany(ROWS_AT_A_TIME)) == ROWS_AT_A_TIME:
                yield batch
            yield batch


def _now() -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_char(statement_timestamp() AT TIME ZONE 'UTC', '{MOMENT}')")
        moment: str = cursor.fetchone()[0]
        return moment


def _is_uuid(told: str) -> bool:
    try:
        UUID(told)
    except ValueError:
        return False
    return True
