"""`Idempotency-Key`: a POST that is sent again is answered again, and done once.

The answer is kept in the very transaction that did the work, so either both are there or neither. It is sealed, since
it may hold a secret that is shown once. Only what succeeded is kept: a request that was refused changed nothing and is
simply tried again. Kept for a day, for the same caller alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone
from rest_framework.response import Response

from accounts.models import KeptAnswer
from accounts.rest.bodies import JSONAnswer
from accounts.rest.callers import ApiUser
from accounts.rest.problems import Problem
from accounts.sealing import seal, unseal
from accounts.tenancy import in_tenant

KEPT = timedelta(days=1)
KEY = re.compile(r"[\x21-\x7e]{1,255}")
HEADERS = ("Location", "ETag")
IN_FLIGHT = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


def once(request: Any, caller: ApiUser, work: Callable[[], Response]) -> Response:
    """In the tenant's transaction. Raises Problem: the key is being used, or was for another request."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return work()
    if not KEY.fullmatch(key):
        raise Problem("invalid", "Idempotency-Key needs 1 to 255 printable characters")
    with connection.cursor() as cursor:
        cursor.execute(IN_FLIGHT, [f"{caller.tenant_id} {caller.name} {key}"])
        if cursor.fetchone() != (True,):
            raise Problem("request_in_progress", headers={"Retry-After": "1"})
    own = KeptAnswer.objects.filter(caller=caller.name, key=key)
    sent = fingerprint(request)
    if kept := own.filter(created_at__gt=timezone.now() - KEPT).first():
        return _again(kept, sent)
    response = work()
    own.delete()  # one that is too old
    KeptAnswer.objects.create(
        tenant_id=caller.tenant_id,
        caller=caller.name,
        key=key,
        fingerprint=sent,
        status=response.status_code,
        headers={name: response[name] for name in HEADERS if name in response},
        sealed=seal(rendered(response)),
    )
    return response


def fingerprint(request: Any) -> str:
    told = f"{request.method} {request.get_full_path()}\n".encode()
    is_form = request.content_type.startswith("multipart/")
    return sha256(told + (_form(request) if is_form else request._request.body)).hexdigest()


def _form(request: Any) -> bytes:
    """What a form with files says, however its parts are put."""
    files = {name: [file.name, sha256(file.read()).hexdigest()] for name, file in request.FILES.items()}
    for file in request.FILES.values():
        file.seek(0)
    return json.dumps([sorted(request.POST.items()), sorted(files.items())]).encode()


def rendered(response: Response) -> bytes:
    return JSONAnswer().render(response.data)


def _again(kept: KeptAnswer, fingerprint: str) -> Response:
    if kept.fingerprint != fingerprint:
        raise Problem("idempotency_key_reused")
    body = unseal(kept.sealed)
    response = Response(json.loads(body) if body else None, status=kept.status)
    for name, value in kept.headers.items():
        response[name] = value
    response["Idempotent-Replayed"] = "true"
    return response


def forget_old(tenant_id: UUID) -> int:
    """Delete answers that are not given again; how many."""
    with in_tenant(tenant_id):
        return KeptAnswer.objects.filter(created_at__lte=timezone.now() - KEPT).delete()[0]
