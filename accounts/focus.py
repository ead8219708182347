"""A ledger entry as a row of FOCUS 1.0, the FinOps Open Cost and Usage Specification. Pure.

https://focus.finops.org/focus-specification/v1-0/: its 43 columns, from the tenant's side. The tenant prepays, so
what is billed is what was paid in (a purchase), and what is used is billed at 0 and costs its price effectively. So
the sum of BilledCost is what the ledger received, and the sum of EffectiveCost what the tenant's credit went down by,
top-ups aside.
Writing files is left to `accounts.exports`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from accounts.money import Money

ISSUER = "Frugal chat"
SERVICE = "Customer-service chat"
COLUMNS = (
    *("AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountCategory"),
    *("CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost"),
    *("InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType"),
    *("ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
)
# As focus-validator 1.0.0 calls five of them: its names are older than the specification's, and it wants them.
SYNONYMS = {
    "ChargeType": "ChargeCategory",
    "InvoiceIssuer": "InvoiceIssuerName",
    "Provider": "ProviderName",
    "Publisher": "PublisherName",
    "ResourceID": "ResourceId",
}
CATEGORIES = {"top_up": "Purchase", "credit": "Credit", "charge": "Usage", "adjustment": "Usage"}
TAGGED = ("source", "outcome", "chatbot_id", "conversation_id", "turn_id", "call_id", "tier", "number")


@dataclass(frozen=True, slots=True)
class BillingAccount:
    """The tenant, to whom everything is charged."""

    id: str
    name: str
    time_zone: str


def row(entry: Mapping[str, Any], account: BillingAccount) -> dict[str, str]:
    """All columns; "" is null. `entry` as `accounts.exports` reads it: texts, counts, amounts in micro-dollars."""
    priced = entry["kind"] in ("top_up", "charge")
    paid, cost = Money(entry["received"]), _cost(entry)
    listed = str(paid if entry["kind"] == "top_up" else Money(entry["included"] - entry["amount"]))
    unit = {"top_up": "Purchases", "charge": "Calls"}.get(entry["kind"], "")
    told = {
        "BilledCost": str(paid),
        "EffectiveCost": str(cost),
        "ListCost": listed,
        "ContractedCost": listed,
        "ListUnitPrice": listed if priced else "",
        "ContractedUnitPrice": listed if priced else "",
        "PricingCategory": "Standard" if priced else "",
        "PricingQuantity": "1" if priced else "",
        "PricingUnit": unit,
        "ChargeCategory": CATEGORIES[entry["kind"]],
        "ChargeClass": "Correction" if entry["kind"] == "adjustment" else "",
        "ChargeFrequency": "Usage-Based" if entry["call_id"] else "One-Time",
        "ChargeDescription": _description(entry),
        "PublisherName": entry["provider"] or ISSUER,
        "SkuId": entry["model"] or entry["kind"],
        "SkuPriceId": entry["price_version"] or entry["kind"],
        "ResourceId": entry["chatbot_id"],
        "ResourceType": "Chatbot" if entry["chatbot_id"] else "",
        "Tags": json.dumps({name: str(entry[name]) for name in TAGGED if entry[name] not in ("", None)}),
    }
    told |= _periods(entry, account) | _whose(account) | _consumed(entry)
    return {column: told.get(SYNONYMS.get(column, column), "") for column in (*COLUMNS, *SYNONYMS)}


def _cost(entry: Mapping[str, Any]) -> Money:
    """What it took from the tenant's credit; a top-up takes nothing."""
    return Money(entry["received"] - entry["amount"])


def _description(entry: Mapping[str, Any]) -> str:
    what = f"{entry['source']} {entry['model']}".strip() or entry["memo"]
    return f"{entry['kind'].replace('_', ' ')}: {what}" if what else entry["kind"].replace("_", " ")


def _whose(account: BillingAccount) -> dict[str, str]:
    return {
        "BillingAccountId": account.id,
        "BillingAccountName": account.name,
        "BillingCurrency": "USD",
        "InvoiceIssuerName": ISSUER,
        "ProviderName": ISSUER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": SERVICE,
    }


def _consumed(entry: Mapping[str, Any]) -> dict[str, str]:
    if entry["kind"] != "charge":
        return {}
    return {"ConsumedQuantity": str(entry["input_tokens"] + entry["output_tokens"]), "ConsumedUnit": "Tokens"}


def _periods(entry: Mapping[str, Any], account: BillingAccount) -> dict[str, str]:
    """The month where the tenant is, and the second in which the entry was written; ends are exclusive."""
    first, zone = date.fromisoformat(entry["period"]), ZoneInfo(account.time_zone)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    written = datetime.fromisoformat(entry["created_at"]).replace(microsecond=0)
    return {
        "BillingPeriodStart": _moment(datetime(first.year, first.month, 1, tzinfo=zone)),
        "BillingPeriodEnd": _moment(datetime(following.year, following.month, 1, tzinfo=zone)),
        "ChargePeriodStart": _moment(written),
        "ChargePeriodEnd": _moment(written + timedelta(seconds=1)),
    }


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
