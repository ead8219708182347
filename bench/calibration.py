"""How far tenants' maps from score to probability differ, and what shrinking is worth: `python -m bench.calibration`.

Each domain of the labelled rows (a shop, an airline, a bank ...) is taken for a tenant that the shipped map knows
nothing of. Printed: the spread that `cascade.scorer.calibration.TENANTS_DIFFER` states, from one half of the customers;
then, on the other half, the log loss with as many labels of a tenant as it may have, for the global map, the tenant's
own fit, and the shrunk one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from cascade.scorer import rows as labelled
from cascade.scorer.calibration import Calibration, Spread, fit, fit_shrunk, logit, spread_of
from cascade.scorer.evaluation import scores

WEIGHTS = Path(__file__).resolve().parents[1] / "cascade/scorer/weights"
LEAST = 20  # labelled answers of a domain, in each half
COUNTS = (5, 20, 50, 100, 200)
DRAWS = 30  # of so many labels

Labels = tuple[list[float], list[bool]]


def domains(paths: list[Path]) -> dict[str, str]:
    """Row id -> domain."""
    found = {}
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            found |= {row["id"]: row["domain"] for row in map(json.loads, lines) if row["split"] == "validation"}
    return found


def tenants(paths: list[Path], weights: Path) -> dict[str, tuple[Labels, Labels]]:
    """For each domain the logits and labels of customers that fit, and of those that test."""
    rows, domain = labelled.read_rows(paths, "validation"), domains(paths)
    halves: dict[str, tuple[Labels, Labels]] = defaultdict(lambda: (([], []), ([], [])))
    for row, score in zip(rows, scores(weights, rows), strict=True):
        x, good = halves[domain[row.id]][labelled.half(row)]
        x.append(logit(score))
        good.append(row.good)
    kept = {name: both for name, both in halves.items() if min(len(both[0][0]), len(both[1][0])) >= LEAST}
    return {name: both for name, both in kept.items() if all(len(set(good)) == 2 for _, good in both)}


def loss(found: Calibration, labels: Labels) -> float:
    p = np.clip([found.probability(x) for x in labels[0]], 1e-6, 1 - 1e-6)
    return float(-np.where(labels[1], np.log(p), np.log(1 - p)).mean())


def learning_curve(of: dict[str, tuple[Labels, Labels]], spread: Spread) -> None:
    print(f"\n{'labels':>6} {'global map':>11} {'own fit':>9} {'shrunk':>9}   mean log loss over domains and draws")
    chance = random.Random(7)
    for count in COUNTS:
        lost = defaultdict(list)
        for (x, good), test in of.values():
            for _ in range(DRAWS if len(x) >= count else 0):
                drawn = chance.sample(range(len(x)), count)
                some = [x[i] for i in drawn], [good[i] for i in drawn]
                lost["global"].append(loss(Calibration(), test))
                lost["own"].append(loss(fit(*some), test))
                lost["shrunk"].append(loss(fit_shrunk(*some, spread), test))
        if lost:
            means = (
                f"{np.mean(lost[name]):>{width}.4f}" for name, width in (("global", 11), ("own", 9), ("shrunk", 9))
            )
            print(f"{count:>6}", *means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    chosen = parser.parse_args()
    found = tenants(chosen.data, chosen.weights)
    spread = spread_of([both[0] for both in found.values()])
    print(f"{len(found)} domains: {', '.join(f'{name} ({len(both[0][0])})' for name, both in sorted(found.items()))}")
    print(f"spread of the scale {spread.scale:.2f}, of the shift {spread.shift:.2f}")
    learning_curve(found, spread)


if __name__ == "__main__":
    main()
