"""What loops or has no words is not scored; what a shop's customers and models write is."""

import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.scorer.legible import LONGEST_WORD, SHORT, legible, read_whole
from tests.cascade.scorer_cast import PAIRS

LINK = "https://shop.example/" + "".join(sha256(bytes([n])).hexdigest() for n in range(6))
ORDERS = "\n".join(f"- Order W{1000 + 7 * n}: Lamp {n}, ${20 + n}.00, shipped on March {n + 1}" for n in range(28))


@pytest.mark.parametrize("text", ["", "Yes, yes, yes!", ORDERS, LINK])
def test_what_people_and_models_write_is_legible(text):
    assert legible(text)
    assert all(legible(pair.question) and legible(pair.answer) for pair in PAIRS)


@pytest.mark.parametrize("phrase", ["x", "7", "\ud800", "yes ", "1/1 ", "Your order is on its way. "])
def test_one_thing_over_and_over_is_not(phrase):
    assert not legible(phrase * (4_000 // len(phrase)))


@given(st.text(st.characters(exclude_categories=("Z", "Cc")), min_size=LONGEST_WORD + 1, max_size=LONGEST_WORD + 50))
def test_what_has_no_blanks_is_not(text):
    assert not legible(text)


@pytest.mark.parametrize("line", ["- Pebble bedside lamp\n", "Yes.\n\n"])
def test_a_model_that_says_one_line_again_and_again_is_not_legible_however_short(line):
    assert legible("They are:\n" + 4 * line)
    assert not legible("They are:\n" + 5 * line)


@given(st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp")), max_size=SHORT // 4))
def test_what_is_short_and_of_one_line_is_legible_whatever_it_says(text):
    assert legible(text)


def test_looking_at_64_kib_takes_no_time():
    began = time.process_time()
    for sign in ("x", "x ", "\n", "\ud800"):
        legible(sign * 65_536)
    assert time.process_time() - began < 0.05


def test_what_would_be_cut_is_not_read_whole():
    assert read_whole("x " * 4_000)
    assert not read_whole("x " * 4_001)
