"""Members see what is remembered; who leads pins and forgets it; what it saved is told in money."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts.tenancy import in_tenant
from cascade import remembered
from cascade.memory.scope import Scope
from cascade.models import MemoryUse, ModelCall, RememberedAnswer
from tests.cascade.test_remembered import answered, keep, place_of, vector
from tests.cast import open_shop
from tests.chatbackend.test_admin import logged_in

pytestmark = pytest.mark.usefixtures("database")
LIST = "admin:cascade_rememberedanswer_changelist"


@pytest.fixture
def alice():
    return open_shop("alice", "http://localhost:1")


def test_who_leads_searches_pins_and_forgets_what_is_remembered(alice):
    pinned, forgotten = keep(place_of(alice), question="How long?"), keep(place_of(alice), Scope.CUSTOMER, "Whose?")
    owner = logged_in((alice, "owner"))
    page = owner.get(reverse(LIST), {"q": "long"}).content.decode()
    assert "How long?" in page
    assert "Whose?" not in page
    owner.post(reverse("admin:cascade_rememberedanswer_change", args=[pinned]), change(pinned="on"))
    owner.post(reverse("admin:cascade_rememberedanswer_delete", args=[forgotten]), {"post": "yes"})
    with in_tenant(alice.tenant_id):
        assert [each.pinned for each in RememberedAnswer.objects.all()] == [True]


def change(**columns: str) -> dict[str, str]:
    return {"uses-TOTAL_FORMS": "0", "uses-INITIAL_FORMS": "0"} | columns


def test_support_reads_what_is_remembered_and_changes_nothing(alice):
    kept = keep(place_of(alice), question="How long?")
    support = logged_in((alice, "support"))
    assert "How long?" in support.get(reverse(LIST)).content.decode()
    assert support.post(reverse("admin:cascade_rememberedanswer_change", args=[kept]), change()).status_code == 403
    assert (
        support.post(reverse("admin:cascade_rememberedanswer_delete", args=[kept]), {"post": "yes"}).status_code == 403
    )


def test_the_first_page_tells_what_memory_saved_this_month_less_what_checking_cost(alice):
    place = place_of(alice)
    keep(place)
    for outcome in (MemoryUse.Outcome.SERVED, MemoryUse.Outcome.SERVED, MemoryUse.Outcome.RIGHT):
        [candidate] = remembered.candidates(place, vector())
        turn = answered(place)
        remembered.note(place, turn.id, candidate, outcome, 0.99)
    call_of(place, turn, "large", "explored", 500)
    voted_down = answered(place)
    call_of(place, voted_down, "memory", "accepted", 0)
    remembered.note(place, voted_down.id, candidate, MemoryUse.Outcome.WRONG, 0.99)
    page = logged_in((alice, "owner")).get(reverse("admin:index")).content.decode()
    assert "Saved by memory this month" in page
    assert "$0.000030" in page  # twice 30 saved, 30 paid for a check
    assert "2 answers given again; 1 checks cost $0.000030" in page


def test_several_are_forgotten_at_once_and_the_month_is_told_above_the_list(alice):
    place = place_of(alice)
    kept = [keep(place, question=f"{n}?", angle=n / 2) for n in range(3)]
    [candidate, *_] = remembered.candidates(place, vector())
    remembered.note(place, answered(place).id, candidate, MemoryUse.Outcome.SERVED, 0.99)
    lead, support = logged_in((alice, "admin")), logged_in((alice, "support"))
    page = reverse(LIST)
    told = lead.get(page).content.decode()
    assert "Saved this month" in told
    assert "$0.000030" in told
    two = {"action": "forget", "_selected_action": [str(each) for each in kept[:2]]}
    support.post(page, two)
    assert count(alice) == 3
    assert "2 forgotten" in lead.post(page, two, follow=True).content.decode()
    assert count(alice) == 1


def count(shop) -> int:
    with in_tenant(shop.tenant_id):
        return RememberedAnswer.objects.count()


def call_of(place, turn, model: str, outcome: str, micros: int) -> None:
    with in_tenant(place.tenant_id):
        ModelCall.objects.create(
            tenant_id=place.tenant_id, turn=turn, number=2, tier=1, model=model, threshold=0.5, outcome=outcome,
            cost_micros=micros,
        )  # fmt: skip
