"""The demo's shop as values: its articles and customers, with dates counted from today.

Reads `shop.toml` and `articles.toml`, no database. Writing it down is left to `chatbackend.demo.seeding`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

TENANT_ID = UUID("0194d000-0000-7000-8000-00000000de30")  # the same on every machine, so that it can be found again
HERE = Path(__file__).parent
SUGGESTED = (
    "Where is my order?",
    "Can I still return my lamp?",
    "What does sending it back cost me?",
    "How long is my warranty?",
    "When do I get my money back?",
    "Can I still cancel my order?",
)


@dataclass(frozen=True, slots=True)
class Article:
    slug: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the shop's own system would tell it: `data` is a JSON object."""

    external_id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shopper:
    """One of the customers that the demo page lets you be."""

    external_id: str
    situation: str  # one line for the picker
    locale: str
    attributes: dict[str, Any]
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Shop:
    name: str
    slug: str
    chatbot: dict[str, str]
    articles: tuple[Article, ...]
    customers: tuple[Shopper, ...]

    def customer(self, external_id: str) -> Shopper | None:
        return next((customer for customer in self.customers if customer.external_id == external_id), None)


def load(today: date) -> Shop:
    """The shop as it stands on this day."""
    told = tomllib.loads((HERE / "shop.toml").read_text())
    articles = tomllib.loads((HERE / "articles.toml").read_text())
    return Shop(
        name=told["name"],
        slug=told["slug"],
        chatbot={key: text.strip() for key, text in told["chatbot"].items()},
        articles=tuple(Article(slug, it["title"], it["body"].strip()) for slug, it in articles.items()),
        customers=tuple(_customer(it, told["return_days"], today) for it in told["customers"]),
    )


def _customer(told: dict[str, Any], return_days: dict[str, int], today: date) -> Shopper:
    plan = told["attributes"]["plan"]
    return Shopper(
        external_id=told["id"],
        situation=told["situation"],
        locale=told["locale"],
        attributes=_dated(told["attributes"], today),
        orders=tuple(_order(order, return_days[plan], today) for order in told["orders"]),
    )


def _order(told: dict[str, Any], return_days: int, today: date) -> Order:
    data = _dated({key: value for key, value in told.items() if key != "id"}, today)
    if told["status"] == "delivered":
        last_day = today + timedelta(days=told["delivered_on"] + return_days)
        data["return_possible_until"] = last_day.isoformat()
    return Order(told["id"], data)


def _dated(told: dict[str, Any], today: date) -> dict[str, Any]:
    """Whole numbers are days from today."""
    return {
        key: (today + timedelta(days=value)).isoformat() if isinstance(value, int) else value
        for key, value in told.items()
    }
