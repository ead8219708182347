"""An article in passages: what is found, put before the models and cited. Plain Python.

A passage is a run of whole paragraphs under one heading, of about `WORDS` words; a paragraph that is longer by itself
is parted between sentences. Short articles, the usual case, are one passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

WORDS = 160  # of a passage, about
MOST_CHARACTERS = 2000  # of a passage, whatever its words

_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


def split(body: str) -> list[str]:
    """The passages of a body, at least one; each begins with the heading that it stands under, if there is one."""
    found = [passage for heading, paragraphs in _sections(body) for passage in _packed(heading, paragraphs)]
    return found or [""]


def _sections(body: str) -> Iterator[tuple[str, list[str]]]:
    """Heading ("" before the first) and paragraphs."""
    heading, lines = "", list[str]()
    for line in body.splitlines():
        if match := _HEADING.match(line):
            yield heading, _paragraphs(lines)
            heading, lines = match[1], []
        else:
            lines.append(line)
    yield heading, _paragraphs(lines)


def _paragraphs(lines: list[str]) -> list[str]:
    return [stripped for part in _PARAGRAPHS.split("\n".join(lines)) if (stripped := part.strip())]


def _packed(heading: str, paragraphs: list[str]) -> Iterator[str]:
    run: list[str] = []
    for piece in (piece for paragraph in paragraphs for piece in _short(paragraph)):
        if run and not _fits("\n\n".join([*run, piece])):
            yield _under(heading, run)
            run = []
        run.append(piece)
    if run:
        yield _under(heading, run)


def _under(heading: str, run: list[str]) -> str:
    return "\n".join([heading, "\n\n".join(run)] if heading else ["\n\n".join(run)])


def _short(paragraph: str) -> Iterator[str]:
    """The paragraph, or runs of its sentences; what has no sentences is cut."""
    if _fits(paragraph):
        yield paragraph
        return
    run = ""
    for sentence in _SENTENCES.split(paragraph):
        for piece in _cut(sentence):
            if run and not _fits(f"{run} {piece}"):
                yield run
                run = ""
            run = f"{run} {piece}".strip()
    if run:
        yield run


def _cut(sentence: str) -> Iterator[str]:
    words = sentence.split()
    for at in range(0, len(words), WORDS):
        piece = " ".join(words[at : at + WORDS])
        yield from (piece[start : start + MOST_CHARACTERS] for start in range(0, len(piece), MOST_CHARACTERS))


def _fits(text: str) -> bool:
    return len(text) <= MOST_CHARACTERS and len(text.split()) <= WORDS
