"""Which of recorded models are worth their place, and how many tiers pay: `python -m bench.worth --data FILE`.

Every answer is scored by folds that did not see its question. Chains come within a point of the best single model's
quality as cheaply as they can; each is chosen on four fifths of the questions and played on the fifth. With --plots
DIR what each model saves is drawn there, and what one, two, three models in a row cost and reach.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from bench.cascade import MODELS
from cascade.learning import peers
from cascade.learning.answer_scorer import AnswerScorer, Reader
from cascade.learning.encoding import encoded
from cascade.learning.intervals import Estimate
from cascade.learning.peers import Lesson
from cascade.learning.records import read
from cascade.learning.search import Goal
from cascade.learning.worth import by_length, worths
from cascade.measured_plots import lengths_svg, worth_svg

BELOW = 0.01  # of quality: within a point


def told(of: Estimate, factor: float, places: int) -> str:
    return f"{of.mean * factor:.{places}f} | {of.low * factor:.{places}f} to {of.high * factor:.{places}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=MODELS)
    parser.add_argument("--plots", type=Path, help="a folder for the plot")
    chosen = parser.parse_args()
    records = read(chosen.data)
    reader = Reader(records, partial(encoded, folder=chosen.encoder) if chosen.encoder.exists() else None)
    scorer = AnswerScorer(reader.read(records), records.quality)
    lesson = Lesson(scorer.known, records.models, records.quality, records.cost_micros)
    table, goal = peers.table(lesson), Goal(quality=lesson.wanted - BELOW)
    found = worths(table, goal)
    print("| left out | dearer without it, USD per 1,000 | 95 % | worse without it, points | 95 % |\n|-|-|-|-|-|")
    for each in found:
        cells = f"{told(each.dearer, 1e-3, 4)} | {told(each.worse, 100, 2)}" if each.used else "never asked | | |"
        print(f"| {each.model} | {cells} |")
    print("\n| tiers at most | USD per 1,000 | 95 % | quality | 95 % |\n|-|-|-|-|-|")
    lengths = by_length(table, goal, most_tiers=4)
    for each in lengths:
        print(f"| {each.tiers} | {told(each.cost_micros, 1e-3, 4)} | {told(each.quality, 1, 4)} |")
    if chosen.plots:
        name = chosen.data.name.split(".")[0]
        command = f"python -m bench.worth --data {chosen.data.name}"
        for kind, drawn in (("worth", worth_svg(found, command)), ("lengths", lengths_svg(lengths, command))):
            (chosen.plots / f"{kind}-{name}.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
