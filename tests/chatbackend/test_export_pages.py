"""Statements and exports on the admin pages: asked for, closed and downloaded by those who may, in parts if need be."""

from __future__ import annotations

import hashlib
import json

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import reverse

from accounts import ledger
from accounts.models import Export, Statement
from accounts.tenancy import in_tenant
from tests.accounts.books import a_month_passes, at_noon, charge, held_turn, month_before, this_month
from tests.cast import Shop, open_shop
from tests.chatbackend.test_admin import logged_in
from tests.chatbackend.test_tasks import work

pytestmark = pytest.mark.usefixtures("database")
EXPORTS = "admin:accounts_export"
STATEMENTS = "admin:accounts_statement"


@pytest.fixture
def shop() -> Shop:
    shop = open_shop("alice", "http://127.0.0.1:9/v1")
    at_noon(shop.tenant_id)
    ledger.settle(shop.tenant_id, held_turn(shop.tenant_id, 900), [charge(55, chatbot_id=shop.chatbot_id)])
    return shop


@pytest.fixture
def alice(shop) -> Client:
    return logged_in((shop, "owner"))


def export(client: Client, form: str = "csv", **more: str) -> None:
    month = f"{this_month():%Y-%m}"
    asked = {"format": form, "from_month": month, "to_month": month, **more}
    answer = client.post(reverse(f"{EXPORTS}_add"), asked)
    assert answer.status_code == 302, answer.content.decode()


def only(shop: Shop) -> Export:
    with in_tenant(shop.tenant_id):
        return Export.objects.get()


def got(client: Client, url: str, **headers: str):
    """As the server answers: asynchronously, in pieces."""

    async def get() -> tuple:
        asking = AsyncClient()
        asking.cookies = client.cookies
        answer = await asking.get(url, headers=headers)
        body = b"".join([piece async for piece in answer]) if answer.streaming else answer.content
        return answer, body

    try:
        return async_to_sync(get)()
    finally:
        connections.close_all()


def test_an_export_is_asked_for_written_by_the_worker_and_downloaded(shop, alice):
    export(alice, chatbot=str(shop.chatbot_id), kind="charge")
    assert 'hx-trigger="every 3s' in alice.get(reverse(f"{EXPORTS}_changelist")).content.decode()
    assert work()["write_export"] == "succeeded"
    page = alice.get(reverse(f"{EXPORTS}_changelist"))
    assert "hx-trigger" not in page.content.decode()
    links = {name: reverse(f"{EXPORTS}_{name}", args=[only(shop).id]) for name in ("file", "manifest")}
    assert all(link in page.content.decode() for link in links.values())
    answer, file = got(alice, links["file"])
    manifest = json.loads(got(alice, links["manifest"])[1])
    assert (manifest["rows"], manifest["sums"]["cost"]) == (1, "0.000055")
    assert manifest["sha256"] == hashlib.sha256(file).hexdigest()
    assert answer["Content-Disposition"].startswith('attachment; filename="ledger-')


def test_a_download_goes_on_where_it_broke_off(shop, alice):
    export(alice)
    work()
    link = reverse(f"{EXPORTS}_file", args=[only(shop).id])
    whole, file = got(alice, link)
    part, rest = got(alice, link, Range="bytes=100-", **{"If-Range": whole["ETag"]})
    assert (part.status_code, file[:100] + rest) == (206, file)
    assert part["Content-Range"] == f"bytes 100-{len(file) - 1}/{len(file)}"
    assert got(alice, link, Range="bytes=3-5")[1] == file[3:6]
    assert got(alice, link, Range="bytes=100-", **{"If-Range": '"another"'})[1] == file
    assert got(alice, link, Range=f"bytes={len(file)}-")[0].status_code == 416


def test_only_the_roles_of_its_tenant_get_a_file(shop, alice):
    export(alice)
    work()
    link = reverse(f"{EXPORTS}_file", args=[only(shop).id])
    assert got(logged_in((shop, "analyst")), link)[0].status_code == 200
    assert got(logged_in((shop, "support")), link)[0].status_code == 403
    assert got(logged_in((open_shop("charlie", "http://127.0.0.1:9/v1"), "owner")), link)[0].status_code == 404


def test_what_cannot_be_exported_is_said_on_the_form(shop, alice):
    Export.MOST, before = 1, Export.MOST
    try:
        export(alice)
        month = f"{this_month():%Y-%m}"
        asked = {"format": "csv", "from_month": month, "to_month": month}
        assert "not finished yet" in alice.post(reverse(f"{EXPORTS}_add"), asked).content.decode()
    finally:
        Export.MOST = before
    assert "valid date" in alice.post(reverse(f"{EXPORTS}_add"), asked | {"since": "soon"}).content.decode()
    for wrong in ({"format": "xls"}, {"from_month": "2001-01"}, {"chatbot": str(shop.tenant_id)}):
        assert "Select a valid choice" in alice.post(reverse(f"{EXPORTS}_add"), asked | wrong).content.decode()


def test_an_owner_closes_a_month_and_prints_it(shop, alice):
    a_month_passes(shop.tenant_id)
    month = f"{month_before(this_month()):%Y-%m}"
    drafted = alice.get(reverse(f"{STATEMENTS}_draft", args=[month])).content.decode()
    assert "Draft" in drafted
    assert "$0.000055" in drafted
    page = alice.get(reverse(f"{STATEMENTS}_changelist")).content.decode()
    assert f'value="{month}"' in page
    answer = alice.post(reverse(f"{STATEMENTS}_close"), {"month": month}, follow=True).content.decode()
    assert "is closed: statement 1" in answer
    with in_tenant(shop.tenant_id):
        statement = Statement.objects.get()
    printed = alice.get(reverse(f"{STATEMENTS}_change", args=[statement.id]))
    assert printed.content.decode() == statement.printed
    assert "Statement 1" in statement.printed


def test_a_month_that_cannot_be_closed_says_why(shop, alice):
    answer = alice.post(reverse(f"{STATEMENTS}_close"), {"month": f"{this_month():%Y-%m}"}, follow=True)
    assert "It stays open" in answer.content.decode()
    assert alice.post(reverse(f"{STATEMENTS}_close"), {"month": "soon"}).status_code == 404
    assert alice.get(reverse(f"{STATEMENTS}_draft", args=["2026-13"])).status_code == 404


@pytest.mark.parametrize("role", ["analyst", "support"])
def test_only_owners_and_admins_close(shop, role):
    a_month_passes(shop.tenant_id)
    month = f"{month_before(this_month()):%Y-%m}"
    assert logged_in((shop, role)).post(reverse(f"{STATEMENTS}_close"), {"month": month}).status_code == 403
    with in_tenant(shop.tenant_id):
        assert not Statement.objects.exists()
