"""FOCUS files hold to their specification, by its own validator (1.0) and by its table of columns (1.4); their sums are
the ledger's."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from accounts import focus, ledger
from accounts.exports import Manifest, Selection
from accounts.models import LedgerEntry, Tenant
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts import focus_1_4
from tests.accounts.books import a_month_passes, charge, held_turn
from tests.accounts.focus_validator import faultless, validate
from tests.accounts.test_exports import exported, sums

PROFILES = {"focus-1.0": focus.FOCUS_1_0, "focus-1.4": focus.FOCUS_1_4}


@pytest.fixture
def alice(database) -> UUID:
    """A credit, an accepted and a rejected call, scores, and corrections of this month and of the one before."""
    tenant_id = create_tenant("=Alice's shop", "alice", "alice@shop.example").id
    with in_tenant(tenant_id):
        Tenant.objects.update(time_zone="America/New_York")
    set_tariff(tenant_id, margin=Decimal("0.3333"), included=Money(50))
    ledger.top_up(tenant_id, Money(1_000_000), "invoice 17")
    ledger.credit(tenant_id, Money(500), "for the trouble")
    earlier, call_id = uuid7(), uuid7()
    ledger.settle(tenant_id, held_turn(tenant_id, 900), [charge(300, outcome="accepted", call_id=earlier)])
    a_month_passes(tenant_id)
    drafts = [charge(77), charge(900, outcome="accepted", call_id=call_id, provider="openai")]
    ledger.settle(tenant_id, held_turn(tenant_id, 1900), [*drafts, charge(3, source="scorer", model="", outcome="")])
    ledger.adjust(tenant_id, call_id, Money(800), "provider's usage export")
    ledger.adjust(tenant_id, earlier, Money(200), "provider's usage export")
    return tenant_id


def whenever(tenant_id: UUID) -> Selection:
    """The months in which anything was written, wherever the tenant is."""
    with in_tenant(tenant_id):
        periods = list(LedgerEntry.objects.values_list("period", flat=True))
    return Selection(min(periods), max(periods))


def rows(tenant_id: UUID, form: str) -> tuple[list[dict[str, str]], Manifest]:
    written, manifest = exported(tenant_id, form, whenever(tenant_id))
    return list(csv.DictReader(io.StringIO(written.decode(), newline=""))), manifest


@pytest.mark.parametrize("form", PROFILES)
def test_its_sums_are_the_ledgers_and_the_manifests(alice, form):
    (found, manifest), books = rows(alice, form), sums(alice)
    assert manifest.rows == len(found) == 8
    assert tuple(found[0]) == manifest.columns == PROFILES[form].columns
    assert tuple(manifest.sums) == focus.COSTS
    for column, told in manifest.sums.items():
        assert sum(Decimal(row[column]) for row in found) == Decimal(told)
    assert Decimal(manifest.sums["BilledCost"]) == books["received"] == Decimal("1.000000")
    assert Decimal(manifest.sums["EffectiveCost"]) == books["received"] - books["amount"]
    used = [row for row in found if row["ChargeCategory"] == "Usage"]
    assert sum(Decimal(row["ListCost"]) - Decimal(row["EffectiveCost"]) for row in used) == books["included"]


@pytest.mark.parametrize("form", PROFILES)
def test_a_correction_is_one_where_it_corrects_a_month_that_is_over(alice, form):
    corrections = [row for row in rows(alice, form)[0] if row["ChargeDescription"].startswith("adjustment")]
    assert sorted((row["ChargeClass"], row["PricingQuantity"]) for row in corrections) == [
        ("", "-1.0"),
        ("Correction", ""),
    ]


@pytest.mark.parametrize("form", PROFILES)
def test_a_month_begins_where_the_tenant_is(alice, form):
    for row in rows(alice, form)[0]:
        begins = datetime.fromisoformat(row["BillingPeriodStart"])
        assert (begins.day, begins.hour in (4, 5), begins.minute) == (1, True, 0)


@pytest.mark.parametrize("form", PROFILES)
def test_no_text_is_computed_by_a_spreadsheet(alice, form):
    assert {row["BillingAccountName"] for row in rows(alice, form)[0]} == {"'=Alice's shop"}


# --- 1.4 ----------------------------------------------------------------------------------------


def test_every_column_of_1_4_holds_what_its_specification_says(alice):
    found, _ = rows(alice, "focus-1.4")
    assert {name for name in found[0] if not name.startswith("x_")} == set(focus_1_4.COLUMNS)
    assert [focus_1_4.faults(row) for row in found] == [[]] * 8


@pytest.mark.parametrize(
    "change",
    [
        {"BilledCost": "1e3"},
        {"ChargeCategory": "Refund"},
        {"ChargePeriodStart": "2026-11-25"},
        {"HostProviderName": ""},
        {"ListUnitPrice": "7"},
        {"ConsumedUnit": ""},
        {"EffectiveCost": None},
    ],
    ids=str,
)
def test_the_table_of_1_4_finds_what_is_wrong(alice, change):
    used = next(row for row in rows(alice, "focus-1.4")[0] if row["x_Outcome"] == "accepted")
    assert focus_1_4.faults(used | change)


def test_what_focus_has_no_column_for_leads_back_to_the_books(alice):
    with in_tenant(alice):
        books = {str(entry.id): entry for entry in LedgerEntry.objects.all()}
    for row in rows(alice, "focus-1.4")[0]:
        entry = books.pop(row["x_EntryId"])
        assert (row["x_Outcome"], row["x_TurnId"]) == (entry.outcome, str(entry.turn_id or ""))
    assert books == {}


# --- 1.0 ----------------------------------------------------------------------------------------


def test_the_validator_finds_no_fault_with_1_0_and_would_find_one(alice, tmp_path):
    written = exported(alice, "focus-1.0", whenever(alice))[0]
    file = tmp_path / "focus.csv"
    file.write_bytes(written)
    assert faultless(validate(file)), validate(file)
    file.write_bytes(written.replace(b",USD,", b",XXQ,"))
    assert "BillingCurrency_IsCurrencyCode failed" in validate(file)


def test_the_validator_finds_no_fault_with_columns_that_are_empty(alice, tmp_path):
    months = whenever(alice)
    file = tmp_path / "focus.csv"
    file.write_bytes(exported(alice, "focus-1.0", Selection(months.first, months.last, {"kind": "top_up"}))[0])
    assert faultless(validate(file)), validate(file)


def test_words_of_1_0_are_those_it_allows(alice):
    """Which the validator does not look at; of these columns 1.4 allows the same."""
    for row in rows(alice, "focus-1.0")[0]:
        for name in row.keys() & focus_1_4.COLUMNS.keys():
            allowed = focus_1_4.COLUMNS[name].allowed
            assert not allowed or row[name] in ("", *allowed), name


def test_tags_of_1_0_bear_their_providers_prefix(alice):
    tags = [json.loads(row["Tags"]) for row in rows(alice, "focus-1.0")[0]]
    assert {name.split("/")[0] for told in tags for name in told} == {"frugal-chat"}
    assert {told.get("frugal-chat/outcome") for told in tags} == {None, "accepted", "rejected"}
