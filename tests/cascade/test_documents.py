"""What people upload becomes an article, or is refused with a reason; nothing in a file is ever run."""

from __future__ import annotations

import io
import zipfile

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from cascade import documents
from cascade.documents import Document, Unreadable, archived, read


def pdf(*pages: str, password: str = "") -> bytes:
    writer = PdfWriter()
    font = {"/Type": NameObject("/Font"), "/Subtype": NameObject("/Type1"), "/BaseFont": NameObject("/Helvetica")}
    fonts = dictionary({"/Font": dictionary({"/F1": dictionary(font)})})
    for text in pages:
        page = writer.add_blank_page(300, 300)
        page[NameObject("/Resources")] = fonts
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    if password:
        writer.encrypt(password)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def dictionary(told: dict) -> DictionaryObject:
    return DictionaryObject({NameObject(key): value for key, value in told.items()})


def refused(name: str, data: bytes) -> str:
    with pytest.raises(Unreadable) as problem:
        read(name, data)
    return str(problem.value)


def test_markdown_keeps_its_headings_and_gives_its_first_one_as_the_title():
    told = read("returns.md", b"# Returns\n\nFree for 30 days.\n\n## How\n\nPrint the label.")
    assert told == Document("Returns", "Free for 30 days.\n\n## How\n\nPrint the label.")


def test_plain_text_is_titled_by_the_file():
    assert read("gift_cards.txt", "Gültig für 3 Jahre.".encode()) == Document("Gift cards", "Gültig für 3 Jahre.")


def test_html_is_read_as_text_and_its_scripts_and_styles_are_gone():
    page = """<!doctype html><html><head><title>Shop</title><style>p {color: red}</style></head><body onload="evil()">
    <h1>Returns</h1><script>alert("evil")</script><p>Free for <b>30</b> days.</p><svg><script>evil()</script></svg>
    <h2>How</h2><ul><li>Print</li><li>Post</li></ul><iframe src="javascript:evil()"></iframe>
    <img src=x onerror="evil()"><noscript>evil</noscript><a href="javascript:evil()">Ask us</a></body></html>"""
    told = read("returns.html", page.encode())
    assert told.title == "Returns"
    assert "Free for 30 days." in told.body
    assert "## How" in told.body
    assert "evil" not in told.body
    assert "red" not in told.body


def test_the_pages_of_a_pdf_are_read():
    told = read("terms.pdf", pdf("Returns are free.", "Gift cards last 3 years."))
    assert told.body.split() == ["Returns", "are", "free.", "Gift", "cards", "last", "3", "years."]


def test_a_pdf_that_is_none_is_refused():
    assert refused("terms.pdf", b"Dear customer, ...") == "is not a PDF"
    assert refused("terms.pdf", b"%PDF-1.7\nthe rest is missing") == "is a damaged PDF"


def test_an_encrypted_pdf_is_refused():
    assert "encrypted" in refused("terms.pdf", pdf("Secret.", password="hunter2"))


def test_a_pdf_of_pictures_and_one_of_very_many_pages_are_refused():
    assert "pictures" in refused("scan.pdf", pdf(""))
    assert "more than 300 pages" in refused("book.pdf", pdf(*["x"] * 301))


def test_a_pdf_that_would_never_end_is_given_up(monkeypatch):
    monkeypatch.setattr(documents, "PDF_SECONDS", 0.01)
    assert "took longer" in refused("slow.pdf", pdf("Never."))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\xff\xd8", b"PK\x03\x04" + bytes(range(32)) * 9, bytes(5000)])
def test_a_picture_or_an_archive_that_is_called_markdown_is_refused(data):
    assert refused("article.md", data).startswith("is not text")


@pytest.mark.parametrize(("name", "data"), [("a.txt", b""), ("a.md", b" \n "), ("a.html", b"<script>x()</script>")])
def test_a_file_without_text_is_refused(name, data):
    assert "has no text" in refused(name, data)


def test_an_article_of_one_word_is_an_article():
    assert read("closed.md", b"Closed") == Document("Closed", "Closed")


def test_what_is_of_no_kind_that_we_read_or_too_large_is_refused():
    assert "neither" in refused("setup.exe", b"MZ")
    assert refused("huge.md", b"a" * (documents.MOST_TEXT_BYTES + 1)) == "is larger than 2 MB"
    assert refused("huge.pdf", b"%PDF-" + b"a" * documents.MOST_BYTES) == "is larger than 20 MB"


def test_a_long_document_becomes_several_articles_and_loses_nothing():
    body = "\n\n".join(f"Paragraph {number}. " + "word " * 200 for number in range(60))
    parts = Document("Handbook", body).parts()
    assert [part.title for part in parts[:2]] == ["Handbook (1)", "Handbook (2)"]
    assert all(len(part.body) <= 20_000 for part in parts)
    assert " ".join(part.body for part in parts).split() == body.split()


# --- archives -----------------------------------------------------------------------------------


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_an_archive_gives_its_files_and_not_what_archivers_add():
    data = packed({"help/a.md": b"A", "__MACOSX/help/._a.md": b"x", ".DS_Store": b"x", "b.txt": b"B"})
    assert list(archived(data)) == [("help/a.md", b"A"), ("b.txt", b"B")]


def test_what_is_no_archive_or_unpacks_to_too_much_is_refused(monkeypatch):
    with pytest.raises(Unreadable, match="not a ZIP"):
        list(archived(b"PK but not really"))
    monkeypatch.setattr(documents, "MOST_UNPACKED_BYTES", 1000)
    with pytest.raises(Unreadable, match="holds more than"):
        list(archived(packed({"bomb.txt": bytes(2000)})))
    monkeypatch.setattr(documents, "MOST_FILES", 2)
    with pytest.raises(Unreadable, match="more than 2 files"):
        list(archived(packed({f"{number}.md": b"x" for number in range(3)})))


def test_a_damaged_member_of_an_archive_does_not_spoil_the_others():
    data = packed({"a.md": b"first article" * 50, "b.md": b"second"})
    at = data.index(b"a.md") + 6
    broken = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
    told = dict(archived(broken))
    assert isinstance(told["a.md"], Unreadable)
    assert told["b.md"] == b"second"
