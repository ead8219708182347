"""Uploaded files become articles in the background, in order; one file's trouble is its own."""

from __future__ import annotations

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.tenancy import in_tenant
from cascade import documents, uploads
from cascade.documents import Unreadable
from cascade.models import Article, Chatbot, Upload
from tests.cascade.test_documents import packed
from tests.cast import open_shop

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def alice():
    return open_shop("alice", "http://127.0.0.1:1")


def upload(shop, name: str, data: bytes) -> Upload:
    with in_tenant(shop.tenant_id):
        taken = uploads.take(Chatbot.objects.get(), name, data)
    uploads.read_waiting(shop.tenant_id, shop.chatbot_id)
    with in_tenant(shop.tenant_id):
        return Upload.objects.get(id=taken.id)


def articles(shop) -> dict[str, str]:
    with in_tenant(shop.tenant_id):
        return dict(Article.objects.exclude(source="").order_by("id").values_list("slug", "body"))


def test_a_file_becomes_an_article_and_is_indexed_next(alice):
    done = upload(alice, "Gift cards.md", b"# Gift cards\n\nValid for 3 years.")
    assert (done.state, done.articles_made, done.content) == ("read", 1, None)
    assert articles(alice) == {"gift-cards": "Valid for 3 years."}
    assert {job.task_name.rsplit(".")[-1] for job in ProcrastinateJob.objects.all()} == {
        "read_uploads",
        "index_knowledge",
    }


def test_a_file_that_is_uploaded_again_takes_the_place_of_what_it_gave_before(alice):
    upload(alice, "handbook.txt", "\n\n".join("word " * 1000 for _ in range(10)).encode())
    assert len(articles(alice)) > 1
    upload(alice, "handbook.txt", b"Short now.")
    assert articles(alice) == {"handbook": "Short now."}


def test_a_file_never_takes_the_place_of_an_article_of_another_origin(alice):
    with in_tenant(alice.tenant_id):
        Article.objects.create(
            tenant_id=alice.tenant_id, chatbot_id=alice.chatbot_id, slug="gift-cards", title="G", body="By hand."
        )
    done = upload(alice, "Gift cards.md", b"From a file.")
    assert (done.state, done.articles_made) == ("refused", 0)
    assert "gift-cards, which was written by hand" in done.problems[0]["problem"]
    assert upload(alice, "a/b.md", b"One.").state == "read"
    assert "was read from a/b.md" in upload(alice, "a-b.txt", b"Other.").problems[0]["problem"]
    assert articles(alice) == {"a-b": "One."}


def test_a_file_of_no_use_is_refused_before_anything_is_kept(alice):
    for name, data in [("a.exe", b"MZ"), ("a.md", b""), ("a.pdf", b"x" * (documents.MOST_BYTES + 1))]:
        with in_tenant(alice.tenant_id), pytest.raises(Unreadable):
            uploads.take(Chatbot.objects.get(), name, data)
    with in_tenant(alice.tenant_id):
        assert not Upload.objects.exists()


def test_a_refused_file_says_why_and_changes_nothing(alice):
    done = upload(alice, "terms.pdf", b"no pdf at all")
    assert (done.state, done.problems) == ("refused", [{"file": "terms.pdf", "problem": "is not a PDF"}])
    assert articles(alice) == {}


def test_bad_files_of_an_archive_do_not_keep_the_good_ones_out(alice):
    files = {"a/returns.md": b"Free.", "b/returns.md": b"Not free.", "logo.png": b"\x89PNG", "x.md": b"\xff\xfe\xff"}
    done = upload(alice, "help.zip", packed(files))
    assert articles(alice) == {"a-returns": "Free.", "b-returns": "Not free."}
    assert (done.state, done.files, done.files_read, done.articles_made) == ("read", 4, 4, 2)
    assert [problem["file"] for problem in done.problems] == ["logo.png", "x.md"]


def test_an_upload_whose_reader_died_is_read_from_its_beginning(alice, monkeypatch):
    with in_tenant(alice.tenant_id):
        uploads.take(Chatbot.objects.get(), "help.zip", packed({f"{n}.md": b"Text" for n in range(120)}))
    keep, kept = uploads._keep, []

    def die(*told):
        kept.append(told)
        if len(kept) == 70:
            raise SystemExit
        keep(*told)

    monkeypatch.setattr(uploads, "_keep", die)
    with pytest.raises(SystemExit):
        uploads.read_waiting(alice.tenant_id, alice.chatbot_id)
    monkeypatch.undo()
    ProcrastinateJob.objects.all()._raw_delete("owner")
    uploads.resume(alice.tenant_id)
    assert ProcrastinateJob.objects.count() == 1
    uploads.read_waiting(alice.tenant_id, alice.chatbot_id)
    assert len(articles(alice)) == 120
    with in_tenant(alice.tenant_id):
        assert [row.state for row in Upload.objects.all()] == ["read"]


def test_a_chatbot_takes_so_many_articles_and_says_when_it_is_full(alice, monkeypatch):
    monkeypatch.setattr(Article, "MOST", 3)
    done = upload(alice, "help.zip", packed({f"{number}.md": b"Text" for number in range(5)}))
    assert (done.articles_made, len(done.problems)) == (2, 3)
    assert "more than 3 articles" in done.problems[0]["problem"]


def test_another_tenant_sees_neither_the_file_nor_its_articles(alice):
    upload(alice, "gift.md", b"Secret.")
    charlie = open_shop("charlie", "http://127.0.0.1:1")
    assert articles(charlie) == {}
    with in_tenant(charlie.tenant_id):
        assert not Upload.objects.exists()
