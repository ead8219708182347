"""Files of articles: taken in at once, read in the background, in order, each file's trouble its own.

The only writer of `Upload`, and of the articles that are read from files. What a file says is `cascade.documents`'
business; a file that is uploaded again takes the place of what was read from it before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from uuid import UUID

from django.db import transaction
from django.utils.text import slugify

from accounts.bounds import TooMany, make_room
from accounts.tenancy import in_tenant
from cascade import documents, knowledge
from cascade.documents import Document, Unreadable
from cascade.models import Article, Chatbot, Upload

MOST_PROBLEMS = 100  # of an upload, that are kept
FILES_AT_ONCE = 50  # of an archive, in one transaction
TASK = "chatbackend.tasks.read_uploads"


def check(name: str, data: bytes) -> None:
    """Raises Unreadable: the file is of no use, whatever else it says."""
    if len(data) > documents.MOST_BYTES:
        raise Unreadable(f"is larger than {documents.MOST_BYTES // 1024**2} MB")
    if not data:
        raise Unreadable("is empty")
    if not _is_archive(name) and PurePosixPath(name).suffix.lower() not in documents.KINDS:
        raise Unreadable("is neither Markdown (.md), HTML (.html), PDF (.pdf), plain text (.txt) nor a ZIP of these")


def take(chatbot: Chatbot, name: str, data: bytes) -> Upload:
    """Keep a file, to be read in the background. Nothing is kept where that is of no use.

    Runs inside `in_tenant`. Raises Unreadable, TooMany.
    """
    check(name, data)
    make_room_for(1)
    upload = Upload.objects.create(
        tenant_id=chatbot.tenant_id,
        chatbot=chatbot,
        name=name[-200:].replace("\0", ""),
        content=data,
        files=documents.count_archived(data) if _is_archive(name) else 1,
    )
    knowledge.deferred(TASK, chatbot)
    return upload


def make_room_for(files: int) -> None:
    """Raises TooMany: so many wait already."""
    make_room(Upload.objects.filter(content__isnull=False), "files that wait to be read", files)


def read_waiting(tenant_id: UUID, chatbot_id: UUID) -> None:
    """Read the chatbot's uploads, oldest first, then have the articles indexed. May die anywhere and be run again."""
    while _read_next(tenant_id, chatbot_id):
        pass
    with in_tenant(tenant_id):
        if chatbot := Chatbot.objects.filter(id=chatbot_id).first():
            knowledge.index_soon(chatbot)


def resume(tenant_id: UUID) -> None:
    """Have uploads read that wait although nobody was told, or whose reader died."""
    with in_tenant(tenant_id):
        for chatbot in Chatbot.objects.filter(uploads__content__isnull=False).distinct():
            knowledge.deferred(TASK, chatbot)


def _read_next(tenant_id: UUID, chatbot_id: UUID) -> bool:
    with in_tenant(tenant_id):
        upload = Upload.objects.filter(chatbot_id=chatbot_id, content__isnull=False).order_by("id").first()
        if upload is None:
            return False
        upload.state = Upload.State.READING
        upload.files_read, upload.articles_made, upload.problems = 0, 0, []
        upload.save()
    try:
        files = _files(upload)
        while batch := [each for _, each in zip(range(FILES_AT_ONCE), files, strict=False)]:
            with in_tenant(tenant_id):
                for name, told in batch:
                    _keep(upload, name, told)
                upload.save(update_fields=["files_read", "articles_made", "problems"])
    except Unreadable as problem:
        upload.problems.append({"file": upload.name, "problem": str(problem)})
    with in_tenant(tenant_id):
        upload.content = None
        upload.state = Upload.State.READ if upload.articles_made else Upload.State.REFUSED
        upload.save()
    return True


def _files(upload: Upload) -> Iterator[tuple[str, Document | Unreadable]]:
    """What each file of the upload says, or why it says nothing. Raises Unreadable: none can be had."""
    data = bytes(upload.content or b"")
    named = documents.archived(data) if _is_archive(upload.name) else iter([(upload.name, data)])
    for name, content in named:
        if isinstance(content, Unreadable):
            yield name, content
            continue
        try:
            yield name, documents.read(name, content)
        except Unreadable as problem:
            yield name, problem


def _keep(upload: Upload, name: str, told: Document | Unreadable) -> None:
    upload.files_read += 1
    try:
        if isinstance(told, Unreadable):
            raise told
        upload.articles_made += write(upload.chatbot, told, source=name[-200:])
    except Unreadable as problem:
        if len(upload.problems) < MOST_PROBLEMS:
            upload.problems.append({"file": name[-200:], "problem": str(problem)})


def write(chatbot: Chatbot, document: Document, *, source: str) -> int:
    """The document as articles of the chatbot, in place of those that `source` gave before; how many.

    Runs inside `in_tenant`. Raises Unreadable: too many articles, or one of another origin has the name.
    """
    stem = slugify(str(PurePosixPath(source).with_suffix("")).replace("/", "-"))[-90:].strip("-") or "article"
    parts = document.parts()
    slugs = [stem] if len(parts) == 1 else [f"{stem}-{number}" for number in range(1, len(parts) + 1)]
    if other := Article.objects.filter(chatbot=chatbot, slug__in=slugs).exclude(source=source).first():
        origin = f"was read from {other.source}" if other.source else "was written by hand or through the API"
        raise Unreadable(
            f"would replace the article {other.slug}, which {origin}: rename the file or delete the article"
        )
    try:
        make_room(chatbot.articles.exclude(slug__in=slugs), more=len(parts))
    except TooMany:
        raise Unreadable(f"would be more than {Article.MOST:,} articles of one chatbot") from None
    with transaction.atomic():
        Article.objects.filter(chatbot=chatbot, source=source).exclude(slug__in=slugs).delete()
        for slug, part in zip(slugs, parts, strict=True):
            Article.objects.update_or_create(
                tenant_id=chatbot.tenant_id,
                chatbot=chatbot,
                slug=slug,
                defaults={"title": part.title, "body": part.body, "source": source},
            )
    return len(parts)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(".zip")
