"""A ledger entry as a row of FOCUS, the FinOps Open Cost and Usage Specification, in two profiles. Pure.

1.0: https://focus.finops.org/focus-specification/v1-0/, all its 43 columns. 1.4: the dataset CostAndUsage of
https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, its mandatory columns and those of the others that have
something to say here; what FOCUS has no column for stands in `x_` columns at the end.

Both are written from the tenant's side. The tenant prepays, so what is billed is what was paid in (a purchase), and
what is used is billed at 0 and costs its price effectively. So the sum of BilledCost is what the ledger received, and
the sum of EffectiveCost what the tenant's credit went down by, top-ups aside. Statements are no invoices: InvoiceId and
InvoiceDetailId are null. Writing files is left to `accounts.exports`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from accounts.money import as_dollars
from accounts.months import following

ISSUER = "Frugal chat"
SERVICE = "Customer-service chat"
COLUMNS_1_0 = (
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
COLUMNS_1_4 = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *("ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceDetailId", "InvoiceId"),
    *("InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit"),
    *("ResourceId", "ResourceType", "ServiceCategory", "ServiceName", "ServiceProviderName", "ServiceSubcategory"),
    *("SkuId", "SkuMeter", "SkuPriceId"),
)
SOURCES_1_0 = [(column, SYNONYMS.get(column, column)) for column in (*COLUMNS_1_0, *SYNONYMS)]
OWN = {
    "x_CallId": "call_id",
    "x_ConversationId": "conversation_id",
    "x_EntryId": "id",
    "x_Outcome": "outcome",
    "x_Source": "source",
    "x_Tier": "tier",
    "x_TurnId": "turn_id",
}
COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")  # columns that can be added up
CATEGORIES = {"top_up": "Purchase", "credit": "Credit", "charge": "Usage", "adjustment": "Usage"}
UNITS = {"Purchase": "Purchases", "Usage": "Calls"}
METERS = {
    "": "Prepayments",
    "model": "Model calls",
    "scorer": "Scores",
    "embedding": "Embeddings",
    "cache": "Cache hits",
}
BY_THE_TEXT = ("scorer", "embedding")
TAG_PREFIX = "frugal-chat/"  # the specification wants one on what its provider tags
TAGGED = ("source", "outcome", "conversation_id", "turn_id", "call_id", "tier", "number")

Entry = Mapping[str, Any]  # as `accounts.exports` reads it: texts, counts, amounts in micro-dollars
Row = dict[str, str]  # column: value; "" is null


@dataclass(frozen=True, slots=True)
class BillingAccount:
    """The tenant, to whom everything is charged."""

    id: str
    name: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Profile:
    columns: tuple[str, ...]
    row: Callable[[Entry, BillingAccount], Row]  # all columns
    free: tuple[str, ...]  # columns whose texts people or programs made up


def costs(entry: Entry) -> tuple[int, int, int, int]:
    """COSTS of an entry in micro-dollars: paid in, price before the quota twice, taken from the tenant's credit."""
    billed = entry["received"]
    listed = billed if entry["kind"] in ("top_up", "credit") else entry["included"] - entry["amount"]
    return billed, listed, billed - entry["amount"], listed


def row_1_0(entry: Entry, account: BillingAccount) -> Row:
    tags = {f"{TAG_PREFIX}{name}": str(entry[name]) for name in TAGGED if entry[name] not in ("", None)}
    told: Row = _row(entry, account) | {
        "ProviderName": ISSUER,
        "PublisherName": entry["provider"] or ISSUER,
        "SkuPriceId": _sku_price(entry),  # the validator wants it on corrections too
        "Tags": json.dumps(tags),
    }
    return {column: told.get(source, "") for column, source in SOURCES_1_0}


def row_1_4(entry: Entry, account: BillingAccount) -> Row:
    told: Row = _row(entry, account) | {
        "HostProviderName": entry["provider"] or ISSUER,
        "ServiceProviderName": ISSUER,
        "ServiceSubcategory": "Bots",
        "SkuMeter": METERS.get(entry["source"], "Other"),
    }
    told |= {column: str(entry[name]) for column, name in OWN.items() if entry[name] is not None}
    return {column: told.get(column, "") for column in FOCUS_1_4.columns}


MADE_UP = ("BillingAccountName", "ChargeDescription", "SkuId", "SkuPriceId")
FOCUS_1_0 = Profile((*COLUMNS_1_0, *SYNONYMS), row_1_0, (*MADE_UP, "PublisherName", "Publisher"))
FOCUS_1_4 = Profile((*COLUMNS_1_4, *OWN), row_1_4, (*MADE_UP, "HostProviderName", "SkuMeter", "x_Outcome", "x_Source"))


# --- what both say --------------------------------------------------------------------------------


def _row(entry: Entry, account: BillingAccount) -> Row:
    category = CATEGORIES[entry["kind"]]
    corrects_earlier = bool(entry["corrects_period"]) and entry["corrects_period"] < entry["period"]
    amounts = costs(entry)
    told = {
        **dict(zip(COSTS, map(as_dollars, amounts), strict=True)),
        **_whose(account),
        **_periods(entry, account),
        "ChargeCategory": category,
        "ChargeClass": "Correction" if corrects_earlier else "",  # of a month that is over; else it is as any charge
        "ChargeFrequency": "Usage-Based" if entry["call_id"] else "One-Time",
        "ChargeDescription": _description(entry),
        "SkuId": entry["model"] or entry["source"] or entry["kind"],
        "ResourceId": entry["chatbot_id"],
        "ResourceType": "Chatbot" if entry["chatbot_id"] else "",
    }
    if category in UNITS and not corrects_earlier:
        told |= _priced(entry, category, amounts[COSTS.index("ListCost")])
    return told


def _priced(entry: Entry, category: str, listed: int) -> Row:
    """A call is one unit at its own price; what a correction gave back within the month is one unit less."""
    told = {
        "ListUnitPrice": as_dollars(abs(listed)),
        "ContractedUnitPrice": as_dollars(abs(listed)),
        "PricingCategory": "Standard",
        "PricingQuantity": "-1.0" if listed < 0 else "1.0",  # the validator takes whole numbers for no decimals
        "PricingUnit": UNITS[category],
        "SkuPriceId": _sku_price(entry),
    }
    if category == "Usage":
        texts = 0 if entry["kind"] == "adjustment" else entry["number"]  # those are on the charge already
        tokens = entry["input_tokens"] + entry["output_tokens"]
        quantity, unit = (texts, "Texts") if entry["source"] in BY_THE_TEXT else (tokens, "Tokens")
        told |= {"ConsumedQuantity": f"{quantity}.0", "ConsumedUnit": unit}
    return told


def _sku_price(entry: Entry) -> str:
    return entry["price_version"] or entry["kind"]


def _description(entry: Entry) -> str:
    what = f"{entry['source']} {entry['model']}".strip() or entry["memo"]
    return f"{entry['kind'].replace('_', ' ')}: {what}" if what else entry["kind"].replace("_", " ")


@lru_cache
def _whose(account: BillingAccount) -> Row:
    return {
        "BillingAccountId": account.id,
        "BillingAccountName": account.name,
        "BillingCurrency": "USD",
        "InvoiceIssuerName": ISSUER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": SERVICE,
    }


def _periods(entry: Entry, account: BillingAccount) -> Row:
    """The month where the tenant is, and the second in which the entry was written; ends are exclusive."""
    begins, ends = _month(entry["period"], account.time_zone)
    second = entry["created_at"][:19]  # it is in UTC
    return {
        "BillingPeriodStart": begins,
        "BillingPeriodEnd": ends,
        "ChargePeriodStart": f"{second}Z",
        "ChargePeriodEnd": f"{(datetime.fromisoformat(second) + timedelta(seconds=1)).isoformat()}Z",
    }


@lru_cache
def _month(period: str, time_zone: str) -> tuple[str, str]:
    first, zone = date.fromisoformat(period), ZoneInfo(time_zone)
    begins, ends = (datetime.combine(month, time(), zone) for month in (first, following(first)))
    return _moment(begins), _moment(ends)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
