"""Callers of the REST API: members by role, programs by scopes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.test import Client
from uuid_utils.compat import uuid7

from accounts.api_keys import create_api_key
from accounts.models import Member, User
from accounts.permissions import SCOPES
from accounts.tenancy import in_tenant
from tests.cast import Shop


class Program:
    """What a tenant's program can do: requests with its API key, answers as JSON."""

    def __init__(self, shop: Shop, scopes: Iterable[str] = SCOPES) -> None:
        key, self.secret = create_api_key(shop.tenant_id, "program", scopes)
        self.key_id = key.id
        self.client = Client()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        headers = {"Authorization": f"Bearer {self.secret}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return send(self.client, method, path, body, headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)


def send(client: Client, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return client.generic(method, f"/api/v1{path}", raw, content_type="application/json", headers=headers or {})


def member(shop: Shop, role: str) -> Client:
    user = User.objects.create(username=f"user{uuid7()}")
    with in_tenant(shop.tenant_id):
        Member.objects.create(tenant_id=shop.tenant_id, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client
