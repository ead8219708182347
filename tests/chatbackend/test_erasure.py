"""A customer is told all that is known of them, and then forgotten; the books keep their sums."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count, Sum
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import ledger
from accounts.models import Budget, Customer, LedgerEntry
from accounts.tenancy import in_db, in_tenant
from cascade import conversations
from cascade.models import Conversation, Message, ModelCall, RememberedAnswer
from chatbackend import personal_data
from chatbackend.erasure import StillAnswering, erase
from chatbackend.live import live
from tests.cast import open_shop
from tests.chatbackend.sockets import at_door, serving
from tests.chatbackend.test_chat import alice, ask, books_balance, engine, models, on_record  # noqa: F401
from tests.model_server import Reply

pytestmark = pytest.mark.usefixtures("database")
CANARY = "zanzibar"


def tables_that_say(shop, word: str) -> set[str]:
    """Names of all tables with a row of the tenant's in which the word stands, in whatever column."""
    found = set()
    with in_tenant(shop.tenant_id), connection.cursor() as cursor:
        for model in apps.get_models():
            if model._meta.app_label in ("accounts", "cascade"):
                table = model._meta.db_table
                cursor.execute(f"SELECT 1 FROM {table} AS it WHERE it::text ILIKE %s LIMIT 1", [f"%{word}%"])
                found |= {table} if cursor.fetchone() else set()
    return found


def entries(shop) -> dict[str, int]:
    with in_tenant(shop.tenant_id):
        return LedgerEntry.objects.aggregate(Count("id"), Sum("cost_micros"), Sum("amount_micros"))


async def talked(alice, models, external_id: str, word: str):  # noqa: F811
    """A customer in whose record, question, answer and feedback the word stands."""
    caller = await in_db(alice.caller)(external_id, {"status": word})
    models.script("small", Reply(f"It is good in {word}."))
    frames = await ask(caller, f"Where is {word}?", engine=engine(models))
    reply = next(frame for frame in frames if frame.event == "message.created" and frame.data["role"] == "assistant")
    await in_db(conversations.set_feedback)(caller, reply.data["id"], 1, f"I like {word}")
    return caller


def remember(shop) -> None:
    """The one answer so far, for everybody."""
    with in_tenant(shop.tenant_id):
        call = ModelCall.objects.select_related("turn").get()
        RememberedAnswer.objects.create(
            tenant_id=shop.tenant_id,
            chatbot_id=shop.chatbot_id,
            question="Where?",
            embedding=[1.0] + [0.0] * 383,
            answer=call.text,
            answer_embedding=[1.0] + [0.0] * 383,
            turn=call.turn,
            model=call.model,
            score=0.9,
            strategy_id=call.turn.strategy_id,
            general=1.0,
            cost_micros=1,
            dearest_micros=2,
            expires_at=timezone.now() + timedelta(days=1),
        )


async def test_nothing_in_any_table_says_a_word_of_an_erased_customer_and_the_books_balance(models, alice):  # noqa: F811
    caller = await talked(alice, models, "c1", CANARY)
    other = await talked(alice, models, "c2", "elsewhere")
    said = await in_db(tables_that_say)(alice, CANARY)
    assert {"cascade_message", "cascade_modelcall", "cascade_feedback", "accounts_customerrecord"} <= said
    before = await in_db(entries)(alice)
    assert await in_db(erase)(alice.tenant_id, caller.customer_id)
    assert await in_db(tables_that_say)(alice, CANARY) == set()
    assert await in_db(tables_that_say)(alice, str(caller.customer_id)) == set()
    assert await in_db(entries)(alice) == before
    assert await books_balance(alice)
    assert len(await on_record(alice, Message, conversation__customer_id=other.customer_id)) == 2
    assert not await in_db(erase)(alice.tenant_id, caller.customer_id)
    assert await ask(await in_db(alice.caller)("c1"), engine=engine(models))  # who comes back is somebody new


async def test_a_call_of_an_erased_customer_can_still_be_corrected(models, alice):  # noqa: F811
    caller = await talked(alice, models, "c1", CANARY)
    [call] = await on_record(alice, ModelCall)
    await in_db(erase)(alice.tenant_id, caller.customer_id)
    [charge] = await on_record(alice, LedgerEntry, kind="charge")
    assert await in_db(ledger.adjust)(alice.tenant_id, call.id, ledger.ZERO, "credited", (0, 0))
    assert await books_balance(alice)
    assert charge.cost_micros > 0


async def test_a_budget_for_one_customer_goes_with_them(models, alice):  # noqa: F811
    caller = await in_db(alice.caller)()

    def budget(subject: str) -> None:
        with in_tenant(alice.tenant_id):
            Budget.objects.create(
                tenant_id=alice.tenant_id, scope="customer", subject=subject, period="day", limit_micros=10**6
            )

    await in_db(budget)(str(caller.customer_id))
    await in_db(budget)("")
    await ask(caller, engine=engine(models))
    await in_db(erase)(alice.tenant_id, caller.customer_id)
    assert [it.subject for it in await on_record(alice, Budget)] == [""]
    assert await books_balance(alice)


async def test_a_reply_on_its_way_is_stopped_charged_and_forgotten(models, alice):  # noqa: F811
    models.script("small", Reply("good " * 200, pace=0.05))
    async with serving(engine(models)) as address, at_door(address, alice) as client:
        await client.send("message.send", text=f"Where is {CANARY}?")
        await asyncio.to_thread(models.wait_until, lambda: models.calls and models.calls[0].billed.output > 3)
        [customer] = await on_record(alice, Customer)
        assert await in_db(erase)(alice.tenant_id, customer.id)
    assert await asyncio.to_thread(models.wait_until, lambda: models.calls[0].dropped) is None
    assert await in_db(tables_that_say)(alice, CANARY) == set()
    [charge] = await on_record(alice, LedgerEntry, kind="charge")
    assert (charge.outcome, charge.estimated) == ("cancelled", True)
    assert charge.cost_micros > 0
    assert await books_balance(alice)


async def test_a_turn_that_does_not_end_keeps_its_customer_whole(models, alice):  # noqa: F811
    caller = await talked(alice, models, "c1", CANARY)
    await in_db(remember)(alice)
    await live.start()
    try:
        await in_db(conversations.open_turn)(caller, None, str(uuid7()), "Where is it?", live.process_key)
        with pytest.raises(StillAnswering):
            await in_db(erase)(alice.tenant_id, caller.customer_id, 0.2)
    finally:
        await live.stop()
    assert len(await on_record(alice, Message)) == 3
    assert len(await on_record(alice, RememberedAnswer)) == 1
    assert await in_db(erase)(alice.tenant_id, caller.customer_id)  # the process is gone
    assert await on_record(alice, Conversation) == await on_record(alice, RememberedAnswer) == []


async def test_a_customer_is_told_all_that_is_known_and_nothing_of_others(models, alice):  # noqa: F811
    caller = await talked(alice, models, "c1", CANARY)
    await talked(alice, models, "c2", "elsewhere")
    told = await in_db(personal_data.tell)(alice.tenant_id, caller.customer_id)
    assert told["customer"]["external_id"] == "c1"
    assert told["customer"]["records"][0]["data"] == {"status": CANARY}
    [conversation] = told["conversations"]
    assert [it["text"] for it in conversation["messages"]] == [f"Where is {CANARY}?", f"It is good in {CANARY}."]
    assert (conversation["messages"][1]["rating"], conversation["messages"][1]["comment"]) == (1, f"I like {CANARY}")
    assert [(it["outcome"], it["score"]) for it in conversation["drafts"]] == [("accepted", 0.9)]
    assert "elsewhere" not in json.dumps(told)


async def test_another_tenants_customer_is_neither_told_nor_erased(models, alice):  # noqa: F811
    caller = await talked(alice, models, "c1", CANARY)
    charlie = await in_db(open_shop)("charlie", models.base_url)
    with pytest.raises(Customer.DoesNotExist):
        await in_db(personal_data.tell)(charlie.tenant_id, caller.customer_id)
    assert not await in_db(erase)(charlie.tenant_id, caller.customer_id)
    assert "cascade_message" in await in_db(tables_that_say)(alice, CANARY)


def test_the_operator_exports_and_erases_by_the_tenants_own_id(database):
    shop = open_shop("alice", "http://127.0.0.1:1")
    shop.caller("c1")
    out = StringIO()
    call_command("export_customer", "alice", "c1", stdout=out)
    assert json.loads(out.getvalue())["customer"]["external_id"] == "c1"
    call_command("erase_customer", "alice", "c1", stdout=out)
    assert "c1 of alice is erased" in out.getvalue()
    for command in ("export_customer", "erase_customer"):
        with pytest.raises(CommandError, match="does not exist"):
            call_command(command, "alice", "c1")
        with pytest.raises(CommandError, match="no tenant"):
            call_command(command, "nobody", "c1")
