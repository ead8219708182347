"""The cast and the parts every test may use: a real PostgreSQL with pgvector, as the app role."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow to make examples; that is no fault of what is tested. What must pass before a change lands
# tries the same examples every time; on a developer's machine each run looks for new ones.
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def migrated(django_db_blocker):
    """The schema, made by the owner role as in production."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("migrate", database="owner", verbosity=0)


@pytest.fixture
def database(migrated, django_db_blocker):
    """Committed rows, as the app role; emptied afterwards by the owner. Threads and sockets see them."""
    with django_db_blocker.unblock():
        yield
        empty_tables()


def empty_tables() -> None:
    from django.apps import apps
    from django.db import connections

    tables = [
        model._meta.db_table
        for model in apps.get_models()
        if model._meta.managed and model._meta.app_label in ("accounts", "cascade", "sessions", "admin")
    ]
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
        cursor.execute("DELETE FROM procrastinate_jobs")
