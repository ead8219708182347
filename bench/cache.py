"""How fast a remembered answer is found among many, beside GPTCache, and whether another customer's ever is.

    python -m bench.cache [--entries 10000 100000] [--lookups 100000] [--without-gptcache]

Vectors are made: topics at random, questions around them. Both are asked the same, one after the other, on one machine;
ours through the application's role, under row-level security, tenant, chatbot, strategy and scope in the statement.
GPTCache (0.1.44, SQLite and FAISS) is installed into a virtual environment under var/bench and knows no scopes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from uuid import UUID

import numpy as np

from bench.stage import database

QUERIES = 500
CUSTOMERS = 1000
WORDINGS = 100
HOME = Path(__file__).resolve().parents[1] / "var" / "bench"
PEER = ("gptcache==0.1.44", "faiss-cpu", "sqlalchemy", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description="The look-up of remembered answers, beside GPTCache.")
    parser.add_argument("--entries", type=int, nargs="+", default=[10_000, 100_000], help="of one chatbot")
    parser.add_argument("--lookups", type=int, default=100_000, help="of other customers, in the same words")
    parser.add_argument("--without-gptcache", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, database(Path(folder) / "var"):
        print(f"{'entries':>8} {'ours p50':>9} {'recall@1':>9} {'GPTCache':>9} {'recall@1':>9} {'ours/theirs':>11}")
        for entries in asked.entries:
            print(row(entries, peer=not asked.without_gptcache), flush=True)
        print(f"answers of another customer in {asked.lookups} look-ups: {crossings(asked.lookups)}")


def row(entries: int, *, peer: bool) -> str:
    stored, wanted = questions(entries)
    nearest = [int(np.argmax(stored @ vector)) for vector in wanted]
    took, found = ours(stored, wanted)
    line = f"{entries:>8} {median(took):>6.2f} ms {agreement(found, nearest):>9.3f}"
    if not peer:
        return line
    theirs = gptcache(stored, wanted)
    recall = agreement(theirs["found"], nearest)
    ratio = median(took) / median(theirs["milliseconds"])
    return f"{line} {median(theirs['milliseconds']):>6.2f} ms {recall:>9.3f} {ratio:>11.3f}"


def agreement(found: list[int], nearest: list[int]) -> float:
    return float(np.mean(np.array(found) == np.array(nearest)))


def questions(entries: int) -> tuple[np.ndarray, np.ndarray]:
    """Stored ones, and ones that are asked: unit vectors around topics, about 20 a topic."""
    chance = np.random.default_rng(7)
    topics = chance.normal(size=(max(1, entries // 20), 384))
    stored = topics[chance.integers(len(topics), size=entries)] + 0.6 * chance.normal(size=(entries, 384))
    asked = stored[chance.choice(entries, QUERIES, replace=False)] + 0.4 * chance.normal(size=(QUERIES, 384))
    return unit(stored), unit(asked)


def unit(rows: np.ndarray) -> np.ndarray:
    made: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


# --- ours ---------------------------------------------------------------------------------------


def ours(stored: np.ndarray, wanted: np.ndarray) -> tuple[list[float], list[int]]:
    from accounts.tenancy import in_tenant
    from cascade import remembered
    from cascade.remembered import Place

    place, customers = shop(f"bench-{len(stored)}")
    fill(place, stored, customers)
    took, found = [], []
    for number, vector in enumerate(wanted):
        asking = Place(
            *(place.tenant_id, place.chatbot_id, place.strategy_id, customers[number % CUSTOMERS], "", "basis", "own")
        )
        with in_tenant(asking.tenant_id):
            started = time.perf_counter()
            rows = remembered.rows(asking, vector.tolist())
            took.append(1000 * (time.perf_counter() - started))
        found.append(int(rows[0]["question"]) if rows else -1)
    return took, found


def shop(slug: str) -> tuple[object, list[UUID]]:
    from accounts.auth import create_widget
    from accounts.models import Customer
    from accounts.tenancy import in_tenant
    from accounts.tenants import create_tenant
    from cascade.models import CascadeStrategy, Chatbot
    from cascade.remembered import Place

    tenant = create_tenant(slug, slug, f"{slug}@example.com")
    widget, _, _ = create_widget(tenant.id, ["http://localhost"])
    with in_tenant(tenant.id):
        chatbot = Chatbot.objects.create(tenant=tenant, name=slug, widget=widget, instructions="")
        strategy = CascadeStrategy.objects.create(
            tenant=tenant, chatbot=chatbot, version=1, tiers=[], deadline_seconds=1
        )
        customers = Customer.objects.bulk_create(
            [Customer(tenant_id=tenant.id, external_id=f"c{i}") for i in range(CUSTOMERS)]
        )
    ids = [customer.id for customer in customers]
    return Place(tenant.id, chatbot.id, strategy.id, ids[0], "", "basis", "own"), ids


def fill(place, stored: np.ndarray, customers: list[UUID], *, personal: bool = False) -> None:
    """Written without the index of meanings, which is built afterwards: in one go it takes a tenth of the time."""
    from datetime import timedelta

    from django.db import connections
    from django.utils import timezone
    from pgvector import HalfVector

    from accounts.tenancy import in_tenant
    from cascade.models import Conversation, RememberedAnswer, Turn

    index = next(each for each in RememberedAnswer._meta.indexes if each.name == "remembered_by_meaning")
    with connections["owner"].schema_editor() as editor:
        editor.remove_index(RememberedAnswer, index)
    with in_tenant(place.tenant_id):
        conversation = Conversation.objects.create(
            tenant_id=place.tenant_id, chatbot_id=place.chatbot_id, customer_id=place.customer_id
        )
        turn = Turn.objects.create(
            tenant_id=place.tenant_id, conversation=conversation, client_id="1", body_hash="", process_key=1
        )
    zero, later = HalfVector([0.0] * 383 + [1.0]), timezone.now() + timedelta(days=1)
    for start in range(0, len(stored), 2000):
        with in_tenant(place.tenant_id):
            RememberedAnswer.objects.bulk_create(
                RememberedAnswer(
                    tenant_id=place.tenant_id, chatbot_id=place.chatbot_id, strategy_id=place.strategy_id, turn=turn,
                    customer_id=customers[i % len(customers)] if personal else None, question=str(i), answer="answer",
                    embedding=HalfVector(stored[i]), answer_embedding=zero, model="small", score=0.9, general=5.0,
                    basis="own" if personal else "basis", knowledge="", cost_micros=1, dearest_micros=1,
                    expires_at=later,
                )
                for i in range(start, min(start + 2000, len(stored)))
            )  # fmt: skip
    with connections["owner"].cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'")
    with connections["owner"].schema_editor() as editor:
        editor.add_index(RememberedAnswer, index)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE cascade_rememberedanswer")


# --- across customers -----------------------------------------------------------------------------


def crossings(lookups: int) -> int:
    """Half of the customers have their own answers to each of the wordings, and everybody asks in the very same words:
    the one half must find none but their own, the other half nothing. How many were another customer's."""
    from cascade import remembered
    from cascade.remembered import Place

    place, customers = shop("bench-crossing")
    wordings = questions(CUSTOMERS)[0][:WORDINGS]
    owners = customers[::2]
    fill(place, np.repeat(wordings, len(owners), axis=0), owners, personal=True)
    wrong = 0
    for number in range(lookups):
        at, wording = number % CUSTOMERS, number // CUSTOMERS % WORDINGS
        asking = Place(place.tenant_id, place.chatbot_id, place.strategy_id, customers[at], "", "basis", "own")
        found = remembered.candidates(asking, wordings[wording].tolist())
        wrong += sum(at % 2 or int(each.question) % len(owners) != at // 2 for each in found)
        if not at % 2 and int(found[0].question) // len(owners) != wording:
            raise RuntimeError("a customer does not find their own answer")
    return wrong


# --- theirs -----------------------------------------------------------------------------------------


def gptcache(stored: np.ndarray, wanted: np.ndarray) -> dict[str, list]:
    home = HOME / "gptcache"
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEER], check=True)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "stored.npy", stored)
        np.save(Path(folder) / "asked.npy", wanted)
        peer = [str(python), str(Path(__file__).with_name("gptcache_peer.py")), folder]
        done = subprocess.run(peer, check=True, capture_output=True, text=True)
    told: dict[str, list] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
