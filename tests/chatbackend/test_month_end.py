"""The end of the demo's month: closed, on the page of costs, and exported in every format while turns are charged;
all say what the ledger says."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from decimal import Decimal
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command

from accounts import export_jobs, exports, ledger, spending
from accounts.budgets import Spender
from accounts.export_formats import FORMATS
from accounts.exports import Selection
from accounts.models import Customer
from accounts.money import ZERO, Money
from accounts.tenancy import in_tenant
from cascade.models import Chatbot
from chatbackend import statement_page
from chatbackend.demo.shop import TENANT_ID
from tests.accounts.books import a_month_passes, at_noon, at_once, charge, month_before, this_month
from tests.accounts.focus_1_4 import faults
from tests.accounts.focus_validator import faultless, validate
from tests.accounts.test_exports import read, sums
from tests.busy_months import busy_months

LEDGERS = [form for form in FORMATS if not form.startswith("focus")]


@pytest.fixture
def shop(database) -> Spender:
    """Two months of turns; in the earlier a credit, in the later a correction of a call of the earlier."""
    call_command("seed_demo", stdout=StringIO())
    at_noon(TENANT_ID)
    ledger.credit(TENANT_ID, Money.from_usd(1), "for the trouble")
    with in_tenant(TENANT_ID):
        chatbot, customers = Chatbot.objects.get().id, list(Customer.objects.values_list("id", flat=True))
    corrected = charge(500, chatbot_id=chatbot, outcome="accepted")
    turn_id = uuid4()
    ledger.hold(TENANT_ID, turn_id, Money(900))
    ledger.settle(TENANT_ID, turn_id, [corrected])
    a_month_passes(TENANT_ID)
    busy_months(TENANT_ID, chatbot, customers, 20)
    ledger.adjust(TENANT_ID, corrected.call_id, Money(300), "provider's usage export")
    return Spender(chatbot, customers[0])


def charge_a_turn(who: Spender) -> bool:
    turn_id = uuid4()
    ledger.hold(TENANT_ID, turn_id, Money(900), who)
    return ledger.settle(TENANT_ID, turn_id, [charge(7), charge(70, outcome="accepted", chatbot_id=who.chatbot_id)])


def test_the_demos_month_is_closed_and_exported_in_every_format_to_the_ledgers_sums(shop):
    for month in (month_before(this_month(), 2), month_before(this_month())):
        statement = statement_page.close(TENANT_ID, month)
        books = sums(TENANT_ID, period=month)
        assert (statement.closing - statement.opening).usd == books["amount"]
        assert (statement.cost.usd, statement.dearest.usd) == (books["cost"], books["dearest"])
        assert str(statement.closing) in statement_page.shown(TENANT_ID, month)
        spent = spending.spending(TENANT_ID, month, month)
        used = statement.of("charge") + statement.of("adjustment")
        assert (spent.price, spent.cost) == (sum((line.price for line in used), ZERO), statement.cost)
    jobs = {form: export_jobs.request(TENANT_ID, Selection(month, month), form, "demo").id for form in FORMATS}
    deeds = [lambda: charge_a_turn(shop), *(lambda it=it: export_jobs.write(TENANT_ID, it) for it in jobs.values())] * 2
    assert {outcome for outcome in at_once(lambda deed: deed(), deeds) if outcome is not None} == {True}
    for form, export_id in jobs.items():
        done = export_jobs.find(TENANT_ID, export_id)
        file = export_jobs.file_of(done)
        written, told = file.read_bytes(), {name: Decimal(value) for name, value in done.manifest["sums"].items()}
        assert hashlib.sha256(written).hexdigest() == done.manifest["sha256"]
        if form in LEDGERS:
            rows = read(form, written)
            assert told == books == {name: sum(row[name] for row in rows) for name in books}
        else:
            rows = list(csv.DictReader(io.StringIO(written.decode(), newline="")))
            assert told == {name: sum(Decimal(row[name]) for row in rows) for name in told}
            assert (told["BilledCost"], told["EffectiveCost"]) == (
                books["received"],
                books["received"] - books["amount"],
            )
        assert len(rows) == done.manifest["rows"] == sum(line.entries for line in statement.lines)
        assert form != "focus-1.0" or faultless(validate(file))
        assert form != "focus-1.4" or not [fault for row in rows for fault in faults(row)]
    assert ledger.check(TENANT_ID) == []


def test_what_is_exported_while_turns_are_charged_balances(shop):
    """Of the month that runs, whose entries become more meanwhile."""
    month = this_month()

    def work(number: int) -> bool:
        if number % 3:
            return charge_a_turn(shop)
        out = io.BytesIO()
        manifest = exports.export(TENANT_ID, Selection(month, month), "jsonl", out)
        rows = read("jsonl", out.getvalue())
        assert all(row["received"] == row["amount"] + row["cost"] + row["result"] for row in rows)
        drafts = Counter(row["turn_id"] for row in rows if row["cost"] in (Decimal("0.000007"), Decimal("0.000070")))
        assert set(drafts.values()) <= {2}  # a turn is in it whole or not at all
        return sum(row["amount"] for row in rows) == Decimal(manifest.sums["amount"])

    assert at_once(work, range(18)) == [True] * 18
