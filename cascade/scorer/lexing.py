"""Words, amounts, dates, times and ids of any text in one canonical form, in linear time.

The same lexer reads answers, questions, records and passages, so that "$1,200.00", "1200" and "1200.0",
or "March 8th", "2026-03-08" and "tomorrow" meet in one value. It knows nothing of records or scoring.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import NamedTuple

MOST_LEXEMES = 1_500  # of any one text
KINDS = ("id", "email", "money", "date", "time", "number", "name")  # of facts, the most telling first
LONGEST_TEXT = 8_000  # characters read of any one text; more is cut out of its middle
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_PATTERN = re.compile(
    r"(?P<email>[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,24}){1,4})"
    r"|(?P<iso>\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)?)"
    r"|(?P<slashed>\b\d{1,2}/\d{1,2}/(?:\d{4}|\d\d)\b)"
    rf"|(?P<month_day>\b{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?)"
    rf"|(?P<day_month>\b\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}\b(?:,? \d{{4}}\b)?)"
    r"|(?P<time>\b(?:noon|midnight)\b|\b\d{1,2}:\d\d(?::\d\d)?(?: ?[ap]\.?m\b)?|\b\d{1,2} ?[ap]\.?m\b)"
    r"|(?P<money>[$€£] ?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,4})?)"
    r"|(?P<phone>\+?\d{0,3}[ -]?\(?\d{3}\)?[ -]\d{3}-\d{4}\b)"
    rf"|(?P<day>\bday after tomorrow\b|\b(?:tomorrow|today|tonight|yesterday)\b"
    rf"|\b(?:this |next |coming )?(?:{'|'.join(_DAYS)})\b|\b\d{{1,2}}(?:st|nd|rd|th) of this month\b)"
    r"|(?P<number>(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,6})?(?:st|nd|rd|th)?(?!\w))"
    r"|(?P<word>#?\w{1,64}(?:['’]\w{1,8})?)"
    r"|(?P<stop>[.,;:?!%]|\n)",
    re.IGNORECASE,
)
_ENDING = re.compile(r"['’]s?$")  # of the possessive
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS.split()) if word != "one"}  # "this one"


class Lexeme(NamedTuple):
    """One word, fact or stop. `value` is what is compared, `shown` how it reads."""

    kind: str  # word, name, number, money, date, time, id, email, stop
    value: str
    shown: str
    span: tuple[int, int] = (0, 0)  # of the cleaned text


def clean(text: str) -> str:
    """Any string as printable, normalised text of bounded length; lone surrogates become "?"."""
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 2_000] + " " + text[-2_000:]
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    return text[: 2 * LONGEST_TEXT].replace("_", " ").replace("**", "").replace("’", "'")


def lex(text: str, now: datetime) -> list[Lexeme]:
    """Read a text. `now` gives relative days ("tomorrow") their date."""
    found: list[Lexeme] = []
    today = now.date()
    for match in _PATTERN.finditer(clean(text)):
        kind, value, shown, _ = _READERS[match.lastgroup or "word"](match.group(), today)
        if kind == "stop" and found and found[-1].kind == "stop" and value in "\n,;":
            continue
        found.append(Lexeme(kind, value, shown, match.span()))
        if len(found) == MOST_LEXEMES:
            break
    return found


def kind_of(run: Iterable[Lexeme]) -> str:
    """The most telling kind in a run."""
    kinds = {lexeme.kind for lexeme in run}
    return next((kind for kind in KINDS if kind in kinds), "name")


def day_lexeme(day: date) -> Lexeme:
    return Lexeme("date", f"{day:%m-%d}", f"{_MONTHS[day.month - 1]} {day.day}")


def _email(text: str, today: date) -> Lexeme:
    return Lexeme("email", text.lower().rstrip("."), "email")


def _iso(text: str, today: date) -> Lexeme:
    return _calendar(int(text[5:7]), int(text[8:10]), text)


def _slashed(text: str, today: date) -> Lexeme:
    month, day = (int(part) for part in text.split("/")[:2])
    return _calendar(month, day, text)


def _named_month(text: str, today: date) -> Lexeme:
    month = next(i for i, name in enumerate(_MONTHS) if re.search(rf"\b{name}", text.lower())) + 1
    return _calendar(month, int(re.findall(r"\d{1,2}", text)[0]), text)


def _calendar(month: int, day: int, text: str) -> Lexeme:
    try:
        return day_lexeme(date(2000, month, day))  # a leap year: only month and day are compared
    except ValueError:
        return Lexeme("number", text.lower(), "number")


def _relative_day(text: str, today: date) -> Lexeme:
    words = text.lower().split()
    shifts = {"today": 0, "tonight": 0, "tomorrow": 1, "yesterday": -1}
    if words[-1] == "month":
        return _calendar(today.month, int(re.sub(r"\D", "", words[0])), text)
    if words[0] == "day":
        return day_lexeme(today + timedelta(2))
    if words[0] in shifts:
        return day_lexeme(today + timedelta(shifts[words[0]]))
    ahead = (_DAYS.index(words[-1]) - today.weekday()) % 7
    return day_lexeme(today + timedelta(ahead or 7))


def _time(text: str, today: date) -> Lexeme:
    text = {"noon": "12:00", "midnight": "00:00"}.get(text.lower(), text)
    digits = [int(d) for d in re.findall(r"\d+", text)]
    hour, minute = digits[0], digits[1] if len(digits) > 1 else 0
    half = re.search(r"[ap]", text.lower())
    if half:
        hour = hour % 12 + (12 if half.group() == "p" else 0)
    return Lexeme("time", f"{hour:02}:{minute:02}", f"{hour:02}:{minute:02}")


def _amount(text: str) -> str:
    digits = re.sub(r"[^\d.]", "", text).strip(".")
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits).lstrip("0") or "0"


def _money(text: str, today: date) -> Lexeme:
    amount = _amount(text)
    return Lexeme("money", amount, f"$ {amount}")


def _phone(text: str, today: date) -> Lexeme:
    return Lexeme("id", re.sub(r"\D", "", text)[-10:], "phone")


def _number(text: str, today: date) -> Lexeme:
    amount = _amount(text)
    if len(amount.replace(".", "")) >= 6 and "." not in amount:
        return Lexeme("id", amount, "id")
    if text[-1].isalpha():  # "the 3rd": of what is not known
        return Lexeme("word", amount, text.lower())
    return Lexeme("number", amount, amount)


def _word(text: str, today: date) -> Lexeme:
    word = _ENDING.sub("", text.lstrip("#")) or text
    lower = word.lower()
    if lower in _NUMBER_WORDS:
        return Lexeme("number", _NUMBER_WORDS[lower], _NUMBER_WORDS[lower])
    if not word.isalpha() and any(c.isdigit() for c in word) and (len(word) >= 5 or word.isupper()):
        return Lexeme("id", lower, "id")
    stem = lower[:-1] if len(lower) > 3 and lower.endswith("s") and not lower.endswith("ss") else lower
    return Lexeme("name" if word[:1].isupper() else "word", stem, lower)


def _stop(text: str, today: date) -> Lexeme:
    return Lexeme("stop", text, ";" if text == "\n" else text)


_READERS = {
    "email": _email,
    "iso": _iso,
    "slashed": _slashed,
    "month_day": _named_month,
    "day_month": _named_month,
    "time": _time,
    "money": _money,
    "phone": _phone,
    "day": _relative_day,
    "number": _number,
    "word": _word,
    "stop": _stop,
}
