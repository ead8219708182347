"""The way to the database stays open for everybody, however much one side uses it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.conf import settings
from django.db import connection, connections

from accounts.tenancy import in_db

pytestmark = pytest.mark.usefixtures("database")


async def test_a_page_finds_a_connection_while_every_thread_of_the_sockets_holds_one():
    holding, released = threading.Semaphore(0), threading.Event()

    def hold():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            holding.release()
            released.wait(30)

    def page():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return cursor.fetchone()
        finally:
            connection.close()

    held = [asyncio.create_task(in_db(hold)()) for _ in range(settings.DATABASE_POOL_SIZE)]
    try:
        for _ in held:
            assert await asyncio.to_thread(holding.acquire, timeout=10)
        assert await asyncio.to_thread(page) == (1,)
    finally:
        released.set()
        await asyncio.gather(*held)


def test_the_database_ends_what_takes_too_long_but_no_migration():
    for alias, allowed in (("default", f"{settings.STATEMENT_SECONDS}s"), ("owner", "0")):
        with connections[alias].cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == (allowed,)
