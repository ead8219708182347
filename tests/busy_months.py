"""Books as a shop has them after some weeks: two months of turns on all their days, with all that becomes of them."""

from __future__ import annotations

from uuid import UUID, uuid4

from accounts import ledger
from accounts.budgets import Spender
from accounts.money import Money
from tests.accounts.books import a_month_passes, charge, tamper

MODELS = ("local/small", "gpt-5-mini", "gpt-5")
COSTS = (160, 1_900, 11_000)  # micro-dollars a call
DEAREST = 11_600

# Every entry and hold of the month that runs, on a day of its own choosing, none later than now.
SPREAD = """
    UPDATE accounts_ledgerentry e SET created_at = m.begins + (now() - m.begins) * m.share
    FROM (SELECT id, date_trunc('month', now()) AS begins,
                 power((abs(hashtext(turn_id::text)) % 1000) / 1000.0, 0.9) AS share
          FROM accounts_ledgerentry WHERE turn_id IS NOT NULL) m
    WHERE m.id = e.id AND e.period = (SELECT max(period) FROM accounts_ledgerentry)
"""


def busy_months(tenant_id: UUID, chatbot_id: UUID, customers: list[UUID], turns: int) -> None:
    """So many turns in the month before, more in the one that runs."""
    month(tenant_id, chatbot_id, customers, turns)
    a_month_passes(tenant_id)
    month(tenant_id, chatbot_id, customers, turns * 4 // 3)


def month(tenant_id: UUID, chatbot_id: UUID, customers: list[UUID], turns: int) -> None:
    conversations = [uuid4() for _ in range(max(1, turns * 2 // 3))]
    for number in range(turns):
        turn(
            tenant_id,
            chatbot_id,
            customers[number % len(customers)],
            conversations[number % len(conversations)],
            number,
        )
    tamper(tenant_id, SPREAD)


def turn(tenant_id: UUID, chatbot_id: UUID, customer: UUID, conversation: UUID, number: int) -> None:
    """Of ten turns six are answered by the cheapest model, two by the next, one by the dearest, one by a person."""
    attempts = (1, 1, 2, 1, 3, 1, 2, 1, 1, 3)[number % 10]
    answered = number % 10 != 9
    turn_id, failed = uuid4(), number % 17 == 5
    ledger.hold(tenant_id, turn_id, Money(40_000), Spender(chatbot_id, customer, ("plus", "basic")[number % 2]))
    charges = [
        charge(
            COSTS[tier] + number % 37,
            tier=tier,
            number=tier + 1,
            model=MODELS[tier],
            provider="openai",
            outcome="accepted"
            if answered and tier == attempts - 1
            else "failed"
            if failed and not tier
            else "rejected",
            chatbot_id=chatbot_id,
            conversation_id=conversation,
            dearest=Money(DEAREST if tier == attempts - 1 else 0),
        )
        for tier in range(attempts)
    ]
    ledger.settle(tenant_id, turn_id, charges)
