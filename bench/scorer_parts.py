"""What the scorer's trees owe to what: `python -m bench.scorer_parts --data ROWS.jsonl.gz ...`

Prints the AUC of every slice on the validation rows: of the shipped network alone; of trees over the evidence alone,
over evidence and terms, with the rows made beside the given ones, each grown anew; then of trees that were grown
without one source of rows, on that source: what a tenant gets that the scorer has never seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import torch

from cascade.scorer import model as network
from cascade.scorer.fitting import TrainingConfig
from cascade.scorer.measuring import SLICES, areas
from cascade.scorer.model import Reading
from cascade.scorer.rows import Row, read_rows
from cascade.scorer.training import grow, made_from

WEIGHTS = Path(network.__file__).parent / "weights"
TOKENIZER = network.tokenizer_of(WEIGHTS / "tokenizer.json")
CONFIG = TrainingConfig(threads=2)
SOURCES = (("tau",), ("records",), ("sgd",), ("tau", "records"))


@dataclass(frozen=True)
class Read:
    """A row, as the scorer reads it, and its weight in training."""

    row: Row
    reading: Reading
    weight: float = 1.0


def read(row: Row) -> Reading:
    return network.reading(TOKENIZER, row.context, row.answer, CONFIG.budget, CONFIG.window)


def read_all(rows: Sequence[Row], weights: Sequence[float]) -> list[Read]:
    with Pool(2) as pool:
        readings = pool.map(read, rows, chunksize=64)
    return [Read(*each) for each in zip(rows, readings, weights, strict=True)]


def trees(learnt: Sequence[Read], tested: Sequence[Read], *, terms: bool = True) -> dict[str, float | None]:
    """The slices of `tested`, ranked by trees grown on `learnt` alone."""
    seen = [each.reading if terms else each.reading._replace(terms=[]) for each in learnt]
    grown = grow([each.row for each in learnt], seen, [each.weight for each in learnt], None, CONFIG)
    evidence, said = [each.reading.evidence for each in tested], [each.reading.terms for each in tested]
    return areas([each.row for each in tested], grown.logits(evidence, said))


def network_alone(tested: Sequence[Read]) -> dict[str, float | None]:
    model, _ = network.load(WEIGHTS)
    with torch.autocast("cpu", torch.bfloat16):
        return areas([each.row for each in tested], network.logits(model, [each.reading.pieces for each in tested]))


def show(name: str, found: dict[str, float | None]) -> None:
    print(f"{name:<44}", *("    - " if value is None else f"{value:6.3f}" for value in found.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="PATH")
    paths = parser.parse_args().data
    given, validation = read_rows(paths, "train"), read_rows(paths, "validation")
    swaps, beside = made_from(given, CONFIG)
    weights = [1.0] * len(given) + [CONFIG.swap_weight] * len(swaps) + [CONFIG.beside_weight] * len(beside)
    learnt, tested = read_all([*given, *swaps, *beside], weights), read_all(validation, [1.0] * len(validation))
    print(f"{'':<44}", *(f"{name[:6]:>6}" for name in SLICES))
    show("network alone", network_alone(tested))
    show("trees: evidence alone", trees(learnt, tested, terms=False))
    show("trees: evidence and terms, given rows", trees(learnt[: len(given)], tested))
    show("trees: the same, and swaps", trees(learnt[: len(given) + len(swaps)], tested))
    show("trees: the same, and beside the point", trees(learnt, tested))
    for left_out in SOURCES:
        rest = [each for each in learnt if each.row.source not in left_out]
        show(
            f"trees: without {' and '.join(left_out)}, on it",
            trees(rest, [each for each in tested if each.row.source in left_out]),
        )


if __name__ == "__main__":
    main()
