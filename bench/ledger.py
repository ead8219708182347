"""What the books cost: hold plus settle beside a bare INSERT, writers that share a budget, a long month.

    python -m bench.ledger [--rounds 200] [--seconds 4] [--entries 1000000] [--lines 300000]

Everything runs on an embedded PostgreSQL with fsync. The floor and the product take turns within a round, so that
whatever else the machine does weighs on both alike: read the ratios, not the milliseconds. Promised: hold plus settle
at most 3 floors; 16 writers on one tenant's budget at least 60 % of 16 writers on 16 tenants; of a million entries
the statement in 30 s, the Parquet file in 60 s, within 300 MB. A hold is not waited for on disk, a settlement is
(`hold_turn` in accounts/migrations/0011 tells why that is enough).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

from bench.stage import database

WRITERS = 16


def main() -> None:
    told = argparse.ArgumentParser()
    told.add_argument("--rounds", type=int, default=200)
    told.add_argument("--seconds", type=float, default=4.0)
    told.add_argument("--entries", type=int, default=1_000_000)
    told.add_argument("--lines", type=int, default=300_000, help="Of a provider's log of requests.")
    options = told.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(Path(folder) / "var"):
        hold_and_settle(options.rounds)
        writers(options.seconds)
        tenant_id = long_month(options.entries)
        reconciled(tenant_id, options.lines, Path(folder))


# --- one turn, beside the floor -----------------------------------------------------------------


def hold_and_settle(rounds: int) -> None:
    tenant_id = shop("one")
    with_budget = shop("one-budget")
    limit(with_budget)
    make_floor()
    contestants: dict[str, Callable[[], None]] = {
        "bare INSERT (floor)": lambda: floor(tenant_id),
        "hold + settle": lambda: turn(tenant_id),
        "hold + settle, two budgets": lambda: turn(with_budget),
    }
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, act in contestants.items():
            began = time.perf_counter()
            act()
            took[name].append(time.perf_counter() - began)
    lowest = median(took["bare INSERT (floor)"])
    for name, seconds in took.items():
        print(f"{name:<28}{median(seconds) * 1e3:8.2f} ms{median(seconds) / lowest:7.2f} floors")


def make_floor() -> None:
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_floor (id uuid PRIMARY KEY, tenant_id uuid, amount_micros bigint, memo text)"
        )


def floor(tenant_id: UUID) -> None:
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_floor VALUES (%s, %s, 5, 'floor')", [uuid4(), tenant_id])


def turn(tenant_id: UUID) -> None:
    """Two attempts, the second accepted; both were judged, and the question embedded."""
    from accounts import ledger
    from accounts.budgets import Spender
    from accounts.money import Money
    from tests.accounts.books import charge

    turn_id = uuid4()
    ledger.hold(tenant_id, turn_id, Money(90), Spender(tenant_id, turn_id))
    beside = [charge(2, source="scorer", number=2), charge(1, source="embedding")]
    ledger.settle(tenant_id, turn_id, [charge(7), charge(21, outcome="accepted"), *beside])


# --- many writers -------------------------------------------------------------------------------


def writers(seconds: float) -> None:
    shared = shop("shared")
    limit(shared)
    apart = [shop(f"apart-{number}") for number in range(WRITERS)]
    for tenant_id in apart:
        limit(tenant_id)
    rates: dict[str, list[float]] = {"16 tenants": [], "one tenant": []}
    for _ in range(3):
        rates["16 tenants"].append(rate(apart, seconds))
        rates["one tenant"].append(rate([shared] * WRITERS, seconds))
    ratio = median(rates["one tenant"]) / median(rates["16 tenants"])
    for name, found in rates.items():
        print(f"{WRITERS} writers, {name:<12} {median(found):8.0f} turns/s")
    print(f"one tenant's budget reaches {ratio:.0%} of 16 tenants'")


def rate(tenants: Sequence[UUID], seconds: float) -> float:
    from django.db import connections

    until = time.monotonic() + seconds

    def work(tenant_id: UUID) -> int:
        turns = 0
        while time.monotonic() < until:
            turn(tenant_id)
            turns += 1
        connections["default"].close()
        return turns

    with ThreadPoolExecutor(len(tenants)) as threads:
        return sum(threads.map(work, tenants)) / seconds


# --- a long month -------------------------------------------------------------------------------

FILL = """
    INSERT INTO accounts_ledgerentry (id, tenant_id, created_at, kind, period, received_micros, amount_micros,
        cost_micros, result_micros, included_micros, dearest_micros, hold_id, estimated, memo, source, call_id, turn_id,
        conversation_id, chatbot_id, number, provider, model, tier, outcome, price_version, input_tokens, output_tokens)
    SELECT gen_random_uuid(), h.tenant_id, now(), 'charge', h.period, 0, -(n %% 900), n %% 700, n %% 900 - n %% 700, 0,
        n %% 5000, h.id, false, '', 'model', gen_random_uuid(), h.turn_id, gen_random_uuid(), h.turn_id, 1, 'openai',
        'model-' || n %% 4, 0, (ARRAY['accepted', 'rejected', 'failed'])[1 + n %% 3], 'p', 900, 80
    FROM generate_series(1, %s) n, (SELECT * FROM accounts_hold ORDER BY id LIMIT 1) h
"""


def long_month(entries: int) -> UUID:
    from django.db import connections, transaction

    tenant_id = shop("long")
    turn(tenant_id)
    with transaction.atomic(using="owner"), connections["owner"].cursor() as cursor:
        cursor.execute(f"SET LOCAL app.tenant = '{tenant_id}'")
        cursor.execute("ALTER TABLE accounts_ledgerentry DISABLE TRIGGER USER")
        cursor.execute(FILL, [entries])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_ledgerentry ENABLE TRIGGER USER")
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE accounts_ledgerentry")
    print(f"a month of {entries} entries")
    for what in ("statement", "costs", "parquet", "csv", "jsonl", "focus-1.0", "focus-1.4"):
        alone("read", what, str(tenant_id))
    return tenant_id


def alone(function: str, *told: str) -> None:
    """A function of this file in a process of its own, whose memory is what this alone needs."""
    code = f"import django; django.setup(); from bench.ledger import {function}; {function}{told!r}"
    subprocess.run([sys.executable, "-c", code], check=True)


def timed(name: str, act: Callable[[], object]) -> None:
    began = time.perf_counter()
    act()
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {name:<10}{seconds:8.1f} s{peak:8.0f} MB at most", flush=True)


def read(what: str, tenant: str) -> None:
    from django.utils import timezone

    from accounts import exports, spending, statements

    tenant_id, month = UUID(tenant), timezone.now().date().replace(day=1)
    if what == "statement":
        timed(what, lambda: statements.draft(tenant_id, month))
    elif what == "costs":
        timed(what, lambda: spending.spending(tenant_id, month, month))
    else:
        with tempfile.TemporaryFile() as out:
            timed(what, lambda: exports.export(tenant_id, exports.Selection(month, month), what, out))


# --- a provider's log ---------------------------------------------------------------------------

LOG = """
    SELECT json_build_object('client_request_id', call_id, 'input_tokens', input_tokens, 'output_tokens', output_tokens,
                             'cost', (cost_micros + %s) * 0.000001)
    FROM accounts_ledgerentry WHERE tenant_id = %s AND provider = 'openai' ORDER BY id LIMIT %s
"""


def reconciled(tenant_id: UUID, lines: int, folder: Path) -> None:
    """Beside the month's books: where all is equal, and where every call did cost more."""
    from django.db import connection

    from accounts.tenancy import in_tenant

    print(f"a provider's log of {lines} requests")
    for name, more in (("equal", 0), ("different", 1)):
        log = folder / f"{name}.jsonl"
        with in_tenant(tenant_id), connection.cursor() as cursor, log.open("w") as out:
            cursor.execute(LOG, [more, tenant_id, lines])
            out.writelines(f"{json.dumps(line)}\n" for (line,) in cursor)
        alone("compare", str(log))


def compare(log: str) -> None:
    from io import StringIO

    from django.core.management import CommandError, call_command

    def reconcile() -> None:
        with suppress(CommandError):  # there are differences
            call_command("reconcile", "openai", log, stdout=StringIO())

    timed(Path(log).stem, reconcile)


# --- whom it is for -----------------------------------------------------------------------------


def shop(name: str) -> UUID:
    from accounts import ledger
    from accounts.money import Money
    from accounts.tenants import create_tenant

    tenant_id = create_tenant(name, name, f"{name}@bench.example").id
    ledger.top_up(tenant_id, Money.from_usd(1_000_000), "for the benchmark")
    return tenant_id


def limit(tenant_id: UUID) -> None:
    """A budget of the tenant's, and one of each customer's."""
    from accounts.models import Budget
    from accounts.tenancy import in_tenant

    with in_tenant(tenant_id):
        for scope in ("tenant", "customer"):
            Budget.objects.create(tenant_id=tenant_id, scope=scope, period="month", limit_micros=10**12)


if __name__ == "__main__":
    main()
