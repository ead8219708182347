"""Text from strangers made fit for a prompt: cleaned, measured, shortened.

Nothing here knows of prompts or records (`cascade.context`, `cascade.facts`). Every function takes time linear in
its input.
"""

from __future__ import annotations

import re
from itertools import pairwise

import regex

# The commonest English letter pairs (19 of 20), by first letter. Another seldom lies inside one vocabulary piece.
_PAIRS = {
    "a": "bcdghiklmnprstvy", "b": "aeilou", "c": "acehiklot", "d": "adeior", "e": "acdeflmnprstvwx",
    "f": "efilortu", "g": "aehio", "h": "aeiot", "i": "acdefgklnoprstv", "k": "ein", "l": "adeilopsy",
    "m": "aeiopy", "n": "acdefgikosty", "o": "cdfklmnoprstuw", "p": "aehlmoprt", "q": "u",
    "r": "acdeimnorstvy", "s": "aehiostu", "t": "aehilorsuy", "u": "celmnprst", "v": "aei", "w": "aehio",
    "x": "c", "y": "emo",
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ASCII_LETTERS = (_LETTERS + _LETTERS.upper()).encode()
_BREAKS = {(a, b) for a in _LETTERS + _LETTERS.upper() for b in _LETTERS if b not in _PAIRS.get(a.lower(), "")}
_BREAKS |= {(a, b) for a in _LETTERS + _LETTERS.upper() for b in _LETTERS.upper()}
_LONGEST_TOKEN = 5  # characters: four letters and the free space before them
_PIECE = re.compile(r"[A-Za-z]{1,4}")
_FREE_SPACE = re.compile(r" (?=[A-Za-z])")

_UNSEEN = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)"  # a flag written in tags: kept
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# What chat templates write between messages (`<|im_end|>`, `</s>`, `<end_of_turn>`, `[/INST]`), and our own delimiters.
_MARK = re.compile(
    r"<(?=[|｜]|/?s>|/?(?:start|end)_of_turn|/?(?:bos|eos|pad|unk)>|(?i:[\s/]*(?:customer|articles|earlier)\b))"
    r"|\[(?=/?(?:INST|SYS)\])"
)


def tokens_at_most(text: str) -> int:
    """An estimate from above of the tokens of `text`, for any model. Over lines it adds up.

    A word costs one token for each four letters begun, one more before each capital inside and between each uncommon
    pair of letters; a space before a word is free; every other UTF-8 byte costs one. Measured, not proven
    (docs/context.md).
    """
    encoded = text.encode("utf-8", "surrogatepass")
    words = len(_PIECE.findall(text)) + sum(map(_BREAKS.__contains__, pairwise(text)))
    return words + len(encoded.translate(None, _ASCII_LETTERS)) - len(_FREE_SPACE.findall(text))


def fits(text: str, tokens: int) -> bool:
    """Whether `text` has at most `tokens` tokens; looks no further than it must."""
    return len(text) <= _LONGEST_TOKEN * tokens and tokens_at_most(text) <= tokens


def clean(text: str) -> str:
    """A person's own words without what they cannot see or a chat template would obey.

    Emoji, joiners and right-to-left scripts stay; control characters, direction overrides and hidden tags go; half a
    surrogate pair becomes U+FFFD; the marks of chat templates and our own delimiters are broken.
    """
    seen = _UNSEEN.sub(lambda match: match[1] or "", _LONE_SURROGATE.sub("\ufffd", text))
    return _MARK.sub(lambda match: "‹" if match[0] == "<" else "⟦", seen)


def as_material(text: str) -> str:
    """Text that stands between delimiters: cleaned, and unable to open or close one."""
    return clean(text).replace("<", "‹")


def shorten(text: str, tokens: int) -> str:
    """The longest beginning that ends between two user-perceived characters and has at most `tokens` tokens, with an
    ellipsis where something was left out; "" where not even that fits."""
    if fits(text, tokens):
        return text
    head = text[: _LONGEST_TOKEN * max(tokens, 0)]
    ends = [match.end() for match in regex.finditer(r"\X", head)]
    if len(head) < len(text):
        del ends[-1:]  # the last one may have been cut in two
    low, high = 0, len(ends)
    while low < high:  # the longest that fits
        middle = (low + high + 1) // 2
        if tokens_at_most(text[: ends[middle - 1]] + "…") <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[: ends[low - 1]].rstrip() + "…" if low else ""
