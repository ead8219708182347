"""Schemathesis against a live server with a tenant that has something of everything.

python -m bench.openapi [schemathesis options]
"""

from __future__ import annotations

import asyncio
import sys

import tests.environment  # first: a database of its own


def main() -> int:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from tests.chatbackend.doors import serving
    from tests.chatbackend.test_openapi import schemathesis, something_of_everything

    settings.RATE_API = None
    call_command("migrate", database="owner", verbosity=0)
    _, program = something_of_everything()

    async def run() -> int:
        async with serving() as address:
            status, told = await schemathesis(address, program.secret, *sys.argv[1:])
        print(told)
        return status

    try:
        return asyncio.run(run())
    finally:
        tests.environment.pytest_unconfigure()


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatbackend.settings")
    sys.exit(main())
