"""A finished export as an HTTP answer that can be resumed: the file never changes, so its parts fit together."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from accounts.export_formats import ENDINGS
from accounts.export_jobs import download_name, file_of
from accounts.models import Export

PIECE = 256 * 1024  # bytes read at a time
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
# One range from a place on; others are answered with everything, as they may be.
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def download(request: HttpRequest, export: Export) -> HttpResponseBase:
    """The file, or the part that `Range` names, if `If-Range` still fits. Raises `accounts.export_jobs.NoFile`.

    Streamed where Django serves asynchronously, as here it does.
    """
    file, etag = file_of(export), f'"{export.manifest["sha256"]}"'  # type: ignore[index]  # a file has a manifest
    size = file.stat().st_size
    wanted = RANGE.fullmatch(request.headers.get("Range", ""))
    if request.headers.get("If-Range", etag) != etag:
        wanted = None
    first = int(wanted[1]) if wanted else 0
    last = min(int(wanted[2]), size - 1) if wanted and wanted[2] else size - 1
    if wanted and first > last:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{download_name(export)}"',
        "Content-Length": str(last - first + 1),
        "Content-Type": TYPES[ENDINGS[export.format]],
        "ETag": etag,
    }
    if wanted:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return StreamingHttpResponse(_bytes(file, first, last), status=206 if wanted else 200, headers=headers)


def manifest(export: Export) -> HttpResponse:
    """Beside the file. Raises `accounts.export_jobs.NoFile`."""
    file_of(export)
    name = f"{download_name(export)}.manifest.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(json.dumps(export.manifest, indent=2) + "\n", content_type="application/json", headers=headers)


async def _bytes(file: Path, first: int, last: int) -> AsyncIterator[bytes]:
    source = await asyncio.to_thread(file.open, "rb")
    try:
        await asyncio.to_thread(source.seek, first)
        left = last - first + 1
        while left and (piece := await asyncio.to_thread(source.read, min(PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        source.close()
