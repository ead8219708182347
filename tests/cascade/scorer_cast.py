"""A shop's customers and answers, written by hand for the scorer's tests; never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cascade.values import Context, Customer, Passage, Record

NOW = datetime(2026, 3, 10, 9, tzinfo=UTC)
RETURNS = Passage("returns", "Returns", "Basic customers can return goods within 30 days of delivery, Plus within 60.")


def day(offset: int) -> str:
    return (NOW + timedelta(days=offset)).date().isoformat()


def order(number: str, status: str, name: str, total: str, **days: int) -> Record:
    data = {"status": status, "items": [{"name": name, "price": total}], "total": total}
    return Record("order", number, NOW, {**data, **{key: day(offset) for key, offset in days.items()}})


def customer(name: str, plan: str, *orders: Record) -> Customer:
    return Customer(name.split()[0].lower(), True, "en", {"name": name, "plan": plan}, orders)


ANNA = customer("Anna Berg", "Basic", order("T-5012", "shipped", "Kettle Arc", "$59.00", shipped_on=-2, expected_on=1))
BEN = customer("Ben Okoro", "Plus", order("T-4988", "delivered", "Headphones Lark", "$129.00", delivered_on=-12))
CARLA = customer(
    "Carla Ruiz",
    "Basic",
    order("T-5101", "pending", "Desk Lamp Fin", "$42.50", ordered_on=-1),
    order("T-4700", "delivered", "Toaster Mill", "$35.00", delivered_on=-80),
)


def asks(who: Customer, question: str, *passages: Passage) -> Context:
    return Context(who, question, NOW, passages=passages)


@dataclass(frozen=True)
class Pair:
    """One answer, right for one customer and wrong for another who asks the same."""

    question: str
    answer: str
    right: Customer
    wrong: Customer


PAIRS = [
    Pair("Where is my order?", "Your order T-5012 has been shipped and should arrive on March 11.", ANNA, BEN),
    Pair("Where is my order?", "Your order T-4988 was delivered on February 26.", BEN, ANNA),
    Pair("How much did I pay?", "You paid $129.00 for the Headphones Lark.", BEN, CARLA),
    Pair("How much did I pay?", "The total of your order was $59.00.", ANNA, BEN),
    Pair("What did I order?", "You ordered the Kettle Arc.", ANNA, BEN),
    Pair("What is the status of my order?", "Your order is pending, it has not been shipped yet.", CARLA, BEN),
    Pair("Which plan do I have?", "You are on the Plus plan.", BEN, ANNA),
    Pair("What is my order number?", "Your order number is T-5012.", ANNA, CARLA),
]
OWN_RECORD = [  # (who, question, right, wrong): the wrong one quotes the customer's other order
    (
        CARLA,
        "When was my toaster delivered?",
        "Your Toaster Mill from order T-4700 was delivered on December 20.",
        "Your Toaster Mill from order T-5101 was delivered on December 20.",
    ),
    (
        CARLA,
        "What did the desk lamp cost?",
        "The Desk Lamp Fin in order T-5101 cost $42.50.",
        "The Desk Lamp Fin in order T-5101 cost $35.00.",
    ),
]
