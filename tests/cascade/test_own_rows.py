"""A tenant's rows: nobody in two parts, wrong answers that are wrong, nothing of one tenant in another's."""

from __future__ import annotations

import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.scorer import own_rows
from cascade.scorer.own_rows import Label
from cascade.scorer.rows import half, read_rows, row_of
from cascade.values import Context
from tests.cascade.judged_turns import NOW, QUESTION, customer_value, said_of


def label(number: int, *, good: bool = True, answer: str = "") -> Label:
    context = Context(customer_value(number), QUESTION, NOW)
    told = answer or said_of(number if good else number + 1)
    return Label(f"t{number}-{good}", f"tenant's {number}", context, told, good, "reply", f"t{number}")


LABELS = [label(number, good=good) for number in range(60) for good in (True, False)]
ROWS = [row_of(columns) for columns in own_rows.rows(LABELS, seed=7)]


def test_no_customer_is_in_two_parts_not_even_as_a_stranger():
    where: dict[str, set[tuple[str, int]]] = {}
    for row in ROWS:
        cell = (row.split, half(row) if row.split == "validation" else 0)
        for who in (row.user_id, row.context.customer.external_id):
            where.setdefault(who, set()).add(cell)
    assert len({cell for cells in where.values() for cell in cells}) == 3
    assert all(len(cells) == 1 for cells in where.values())


def test_a_strangers_copy_says_the_same_words_to_somebody_they_are_wrong_for():
    by_id = {row.id: row for row in ROWS}
    copies = [row for row in ROWS if "/stranger" in row.id]
    assert len(copies) > 100
    for copy in copies:
        origin = by_id[copy.id.split("/")[0]]
        assert (copy.answer, copy.group_id, origin.good, copy.good) == (origin.answer, origin.group_id, True, False)
        held = json.dumps([record.external_id for record in copy.context.customer.records])
        assert copy.answer.split("#")[1].split()[0] not in held


def test_an_answer_without_a_fact_of_the_customers_is_right_for_strangers_too():
    vague = [label(number, answer="Our shop is open from nine to five.") for number in range(20)]
    assert len(own_rows.rows(vague, seed=7)) == len(vague)


@given(st.integers(0, 10**6))
def test_the_same_seed_makes_the_same_rows(seed):
    some = LABELS[:12]
    assert own_rows.rows(some, seed) == own_rows.rows(some, seed)


@given(st.text(min_size=1, max_size=40))
def test_a_customer_goes_by_a_hash_and_is_always_in_the_same_part(customer):
    assert own_rows.part(customer) in ("train", "validation")
    found = row_of(own_rows._columns(Label("x", customer, LABELS[0].context, "yes", True, "reply", "g")))
    assert found.user_id == own_rows.name(customer) != customer
    assert half(found) == own_rows.half(customer)


def test_about_three_in_ten_customers_validate():
    shares = [own_rows.part(str(n)) == "validation" for n in range(2_000)]
    assert sum(shares) / 2_000 == pytest.approx(own_rows.VALIDATION, abs=0.03)


def test_rows_on_disk_are_for_nobody_else(tmp_path):
    path = tmp_path / "private" / "rows.jsonl"
    own_rows.write(own_rows.rows(LABELS[:4], 7), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {row.answer for row in read_rows([path])} == {each.answer for each in LABELS[:4]}
