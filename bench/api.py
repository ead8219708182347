"""`python -m bench.api`: a page of 50 customers among 100,000, beside the bare query, in one run.

All are asked in this process, in turn. The API: from a request to the bytes of its answer through Django's whole stack
(middleware, key, limit, transaction, page, JSON). The bare query: raw SQL without Django's models, the same columns of
the same rows in the tenant's transaction through the same connection, once as Python's rows alone and once as JSON.
None has a socket in front.
Prints the median of each in milliseconds, the ratios, and the API's queries for a page of 1 and of 50.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import tests.environment  # first: a database of its own

ROWS, PAGE, ROUNDS = 100_000, 50, 400
BARE = """
    SELECT id, external_id, attributes, locale, verified, created_at FROM accounts_customer
    ORDER BY created_at DESC, id DESC LIMIT 51
"""


def main() -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from limits import parse

    settings.RATE_API = parse("1000000/minute")  # counted, and never full
    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", database="owner", verbosity=0)
    try:
        compare()
    finally:
        tests.environment.pytest_unconfigure()


def compare() -> None:
    from django.core.handlers.base import BaseHandler
    from django.db import connection, connections
    from django.test import RequestFactory
    from django.test.utils import CaptureQueriesContext

    from accounts.tenancy import in_tenant
    from tests.api_cast import Program
    from tests.cast import open_shop

    shops = [open_shop(name, "http://127.0.0.1:9/v1") for name in ("alice", "other")]
    for shop in shops:
        fill(shop.tenant_id)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE accounts_customer")  # as a server does by itself, sooner or later
    server, program = BaseHandler(), Program(shops[0])
    server.load_middleware()
    requests = RequestFactory(headers={"Authorization": f"Bearer {program.secret}"})

    def page(limit: int = PAGE) -> bytes:
        answer = server.get_response(requests.get(f"/api/v1/customers?limit={limit}"))
        assert answer.status_code == 200
        return answer.content

    def rows() -> tuple[list[str], list[Any]]:
        with in_tenant(shops[0].tenant_id), connection.cursor() as cursor:
            cursor.execute(BARE)
            return [column.name for column in cursor.description], cursor.fetchall()

    def bare() -> bytes:
        names, found = rows()
        return json.dumps([dict(zip(names, row, strict=True)) for row in found[:PAGE]], default=str).encode()

    assert [row["id"] for row in json.loads(page())["results"]] == [row["id"] for row in json.loads(bare())]
    ours, as_json, fetched = medians(page, bare, rows)
    queries = []
    for limit in (1, PAGE):
        with CaptureQueriesContext(connection) as asked:
            page(limit)
        queries.append(len(asked))
    print(f"{ROWS} rows of each of 2 tenants, a page of {PAGE}, median of {ROUNDS}")
    print(f"API {ours:.2f} ms; queries {queries[0]} and {queries[1]}")
    for told, floor in (("as JSON", as_json), ("as rows alone", fetched)):
        print(f"bare query {told} {floor:.2f} ms, the API {ours / floor:.2f} times as long")


def fill(tenant_id: Any) -> None:
    from django.db import connection

    from accounts.tenancy import in_tenant

    with in_tenant(tenant_id), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_customer (id, tenant_id, external_id, attributes, verified, locale, created_at)"
            " SELECT gen_random_uuid(), %s, 'c' || n, jsonb_build_object('name', 'Customer ' || n), true, 'en',"
            " now() - n * interval '1 minute' FROM generate_series(1, %s) AS n",
            [tenant_id, ROWS],
        )


def medians(*functions: Callable[[], Any]) -> list[float]:
    """The median milliseconds of each, asked in turn."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for times, function in zip(taken, functions, strict=True):
            began = time.perf_counter()
            function()
            times.append(1000 * (time.perf_counter() - began))
    return [statistics.median(times) for times in taken]


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")
    sys.exit(main())
