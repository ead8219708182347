"""How long the optimiser takes where no model can be left out: `python -m bench.optimiser`.

2,000 questions, 11 models each dearer and better than the one before, scores that tell right from wrong with noise;
chains of up to four. Printed: processor seconds of the whole proposal, cross-fitting and frontier included.
"""

from __future__ import annotations

import time

from cascade.learning.table import undominated
from cascade.optimiser import Goal, optimise
from tests.cascade.tables import ladder


def main() -> None:
    table = ladder(2000, 11)
    dearest = float(table.mean_cost_micros.max())
    goals = {
        "most quality within a fifth of the dearest model's cost": Goal(budget_micros=dearest / 5),
        "least cost at the best single model's quality": Goal(quality=float(table.mean_quality.max())),
    }
    print(f"{len(table.questions)} questions, {len(undominated(table))} undominated models")
    for told, goal in goals.items():
        began = time.process_time()
        found = optimise(table, goal)
        print(f"{told}: {time.process_time() - began:.1f} processor seconds, {' > '.join(found.chain)}", flush=True)


if __name__ == "__main__":
    main()
