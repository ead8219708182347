"""What can be counted in a question and an answer, by whoever reads those two alone.

SIGNS names the numbers of `signs`, ASKED those of `asked`. None of them is about one source of questions: length,
sums that do not add up, hedges, how the final answer looks and where it comes from.
"""

from __future__ import annotations

import re

from cascade.learning.finals import words

SUM = re.compile(
    r"(?<![\d.)/*^])(\d[\d,]*\.?\d*)\s*([-+*/×÷x]|\\times|\\cdot|\\div)\s*(\d[\d,]*\.?\d*)\s*=\s*\$?(-?\d[\d,]*\.?\d*)(?![\d/*^])"
)
HEDGE = re.compile(
    r"\b(?:however|but|wait|approximately|about|roughly|unclear|unknown|sorry|cannot|can't|unable|may|might|possibly|"
    r"likely|not sure|no information|as of|depends|assum\w+|none of|closest|correct(?:ion)?|mistake|re-?check)\b",
    re.I,
)
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) sorry|i cannot|i can't|i don't (?:know|have)|as an ai|unable to|no answer|not possible)\b", re.I
)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
OPTION = re.compile(r"^\(([A-J])\)\s*(.*)$", re.M)
PROPER = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]+")
YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
BEGINNINGS = ("who", "when", "where", "what", "which", "how", "why", "write", "is", "give", "can")

ASKED = ("q_chars", "q_words", "q_lines", "q_numbers", "q_options", "q_proper", "q_latex", "q_code", "q_begins")
SIGNS = (
    "chars", "words", "lines", "numbers", "per_question", "sums", "wrong_sums", "hedges", "refuses", "latex", "bullets",
    "proper", "years", "shared", "ends_whole", "final", "final_chars", "final_is_number", "final_size",
    "final_is_whole", "final_negative", "final_in_question", "final_in_text", "letter", "letter_text_used",
    "letter_text_words",
)  # fmt: skip


def asked(question: str) -> list[float]:
    """One number for each of ASKED."""
    said = words(question)
    begins = next((place for place, word in enumerate(BEGINNINGS) if word in said[:4]), len(BEGINNINGS))
    counts = (len(NUMBER.findall(question)), len(OPTION.findall(question)), len(PROPER.findall(question)))
    marks = (question.count("\\") + question.count("$"), question.count("def ") + question.count("return"))
    return [
        float(len(question)),
        float(len(said)),
        float(question.count("\n")),
        *map(float, counts),
        *map(float, marks),
        float(begins),
    ]


def signs(question: str, answer: str, final: str | None) -> list[float]:
    """One number for each of SIGNS; not a number where there is nothing to count."""
    said, heard = words(answer), set(words(question))
    sums = [_holds(*found) for found in SUM.findall(answer)]
    body = [
        len(answer), len(said), answer.count("\n"), len(NUMBER.findall(answer)), len(answer) / (len(question) + 1),
        len(sums), sums.count(False), len(HEDGE.findall(answer)), len(REFUSAL.findall(answer)),
        answer.count("\\") + answer.count("$"), len(re.findall(r"^\s*(?:[-*•]|\d+[.)])", answer, re.M)),
        len(PROPER.findall(answer)), len(YEAR.findall(answer)), sum(word in heard for word in said) / (len(said) + 1),
        answer.rstrip()[-1:] in set('.!?}`)"'),
    ]  # fmt: skip
    return [*map(float, body), *_of_final(question, answer, final)]


def _of_final(question: str, answer: str, final: str | None) -> list[float]:
    nan = float("nan")
    if final is None:
        return [0.0] + [nan] * 10
    value = _value(final)
    options = {letter.lower(): text for letter, text in OPTION.findall(question)}
    chosen = options.get(final)
    return [
        1.0,
        float(len(final)),
        float(value is not None),
        nan if value is None else min(abs(value), 1e9),
        nan if value is None else float(value == int(value)),
        nan if value is None else float(value < 0),
        float(final in question),
        float(answer.lower().count(final)),
        nan if chosen is None else float(ord(final) - ord("a")),
        nan if chosen is None else float(chosen.lower() in answer.lower()),
        nan if chosen is None else float(len(words(chosen))),
    ]


def _value(final: str) -> float | None:
    try:
        value = float(final)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None


def _holds(a: str, sign: str, b: str, c: str) -> bool:
    """Whether the sum that is written out is right, to one part in a hundred."""
    x, y, z = (float(each.replace(",", "").rstrip(".") or 0) for each in (a, b, c))
    if sign in "/÷" or sign == "\\div":
        return y != 0 and abs(x / y - z) <= 0.01 * max(1.0, abs(z))
    exact = x + y if sign == "+" else x - y if sign == "-" else x * y
    return abs(exact - z) <= 0.01 * max(1.0, abs(z))
