"""The FOCUS 1.0 file holds to its specification, column by column, and its sums are the ledger's."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from accounts import focus, ledger
from accounts.exports import Selection
from accounts.models import LedgerEntry, Tenant
from accounts.money import Money
from accounts.tariffs import set_tariff
from accounts.tenancy import in_tenant
from accounts.tenants import create_tenant
from tests.accounts.books import charge, held_turn
from tests.accounts.test_exports import exported, sums

VALIDATOR = os.environ.get("FOCUS_VALIDATOR", "")  # the program of focus-validator 1.0.0, in an environment of its own

# Source: https://focus.finops.org/focus-specification/v1-0/, "Columns": what is never null, decimals, dates, and words.
NOT_NULL = {
    *("BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory"),
    *("ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost"),
    *("ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ChargeFrequency"),
}
DECIMALS = {
    *("BilledCost", "ContractedCost", "ContractedUnitPrice", "ConsumedQuantity", "EffectiveCost", "ListCost"),
    *("ListUnitPrice", "PricingQuantity"),
}
WORDS = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "BillingCurrency": {"USD"},
}


@pytest.fixture
def alice(database) -> UUID:
    tenant_id = create_tenant("=Alice's shop", "alice", "alice@shop.example").id
    with in_tenant(tenant_id):
        Tenant.objects.update(time_zone="America/New_York")
    set_tariff(tenant_id, margin=Decimal("0.3333"), included=Money(50))
    ledger.top_up(tenant_id, Money(1_000_000), "invoice 17")
    ledger.credit(tenant_id, Money(500), "for the trouble")
    call_id = uuid7()
    drafts = [charge(77), charge(900, outcome="accepted", call_id=call_id, provider="openai")]
    ledger.settle(tenant_id, held_turn(tenant_id, 900), drafts)
    ledger.adjust(tenant_id, call_id, Money(800), "provider's usage export")
    return tenant_id


def whenever(tenant_id: UUID) -> Selection:
    """The months in which anything was written, wherever the tenant is."""
    with in_tenant(tenant_id):
        periods = list(LedgerEntry.objects.values_list("period", flat=True))
    return Selection(min(periods), max(periods))


def rows(tenant_id: UUID) -> list[dict[str, str]]:
    written, _ = exported(tenant_id, "focus-1.0", whenever(tenant_id))
    return list(csv.DictReader(io.StringIO(written.decode(), newline="")))


def test_every_column_is_there_and_holds_what_it_may(alice):
    found = rows(alice)
    assert len(found) == 5
    for row in found:
        assert tuple(row) == (*focus.COLUMNS, *focus.SYNONYMS)
        assert {name for name in NOT_NULL if not row[name]} == set()
        assert all(Decimal(row[name]).is_finite() for name in DECIMALS if row[name])
        assert all(row[name] in allowed for name, allowed in WORDS.items())
        assert json.loads(row["Tags"]) is not None
        for name in ("BillingPeriod", "ChargePeriod"):
            assert datetime.fromisoformat(row[f"{name}Start"]) < datetime.fromisoformat(row[f"{name}End"])


def test_what_is_used_or_bought_has_quantities_and_unit_prices(alice):
    for row in rows(alice):
        priced = row["ChargeCategory"] in ("Usage", "Purchase") and not row["ChargeClass"]
        for name in ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "PricingCategory"):
            assert bool(row[name]) is priced
        if priced:
            assert Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"])


def test_its_sums_are_the_ledgers(alice):
    found, books = rows(alice), sums(alice)
    assert sum(Decimal(row["BilledCost"]) for row in found) == books["received"] == Decimal("1.000000")
    assert sum(Decimal(row["EffectiveCost"]) for row in found) == books["received"] - books["amount"]
    used = [row for row in found if row["ChargeCategory"] == "Usage"]
    assert sum(Decimal(row["ListCost"]) - Decimal(row["EffectiveCost"]) for row in used) == books["included"]


def test_a_month_begins_where_the_tenant_is(alice):
    for row in rows(alice):
        begins = datetime.fromisoformat(row["BillingPeriodStart"])
        assert (begins.day, begins.hour in (4, 5), begins.minute) == (1, True, 0)


def test_no_text_is_computed_by_a_spreadsheet(alice):
    assert {row["BillingAccountName"] for row in rows(alice)} == {"'=Alice's shop"}


@pytest.mark.skipif(not VALIDATOR, reason="FOCUS_VALIDATOR does not name focus-validator 1.0.0")
def test_the_validator_finds_no_fault(alice, tmp_path):
    file = tmp_path / "focus.csv"
    file.write_bytes(exported(alice, "focus-1.0", whenever(alice))[0])
    command = [VALIDATOR, "--data-file", str(file), "--validate-version", "1.0"]
    beside = next(Path(VALIDATOR).parent.parent.glob("lib/python*/site-packages"))  # where it looks for currencies
    checked = subprocess.run(command, capture_output=True, text=True, cwd=beside)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "failed" not in checked.stdout.lower(), checked.stdout
