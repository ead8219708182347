"""The two ways to the database: `in_tenant` says whose rows, `in_db` crosses from the event loop.

Row-level security hides every tenant row unless the transaction names its tenant, so a query
outside `in_tenant` finds nothing rather than somebody else's. What is looked up before the
tenant is known (an API key, a widget key) goes through the functions in `accounts.auth`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection, transaction

P = ParamSpec("P")
R = TypeVar("R")

_entered: ContextVar[UUID | None] = ContextVar("tenant", default=None)

# The pool has a connection for each of these threads and some more for HTTP: however many sockets and turns wait for
# a thread, a page still finds a connection.
DB_THREADS = ThreadPoolExecutor(settings.DATABASE_POOL_SIZE, thread_name_prefix="db")


def in_db(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The only bridge from the event loop to the ORM: `await in_db(open_turn)(caller, text)`.

    `function` is plain, synchronous and short, and opens its own `in_tenant`.
    """
    bridged: Callable[P, Coroutine[Any, Any, R]] = database_sync_to_async(
        function, thread_sensitive=False, executor=DB_THREADS
    )
    return bridged


@contextmanager
def in_tenant(tenant_id: UUID, opening: str = "", *told: Any) -> Iterator[Any]:
    """One transaction that sees exactly this tenant's rows. Nests, but never into another tenant.

    `opening` is a statement that names the tenant for the transaction by itself and finds something besides: the block
    is given its first row, or None.

    Raises:
        RuntimeError: another tenant's transaction is already open.
    """
    entered = _entered.get()
    if entered not in (None, tenant_id):
        raise RuntimeError("a transaction of another tenant is open")
    joined = entered is not None and connection.in_atomic_block
    mark = _entered.set(tenant_id)
    try:
        with transaction.atomic():
            found = _opened(opening, told) if opening else None
            if not opening and not joined:
                set_for_transaction("app.tenant", tenant_id)
            yield found
    finally:
        _entered.reset(mark)


def set_for_transaction(name: str, value: object) -> None:
    """SET LOCAL: gone at the end of the transaction, so a pooled connection carries nothing over."""
    _opened("SELECT set_config(%s, %s, true)", (name, str(value)))


def _opened(statement: str, told: tuple[Any, ...]) -> Any:
    """Its first row, or None. Where it is the first statement, it travels together with the transaction's BEGIN."""
    with connection.cursor() as cursor:
        with connection.wrap_database_errors, connection.connection.pipeline():
            cursor.execute(statement, told)
        return cursor.fetchone()


def in_one_statement(tenant_id: UUID, statement: str, *told: Any) -> Any:
    """What a function of the database answers that takes the tenant first and names it by itself.

    It is a transaction of its own, in one round trip: no lock of it waits for the network. Inside the tenant's
    transaction, which goes on, it is a statement like others. Raises RuntimeError as `in_tenant`.
    """
    if _entered.get() not in (None, tenant_id):
        raise RuntimeError("a transaction of another tenant is open")
    with connection.cursor() as cursor:
        cursor.execute(statement, (tenant_id, *told))
        return cursor.fetchone()[0]
