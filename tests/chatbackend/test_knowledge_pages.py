"""Staff write and upload articles, see how far the index is, what no article answers, and what a saved reply says."""

from __future__ import annotations

import html

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Member, User
from accounts.tenancy import in_tenant
from cascade.models import Article, Chatbot, ExampleQuestion, SavedReply, Upload
from tests.cascade.test_gaps import ask
from tests.cascade.test_knowledge import index, write
from tests.cast import ORDER, open_shop

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def shop():
    return open_shop("alice", "http://127.0.0.1:1")


@pytest.fixture
def alice(shop):
    user = User.objects.create_user("alice", password="a pass phrase")
    with in_tenant(shop.tenant_id):
        Member.objects.create(tenant_id=shop.tenant_id, user=user, role=Member.Role.OWNER)
    client = Client()
    client.force_login(user)
    return client


def page(client, name: str, *args, **query) -> str:
    answer = client.get(reverse(f"admin:cascade_{name}", args=args), query)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def send(client, shop, *files: tuple[str, bytes]):
    given = [SimpleUploadedFile(name, data) for name, data in files]
    form = {"chatbot": str(shop.chatbot_id), "files_given": given}
    return client.post(reverse("admin:cascade_upload_add"), form)


def test_files_are_taken_in_and_read_in_the_background(shop, alice):
    assert send(alice, shop, ("a.md", b"# A\n\nText."), ("b.txt", b"Text.")).status_code == 302
    with in_tenant(shop.tenant_id):
        assert {upload.name for upload in Upload.objects.all()} == {"a.md", "b.txt"}
    assert [job.task_name for job in ProcrastinateJob.objects.all()] == ["chatbackend.tasks.read_uploads"]
    assert "0 of 1" in page(alice, "upload_changelist")


def test_a_file_of_no_use_is_refused_by_name_and_none_is_taken(shop, alice):
    answer = send(alice, shop, ("good.md", b"Text."), ("setup.exe", b"MZ"), ("empty.md", b""))
    told = html.unescape(answer.content.decode())
    assert "setup.exe is neither Markdown" in told
    with in_tenant(shop.tenant_id):
        assert not Upload.objects.exists()


def test_an_upload_without_a_file_is_asked_for_one(shop, alice):
    assert "choose at least one file" in send(alice, shop).content.decode()


def test_the_articles_page_tells_how_far_the_index_is(shop, alice):
    assert "0 of 1 articles are made ready" in page(alice, "article_changelist")
    index(shop)
    told = page(alice, "article_changelist")
    assert "all 1 articles are searched as they are now" in told
    write(shop, "returns", "Returns", "Changed.")
    assert "0 of 1 articles are made ready; until all are, the index before serves" in page(alice, "article_changelist")


def test_an_article_that_is_written_is_indexed_next_and_shows_its_passages(shop, alice):
    form = {"chatbot": str(shop.chatbot_id), "slug": "gift", "title": "Gift cards", "body": "Valid for 3 years."}
    assert alice.post(reverse("admin:cascade_article_add"), form).status_code == 302
    assert [job.task_name for job in ProcrastinateJob.objects.all()] == ["chatbackend.tasks.index_knowledge"]
    index(shop)
    with in_tenant(shop.tenant_id):
        article = Article.objects.get(slug="gift")
    assert page(alice, "article_change", article.id).count("Valid for 3 years.") >= 2


def test_a_deleted_article_makes_another_version_of_the_knowledge(shop, alice):
    with in_tenant(shop.tenant_id):
        article = Article.objects.get()
    alice.post(reverse("admin:cascade_article_delete", args=[article.id]), {"post": "yes"})
    with in_tenant(shop.tenant_id):
        assert Chatbot.objects.get().knowledge_version == 1


def test_a_gap_becomes_an_article_with_one_click(shop, alice):
    ask(shop, "do you repair <old> lamps & chairs?", 0.1)
    told = page(alice, "lookup_changelist")
    assert "asked 1 time" in told
    assert "<old>" in told  # unescaped by us: as it was asked
    raw = alice.get(reverse("admin:cascade_lookup_changelist")).content.decode()
    assert "<old>" not in raw
    link = raw.split('href="' + reverse("admin:cascade_article_add"))[1].split('"')[0]
    form = alice.get(reverse("admin:cascade_article_add") + html.unescape(link)).content.decode()
    assert 'value="Do you repair &lt;old&gt; lamps &amp; chairs?"' in form
    assert "Customers ask:" in form


# --- saved replies ---------------------------------------------------------------------------------


def reply_form(shop, text: str) -> dict[str, str]:
    return {
        "chatbot": str(shop.chatbot_id), "name": "Where", "text": text, "state": "approved",
        "examples-TOTAL_FORMS": "1", "examples-INITIAL_FORMS": "0", "examples-0-text": "Where is my order?",
    }  # fmt: skip


def test_a_saved_reply_is_written_and_previewed_for_a_customer(shop, alice):
    text = "Hello {{ customer.name }}, your {{ order.item }} is {{ order.status }}."
    assert alice.post(reverse("admin:cascade_savedreply_add"), reply_form(shop, text)).status_code == 302
    with in_tenant(shop.tenant_id):
        reply = SavedReply.objects.get()
        assert [(each.text, each.tenant_id) for each in ExampleQuestion.objects.all()] == [
            ("Where is my order?", shop.tenant_id)
        ]
    shop.caller("c1")
    shop.caller("c2", ORDER | {"status": ""})
    told = page(alice, "savedreply_change", reply.id, customer="c1")
    assert "Hello Customer c1, your desk lamp is shipped." in told
    assert "{{ order.status }} has no plain value" in page(alice, "savedreply_change", reply.id, customer="c2")
    assert "there is no customer c9" in page(alice, "savedreply_change", reply.id, customer="c9")


def test_a_placeholder_that_is_none_is_refused_with_what_is_wrong(shop, alice):
    answer = alice.post(reverse("admin:cascade_savedreply_add"), reply_form(shop, "It is {{ order.status|upper }}."))
    assert "is no placeholder" in html.unescape(answer.content.decode())
    with in_tenant(shop.tenant_id):
        assert not SavedReply.objects.exists()
