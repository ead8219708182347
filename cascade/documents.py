"""A file that somebody uploads, as an article: Markdown, HTML, PDF or plain text; else refused with a reason.

Nothing in a file is ever run, fetched or trusted: of HTML the text stays, of a PDF the text of its pages. PDFs are read
by a process of their own with little memory and little time (`python -m cascade.documents`), because their readers can
be made to loop.
"""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pypdf import PdfReader
from pypdf.errors import PyPdfError
from selectolax.lexbor import LexborHTMLParser

MOST_BYTES = 20 * 1024 * 1024  # of a file
MOST_TEXT_BYTES = 2 * 1024 * 1024  # of a file that is text already
MOST_PAGES = 300  # of a PDF
MOST_CHARACTERS = 400_000  # of what is read from a file
MOST_FILES = 10_000  # of an archive
MOST_UNPACKED_BYTES = 200 * 1024 * 1024  # of an archive, all its files together
PDF_SECONDS = 30
PDF_MEMORY = 1024**3  # bytes
PART_CHARACTERS = 18_000  # of an article; a longer document becomes several

KINDS = {
    ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".pdf": "pdf", ".txt": "text",
}  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_UNSEEN = "script, style, template, noscript, iframe, object, embed, svg, math, canvas, form, nav, head"
_BLOCKS = "p, div, section, article, li, ul, ol, table, tr, blockquote, pre, br, hr, dt, dd, main, header, footer"
_HEADINGS = "h1, h2, h3, h4, h5, h6"


class Unreadable(ValueError):
    """No article can be made of the file; the message says why, in words for whoever uploaded it."""


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    body: str  # Markdown or plain text

    def parts(self) -> list[Document]:
        """One article, or several whose titles are numbered."""
        pieces = list(_pieces(self.body))
        if len(pieces) == 1:
            return [self]
        return [Document(f"{self.title[:180]} ({number})", piece) for number, piece in enumerate(pieces, start=1)]


def read(name: str, data: bytes) -> Document:
    """Raises Unreadable."""
    kind = KINDS.get(PurePosixPath(name).suffix.lower())
    if kind is None:
        raise Unreadable("is neither Markdown (.md), HTML (.html), PDF (.pdf) nor plain text (.txt)")
    most = MOST_BYTES if kind == "pdf" else MOST_TEXT_BYTES
    if len(data) > most:
        raise Unreadable(f"is larger than {most // 1024**2} MB")
    if kind == "pdf":
        title, body = _pdf(data)
    else:
        text = _text(data)
        title, body = _html(text) if kind == "html" else _markdown(text) if kind == "markdown" else ("", text)
    body = body.strip()
    if not body:
        raise Unreadable("has no text" + (": its pages may be pictures" if kind == "pdf" else ""))
    if len(body) > MOST_CHARACTERS:
        raise Unreadable(f"has more than {MOST_CHARACTERS:,} characters of text")
    return Document(" ".join(title.split())[:200] or _title_of(name), body)


def archived(data: bytes) -> Iterator[tuple[str, bytes | Unreadable]]:
    """The files of a ZIP archive, in its order, each with what it holds or why that cannot be had.

    Raises Unreadable when it is no archive, or holds too much.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError) as problem:
        raise Unreadable("is not a ZIP archive") from problem
    files = _files(archive)
    if len(files) > MOST_FILES:
        raise Unreadable(f"holds more than {MOST_FILES:,} files")
    if sum(each.file_size for each in files) > MOST_UNPACKED_BYTES:
        raise Unreadable(f"holds more than {MOST_UNPACKED_BYTES // 1024**2} MB")
    for each in files:
        yield each.filename, _member(archive, each)


def count_archived(data: bytes) -> int:
    """How many files an archive holds; 0: it cannot be opened."""
    try:
        return len(_files(zipfile.ZipFile(io.BytesIO(data))))
    except (zipfile.BadZipFile, ValueError):
        return 0


def _files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [each for each in archive.infolist() if not each.is_dir() and not _is_litter(each.filename)]


def _member(archive: zipfile.ZipFile, each: zipfile.ZipInfo) -> bytes | Unreadable:
    """At most what the archive says it has: a bomb that says little and holds much ends in its checksum."""
    if each.file_size > MOST_BYTES:
        return Unreadable(f"is larger than {MOST_BYTES // 1024**2} MB")
    try:
        with archive.open(each) as member:
            return member.read(each.file_size + 1)
    # RuntimeError: it wants a password, or is packed in a way that zipfile does not know.
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError):
        return Unreadable("cannot be unpacked: it is damaged or encrypted")


def _is_litter(name: str) -> bool:
    """What archivers add by themselves."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _title_of(name: str) -> str:
    return PurePosixPath(name).stem.replace("-", " ").replace("_", " ").strip()[:200].capitalize() or "Untitled"


# --- what is text already -------------------------------------------------------------------------


def _text(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise Unreadable("is not text in UTF-8") from problem
    if "\0" in text or len(_CONTROLS.findall(text)) > len(text) // 100:
        raise Unreadable("is not text: it has control characters")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")


def _markdown(text: str) -> tuple[str, str]:
    """A first line that is a heading of the first level is the title."""
    first, _, rest = text.lstrip().partition("\n")
    return (first[2:].strip(), rest) if first.startswith("# ") and rest.strip() else ("", text)


def _html(text: str) -> tuple[str, str]:
    tree = LexborHTMLParser(text)
    title = next((node.text() for query in ("h1", "title") for node in tree.css(query) if node.text().strip()), "")
    for node in tree.css(_UNSEEN):
        node.decompose()
    for node in tree.css("h1"):
        if node.text().strip() == title.strip():
            node.decompose()
    for node in tree.css(_HEADINGS):
        node.insert_before("\n\n## ")
        node.insert_after("\n\n")
    for node in tree.css(_BLOCKS):
        node.insert_before("\n\n" if node.tag in ("p", "div", "section", "article", "table") else "\n")
        node.insert_after("\n")
    told = tree.body.text(deep=True, separator="") if tree.body else ""
    lines = [" ".join(line.split()) for line in told.split("\n")]
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return title, "\n".join(kept)


# --- PDF, in a process of its own -------------------------------------------------------------------


def _pdf(data: bytes) -> tuple[str, str]:
    if b"%PDF-" not in data[:1024]:
        raise Unreadable("is not a PDF")
    command = [sys.executable, "-m", "cascade.documents"]
    try:
        done = subprocess.run(  # noqa: S603  (ourselves)
            command, input=data, capture_output=True, timeout=PDF_SECONDS, cwd=Path(__file__).parents[1], check=False
        )
    except subprocess.TimeoutExpired as problem:
        raise Unreadable(f"took longer than {PDF_SECONDS} s to read") from problem
    verdict, title, body = [*done.stdout.decode("utf-8", "replace").split("\0", 2), "", ""][:3]
    if done.returncode or verdict != "read":
        raise Unreadable(title if verdict == "refused" else "is a damaged PDF")
    return title, body


def _within_limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (PDF_MEMORY, PDF_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PDF_SECONDS, PDF_SECONDS))


def _pages(data: bytes) -> tuple[str, str]:
    """Title and text. Raises Unreadable."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise Unreadable("is encrypted: save it without a password")
        if len(reader.pages) > MOST_PAGES:
            raise Unreadable(f"has more than {MOST_PAGES} pages")
        pages, length = list[str](), 0
        for page in reader.pages:
            pages.append(page.extract_text())
            length += len(pages[-1])
            if length > MOST_CHARACTERS:
                raise Unreadable(f"has more than {MOST_CHARACTERS:,} characters of text")
        title = str((reader.metadata and reader.metadata.title) or "")
    except Unreadable:
        raise
    except (PyPdfError, ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as problem:
        raise Unreadable("is a damaged PDF") from problem
    return title.replace("\0", ""), "\n\n".join(pages).replace("\0", "")


def main() -> None:
    """A PDF on standard input; "read", title and text on standard output, or "refused" and why, parted by NUL."""
    _within_limits()
    try:
        told = ["read", *_pages(sys.stdin.buffer.read())]
    except Unreadable as problem:
        told = ["refused", str(problem)]
    sys.stdout.buffer.write("\0".join(told).encode("utf-8", "replace"))


def _pieces(body: str) -> Iterator[str]:
    """Runs of paragraphs that fit into an article; where there are none, of characters."""
    run = ""
    for paragraph in body.split("\n\n"):
        for at in range(0, max(len(paragraph), 1), PART_CHARACTERS):
            piece = paragraph[at : at + PART_CHARACTERS]
            if run and len(run) + len(piece) + 2 > PART_CHARACTERS:
                yield run
                run = ""
            run = f"{run}\n\n{piece}" if run else piece
    if run:
        yield run


if __name__ == "__main__":
    main()
