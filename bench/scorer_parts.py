"""What the scorer's trees owe to what: `python -m bench.scorer_parts --data ROWS.jsonl.gz ...`

Prints the AUC of every slice on the validation rows, and of the swaps made from them: first of trees that were grown
without one source of rows, on that source: what a tenant gets that the scorer has never seen. Then of trees that
learnt from everything, and of those from which one thing was kept, each grown anew; last of the shipped weights, of
their trees alone and of their network alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from cascade.scorer import head, named, recital
from cascade.scorer import model as network
from cascade.scorer.evidence import SIZE, TOGETHER
from cascade.scorer.fitting import TrainingConfig
from cascade.scorer.measuring import SLICES, areas
from cascade.scorer.rows import Row, read_rows
from cascade.scorer.training import Lesson, grow, lessons_of_trees, own_record_measure

WEIGHTS = Path(network.__file__).parent / "weights"
TOKENIZER = network.tokenizer_of(WEIGHTS / "tokenizer.json")
CONFIG = TrainingConfig(rounds=300, threads=1)  # half the trees that are shipped: eleven times grown, in half the time
SOURCES = (("tau", "records"), ("sgd",), ("tau",), ("records",))


def read(row: Row) -> Lesson:
    return Lesson(row, network.reading(TOKENIZER, row.context, row.answer, CONFIG.window))


def trees(learnt: Sequence[Lesson], tested: Sequence[Lesson]) -> dict[str, float | None]:
    """The slices of `tested`, ranked by trees grown on `learnt` alone."""
    grown = grow(learnt, None, CONFIG)
    return ranked(tested, grown.logits(*zip(*((it.reading.evidence, it.reading.terms) for it in tested), strict=True)))


def ranked(tested: Sequence[Lesson], found: Sequence[float]) -> dict[str, float | None]:
    """The slices of the rows that were given, and that of the swaps that were made."""
    made = {n for n, each in enumerate(tested) if "/own" in each.row.id}
    groups = {tested[n].row.group_id for n in made}
    given = [n for n in range(len(tested)) if n not in made]
    swapped = [*made, *(n for n in given if tested[n].row.good and tested[n].row.group_id in groups)]
    slices, swaps = (areas([tested[n].row for n in some], [found[n] for n in some]) for some in (given, swapped))
    return slices | {"swaps": swaps["own_record"]}


def without_terms(found: Sequence[Lesson]) -> list[Lesson]:
    return [each._replace(reading=each.reading._replace(terms=[])) for each in found]


def without(counts: Collection[str], found: Sequence[Lesson]) -> list[Lesson]:
    """`counts`: of `evidence.TOGETHER`."""
    first = SIZE - len(TOGETHER)
    kept = [place for place in range(SIZE) if place < first or TOGETHER[place - first] not in counts]
    shorter = ([each.reading.evidence[place] for place in kept] for each in found)
    return [
        each._replace(reading=each.reading._replace(evidence=told)) for each, told in zip(found, shorter, strict=True)
    ]


def without_company(found: Sequence[Lesson]) -> list[Lesson]:
    """Every fact on its own: neither how they hold together nor which fields are quoted beside which."""
    told = ("quoted ", "left out ")
    return [
        each._replace(
            reading=each.reading._replace(
                evidence=each.reading.evidence[: -len(TOGETHER)],
                terms=[term for term in each.reading.terms if not term.startswith(told)],
            ),
        )
        for each in found
    ]


def shipped(tested: Sequence[Lesson]) -> None:
    """The whole, then each half alone."""
    model, joined = network.load(WEIGHTS)[0], head.load(WEIGHTS)
    readings = [each.reading for each in tested]
    with torch.autocast("cpu", torch.bfloat16):
        show("the shipped weights", ranked(tested, head.logits(model, joined, readings)))
        show("their network alone", ranked(tested, network.logits(model, [each[:2] for each in readings])))
    looked_up = joined.trees.logits([each.evidence for each in readings], [each.terms for each in readings])
    show("their trees alone", ranked(tested, looked_up))


def show(name: str, found: dict[str, float | None]) -> None:
    print(f"{name:<44}", *("    - " if value is None else f"{value:6.3f}" for value in found.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="PATH")
    paths = parser.parse_args().data
    given, validation = read_rows(paths, "train"), read_rows(paths, "validation")
    tested = [read(row) for row in (*validation, *(row for row in own_record_measure(validation) if not row.good))]
    print(f"{'':<44}", *(f"{name[:6]:>6}" for name in (*SLICES, "swaps")))
    learnt = lessons_of_trees(given, TOKENIZER, CONFIG)
    for left_out in SOURCES:
        rest = [each for each in learnt if each.row.source not in left_out]
        show(
            f"trees: without {' and '.join(left_out)}, on it",
            trees(rest, [each for each in tested if each.row.source in left_out]),
        )
    show("trees: everything", trees(learnt, tested))
    unrecited = [each for each in learnt if "/recital" not in each.row.id]
    show("trees: that, without named fields", trees(without(named.COUNTS, learnt), without(named.COUNTS, tested)))
    show("trees: that, without recitals", trees(without(recital.COUNTS, unrecited), without(recital.COUNTS, tested)))
    show("trees: that, without rows without names", trees(learnt[: -len(given)], tested))
    show("trees: that, without the company of facts", trees(without_company(learnt), without_company(tested)))
    show("trees: evidence alone", trees(without_terms(learnt), without_terms(tested)))
    show("trees: given rows alone", trees(learnt[: len(given)], tested))
    shipped(tested)


if __name__ == "__main__":
    main()
