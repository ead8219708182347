"""What is exported is the ledger: every row, exact sums, one moment, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from accounts import exports, ledger
from accounts.export_formats import AMOUNTS, COLUMNS, COUNTS, neutralised, restored
from accounts.exports import Manifest, Selection
from accounts.models import LedgerEntry
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import NOON, at_noon, at_once, charge, funded, held_turn, this_month

LEDGERS = ("csv", "jsonl", "parquet")  # every column of the ledger
FORMULA = '=HYPERLINK("http://evil.example";"click")'


@pytest.fixture
def alice(database) -> UUID:
    tenant_id = at_noon(create_tenant("Alice's shop", "alice", "alice@shop.example").id)
    set_tariff(tenant_id, margin=Decimal("0.3333"), included=Money(50))
    ledger.top_up(tenant_id, Money(1_000_000), FORMULA)
    for number in range(7):
        drafts = [charge(number * 11, number=number, model="small"), charge(number, outcome="accepted", model="'large")]
        ledger.settle(tenant_id, held_turn(tenant_id, 900), drafts)
    return tenant_id


def now() -> Selection:
    return Selection(this_month(), this_month())


def exported(tenant_id: UUID, form: str, selection: Selection | None = None) -> tuple[bytes, Manifest]:
    out = io.BytesIO()
    manifest = exports.export(tenant_id, selection or now(), form, out)
    return out.getvalue(), manifest


def read(form: str, written: bytes) -> list[dict]:
    """Rows as a customer's program reads them; amounts as Decimal."""
    if form == "parquet":
        rows = parquet.read_table(io.BytesIO(written)).to_pylist()
    elif form == "jsonl":
        rows = [json.loads(line) for line in written.decode().splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(written.decode(), newline="")))
    return [row | {name: Decimal(row[name]) for name in AMOUNTS} for row in rows]


def sums(tenant_id: UUID, **which: object) -> dict[str, Decimal]:
    with in_tenant(tenant_id):
        found = LedgerEntry.objects.filter(**which).aggregate(*(Sum(f"{name}_micros") for name in AMOUNTS))
    return {name: Money(int(found[f"{name}_micros__sum"] or 0)).usd for name in AMOUNTS}


@pytest.mark.parametrize("form", LEDGERS)
def test_sums_of_a_file_its_manifest_and_the_ledger_are_the_same(alice, form):
    written, manifest = exported(alice, form)
    rows = read(form, written)
    assert len(rows) == manifest.rows == 15
    for name, exact in sums(alice).items():
        assert sum(row[name] for row in rows) == Decimal(manifest.sums[name]) == exact
    assert (manifest.bytes, manifest.sha256) == (len(written), hashlib.sha256(written).hexdigest())
    assert tuple(rows[0]) == COLUMNS == manifest.columns


@pytest.mark.parametrize("form", LEDGERS)
def test_all_formats_say_the_same(alice, form):
    def plain(row: dict) -> dict:
        return {name: restored(str(value)) if form == "csv" else str(value) for name, value in row.items()}

    jsonl = [{name: str(value) for name, value in row.items()} for row in read("jsonl", exported(alice, "jsonl")[0])]
    none_as_empty = [
        {name: "None" if value == "" and name in COUNTS else value for name, value in row.items()}
        for row in map(plain, read(form, exported(alice, form)[0]))
    ]
    assert none_as_empty == jsonl


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_no_amount_is_ever_a_float(alice, form):
    [row] = [row for row in raw_rows(form, exported(alice, form)[0]) if row["kind"] == "top_up"]
    assert row["amount"] == "1.000000"


def raw_rows(form: str, written: bytes) -> list[dict]:
    if form == "jsonl":
        return [json.loads(line, parse_float=lambda text: pytest.fail(text)) for line in written.splitlines()]
    return list(csv.DictReader(io.StringIO(written.decode(), newline="")))


def test_parquet_keeps_exact_decimals(alice):
    schema = parquet.read_schema(io.BytesIO(exported(alice, "parquet")[0]))
    assert {str(schema.field(name).type) for name in AMOUNTS} == {"decimal128(19, 6)"}


def test_a_filter_chooses_and_an_empty_file_has_its_columns(alice):
    for form in LEDGERS:
        chosen = Selection(now().first, now().last, {"model": "small", "kind": "charge"})
        written, manifest = exported(alice, form, chosen)
        assert {row["outcome"] for row in read(form, written)} == {"rejected"}
        assert Decimal(manifest.sums["cost"]) == sums(alice, model="small")["cost"]
        long_ago = Selection(date(2001, 1, 1), date(2001, 2, 1))
        nothing, manifest = exported(alice, form, long_ago)
        assert (read(form, nothing), manifest.rows) == ([], 0)
    assert exported(alice, "csv", long_ago)[0].decode().strip() == ",".join(COLUMNS)


def test_days_choose_by_when_entries_were_written_where_the_tenant_is(alice):
    today = datetime.now(ZoneInfo(NOON)).date()
    yesterday, tomorrow = (str(today + timedelta(days=days)) for days in (-1, 1))
    for days, rows in (
        ({"since": str(today), "until": str(today)}, 15),
        ({"since": yesterday, "until": tomorrow, "kind": "charge"}, 14),
        ({"since": tomorrow}, 0),
        ({"until": yesterday}, 0),
    ):
        assert exported(alice, "csv", Selection(now().first, now().last, days))[1].rows == rows


def test_what_cannot_be_chosen_is_refused(alice):
    month = date(2026, 11, 1)
    for nonsense in ((month, date(2026, 10, 1), {}), (date(2026, 11, 2), month, {}), (month, month, {"memo": "x"})):
        with pytest.raises(ValueError, match=r"months|chosen"):
            Selection(*nonsense)
    with pytest.raises(ValueError, match="soon"):
        Selection(month, month, {"since": "soon"})
    with pytest.raises(ValueError, match="no format xls"):
        exported(alice, "xls")


def test_a_tenant_exports_its_own_entries_alone(alice):
    charlie = funded(create_tenant("Charlie's", "charlie", "charlie@else.example").id, 5)
    assert [row["amount"] for row in read("jsonl", exported(charlie, "jsonl")[0])] == [Decimal("0.000005")]


# --- in a spreadsheet ---------------------------------------------------------------------------


def test_a_formula_is_only_text_in_a_spreadsheet(alice):
    rows = raw_rows("csv", exported(alice, "csv")[0])
    memos = {row["memo"] for row in rows} - {""}
    assert memos == {f"'{FORMULA}"}
    assert {restored(memo) for memo in memos} == {FORMULA}


@given(st.text())
def test_neutralising_is_undone_exactly(text):
    assert restored(neutralised(text)) == text
    assert not neutralised(text).startswith(("=", "+", "-", "@", "\t", "\r"))


# --- while turns are charged ------------------------------------------------------------------------


def test_a_file_is_one_moment_of_the_books(alice, monkeypatch):
    monkeypatch.setattr(exports, "ROWS_AT_A_TIME", 3)
    seen = []
    for rows in exports.entries(alice, now()):
        if not seen:
            at_once(lambda _: ledger.settle(alice, held_turn(alice, 9), [charge(9)]), range(4))
        seen += rows
    assert len(seen) == 15
    assert exported(alice, "csv")[1].rows == 19


def test_two_exports_at_once_during_writes_each_balance(alice):
    def work(number: int):
        if number % 4:
            return ledger.settle(alice, held_turn(alice, 9), [charge(9)])
        written, manifest = exported(alice, "jsonl")
        rows = read("jsonl", written)
        assert all(row["received"] == row["amount"] + row["cost"] + row["result"] for row in rows)
        assert sum(row["amount"] for row in rows) == Decimal(manifest.sums["amount"])
        return True

    assert all(outcome is True for outcome in at_once(work, range(40)))


# --- the operator ---------------------------------------------------------------------------------------


def test_the_operator_exports_to_a_file_with_its_manifest(alice, tmp_path, capsys):
    file, month = tmp_path / "ledger.parquet", f"{this_month():%Y-%m}"
    call_command("export_ledger", "alice", file, first=month, where=["kind=charge"])
    manifest = json.loads((tmp_path / "ledger.parquet.manifest.json").read_text())
    assert manifest["rows"] == 14
    assert manifest["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert manifest["sha256"] in capsys.readouterr().out
    with pytest.raises(CommandError, match="no format xls"):
        call_command("export_ledger", "alice", tmp_path / "ledger.xls", first=month)
