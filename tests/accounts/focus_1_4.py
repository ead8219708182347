"""What FOCUS 1.4 says of the columns of its dataset CostAndUsage that the export has.

Source: https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, specification/datasets/cost_and_usage/columns/,
a file for each column: "Content Constraints" for level, nulls, type and allowed values, "Requirements" for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

DECIMAL = re.compile(r"-?\d+(\.\d+)?")  # NumericFormat, without exponents
MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # DateTimeFormat


@dataclass(frozen=True)
class Column:
    level: str  # Mandatory, Recommended or Conditional
    nulls: bool
    type: str  # String, Decimal or Date/Time
    allowed: tuple[str, ...] = ()  # nothing: anything


COLUMNS = {
    "BilledCost": Column("Mandatory", False, "Decimal"),
    "BillingAccountId": Column("Mandatory", False, "String"),
    "BillingAccountName": Column("Mandatory", True, "String"),
    "BillingCurrency": Column("Mandatory", False, "String", ("USD",)),
    "BillingPeriodEnd": Column("Mandatory", False, "Date/Time"),
    "BillingPeriodStart": Column("Mandatory", False, "Date/Time"),
    "ChargeCategory": Column("Mandatory", False, "String", ("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    "ChargeClass": Column("Mandatory", True, "String", ("Correction",)),
    "ChargeDescription": Column("Mandatory", True, "String"),
    "ChargeFrequency": Column("Recommended", False, "String", ("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": Column("Mandatory", False, "Date/Time"),
    "ChargePeriodStart": Column("Mandatory", False, "Date/Time"),
    "ConsumedQuantity": Column("Conditional", True, "Decimal"),
    "ConsumedUnit": Column("Conditional", True, "String"),
    "ContractedCost": Column("Mandatory", False, "Decimal"),
    "ContractedUnitPrice": Column("Conditional", True, "Decimal"),
    "EffectiveCost": Column("Mandatory", False, "Decimal"),
    "HostProviderName": Column("Mandatory", False, "String"),
    "InvoiceDetailId": Column("Mandatory", True, "String"),
    "InvoiceId": Column("Recommended", True, "String"),
    "InvoiceIssuerName": Column("Mandatory", False, "String"),
    "ListCost": Column("Mandatory", False, "Decimal"),
    "ListUnitPrice": Column("Mandatory", True, "Decimal"),
    "PricingCategory": Column("Conditional", True, "String", ("Standard", "Dynamic", "Committed", "Other")),
    "PricingQuantity": Column("Mandatory", True, "Decimal"),
    "PricingUnit": Column("Mandatory", True, "String"),
    "ResourceId": Column("Conditional", True, "String"),
    "ResourceType": Column("Conditional", True, "String"),
    "ServiceCategory": Column("Mandatory", False, "String", ("AI and Machine Learning",)),
    "ServiceName": Column("Mandatory", False, "String"),
    "ServiceProviderName": Column("Mandatory", False, "String"),
    "ServiceSubcategory": Column("Recommended", False, "String", ("AI Platforms", "Bots", "Generative AI")),
    "SkuId": Column("Conditional", True, "String"),
    "SkuMeter": Column("Conditional", True, "String"),
    "SkuPriceId": Column("Conditional", True, "String"),
}


def _priced(row: Mapping[str, str]) -> bool:
    return row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] != "Correction"


def _product(row: Mapping[str, str], price: str, cost: str) -> bool:
    """A cost is the product of its unit price and the quantity, where there are both."""
    if not row[price] or not row["PricingQuantity"]:
        return True
    return Decimal(row[price]) * Decimal(row["PricingQuantity"]) == Decimal(row[cost])


# Requirements between columns, by what they are about.
REQUIREMENTS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    "SkuId of usage and purchases": lambda row: bool(row["SkuId"]) or not _priced(row),
    "SkuPriceId of usage and purchases": lambda row: bool(row["SkuPriceId"]) or not _priced(row),
    "SkuPriceId has a SkuId": lambda row: bool(row["SkuId"]) or not row["SkuPriceId"],
    "SkuMeter needs a SkuId": lambda row: bool(row["SkuId"]) or not row["SkuMeter"],
    "PricingQuantity with SkuPriceId": lambda row: bool(row["PricingQuantity"]) is bool(row["SkuPriceId"]),
    "PricingUnit with PricingQuantity": lambda row: bool(row["PricingUnit"]) is bool(row["PricingQuantity"]),
    "PricingCategory with SkuPriceId": lambda row: bool(row["PricingCategory"]) is bool(row["SkuPriceId"]),
    "ListUnitPrice with SkuPriceId": lambda row: bool(row["ListUnitPrice"]) is bool(row["SkuPriceId"]),
    "ContractedUnitPrice with SkuPriceId": lambda row: bool(row["ContractedUnitPrice"]) is bool(row["SkuPriceId"]),
    "unit prices are not negative": lambda row: (
        not row["ListUnitPrice"].startswith("-") and not row["ContractedUnitPrice"].startswith("-")
    ),
    "ListCost is a product": lambda row: _product(row, "ListUnitPrice", "ListCost"),
    "ContractedCost is a product": lambda row: _product(row, "ContractedUnitPrice", "ContractedCost"),
    "ContractedCost of a credit": lambda row: (
        row["ChargeCategory"] != "Credit" or row["ContractedCost"] == row["BilledCost"]
    ),
    "EffectiveCost of a purchase that covers usage": lambda row: (
        row["ChargeCategory"] != "Purchase" or Decimal(row["EffectiveCost"]) == 0
    ),
    "ConsumedQuantity of usage": lambda row: (
        bool(row["ConsumedQuantity"]) is (row["ChargeCategory"] == "Usage" and _priced(row))
    ),
    "ConsumedUnit with ConsumedQuantity": lambda row: bool(row["ConsumedUnit"]) is bool(row["ConsumedQuantity"]),
    "a purchase is not usage-based": lambda row: (
        (row["ChargeCategory"], row["ChargeFrequency"]) != ("Purchase", "Usage-Based")
    ),
    "periods end after they start": lambda row: (
        row["BillingPeriodStart"] < row["BillingPeriodEnd"] and row["ChargePeriodStart"] < row["ChargePeriodEnd"]
    ),
    "ResourceType with ResourceId": lambda row: bool(row["ResourceType"]) is bool(row["ResourceId"]),
}


def faults(row: Mapping[str, str]) -> list[str]:
    """What a row of text ("" is null) does against the specification."""
    found = [f"{name} is {row.get(name)!r}" for name, column in COLUMNS.items() if not _holds(column, row.get(name))]
    return found or [what for what, holds in REQUIREMENTS.items() if not holds(row)]


def _holds(column: Column, cell: str | None) -> bool:
    if cell is None:
        return False  # the column is not there
    if cell == "":
        return column.nulls
    if column.allowed and cell not in column.allowed:
        return False
    return {"String": _text, "Decimal": _decimal, "Date/Time": _moment}[column.type](cell)


def _text(cell: str) -> bool:
    return cell == cell.strip()


def _decimal(cell: str) -> bool:
    try:
        return bool(DECIMAL.fullmatch(cell)) and Decimal(cell).is_finite()
    except InvalidOperation:
        return False


def _moment(cell: str) -> bool:
    try:
        return datetime.strptime(cell, MOMENT).strftime(MOMENT) == cell
    except ValueError:
        return False
