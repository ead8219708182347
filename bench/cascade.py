"""What a learnt cascade saves on recorded answers, beside its peers: `python -m bench.cascade --data FILE ...`.

Each file is split in two by a hash of the question: scorer, chain and thresholds are fitted on one half and measured
on the other. Printed for each file: every method, overall and by task; how well the scorer tells right from wrong, by
model, with less and with more to read; the optimiser's result and time beside FrugalGPT's procedure. With --plots DIR
a frontier of each file is drawn there.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cascade.evaluation import Evaluation, Study, measure
from cascade.learning import peers
from cascade.learning.answer_scorer import Known, Read, Reader
from cascade.learning.encoding import encoded
from cascade.learning.peers import Lesson
from cascade.learning.records import Records, read
from cascade.learning.search import Goal, best_choice, frontier
from cascade.learning.table import undominated
from cascade.measured_plots import BLUE, GREY, ORANGE, figure_of, svg_of
from cascade.scorer.measuring import area

SHOWN = ("cascade", "agreement", "frugalgpt", "router", "product")
MODELS = Path(__file__).resolve().parents[1] / "var/models/minilm-l6-v2"


def half(records: Records, which: int) -> Records:
    return some(
        records,
        [place for place, name in enumerate(records.ids) if hashlib.sha256(name.encode()).digest()[0] % 2 == which],
    )


def some(records: Records, kept: Sequence[int]) -> Records:
    """The questions at these places."""

    def of(column: tuple) -> tuple:
        return tuple(column[place] for place in kept)

    texts = (of(records.ids), of(records.tasks), of(records.questions), records.models, of(records.answers))
    return Records(*texts, records.quality[kept], records.cost_micros[kept])


def areas(scores: np.ndarray, quality: np.ndarray) -> str:
    """AUC of each model's answers; - where all are alike."""
    told = []
    for score, right in zip(scores.T, quality.T > 0.5, strict=True):
        both = 0 < right.sum() < len(right)
        told.append(f"{area(score[right].tolist(), score[~right].tolist()):.3f}" if both else "-")
    return " ".join(told)


def scorer(study: Study, known: Known, data: Records) -> None:
    print("\nAUC by model, cheapest first:", ", ".join(data.models))
    print("  question alone           ", areas(known.prior, data.quality))
    print("  question and its answer  ", areas(known.score, data.quality))
    cheap = tuple(range(min(3, len(data.models))))
    if cheap in study.joint.joint:
        joint = study.scorer.joint(cheap, known)
        print(f"  the {len(cheap)} cheapest, together", areas(joint, data.quality[:, cheap]))


def searches(lesson: Lesson) -> None:
    """The same scores, the same goal: ours and FrugalGPT's, on the questions that both choose from."""
    table, budget = peers.table(lesson), float(lesson.cost_micros[:, lesson.best].mean()) / 2
    began = time.process_time()
    ours = best_choice(table, undominated(table), Goal(budget_micros=budget), most_tiers=3)
    took = time.process_time() - began
    began = time.process_time()
    theirs = peers.frugalgpt_within(lesson, budget)
    print(
        f"\nmost quality within half the best single model's cost, {len(lesson.quality)} questions, processor seconds"
    )
    if ours:
        print(f"  exact      {ours.quality:.4f} in {took:6.2f} s: {' > '.join(ours.chain)}")
    if theirs:
        quality, _ = lesson.means(theirs.play(lesson.known))
        print(f"  FrugalGPT  {quality:.4f} in {time.process_time() - began:6.2f} s: {theirs.told}")


def plot(path: Path, name: str, study: Study, known: Known, data: Records, found: Evaluation, command: str) -> None:
    lesson = Lesson(known, data.models, data.quality, data.cost_micros)
    table = peers.table(lesson)
    points = frontier(table, undominated(table), Goal(quality=0.0))
    figure, axes = figure_of()
    axes.step([p.cost_micros / 1000 for p in points], [p.quality for p in points], where="post", color=BLUE,
              label="plain chains, thresholds fitted on these very questions")  # fmt: skip
    axes.plot(data.cost_micros.mean(axis=0) / 1000, data.quality.mean(axis=0), "s", color=GREY, label="one model")
    for marker, each in zip("P^vD*", (found.of(name) for name in SHOWN), strict=True):
        colour = ORANGE if each.method == "product" else BLUE
        axes.plot(each.cost_micros / 1000, each.quality, marker, color=colour, label=each.method, alpha=0.8)
    axes.set(xscale="log", xlabel="cost, US dollars per 1,000 questions (logarithmic)", ylabel="mean quality (0 to 1)",
             title=f"{name}: {found.questions} questions that nothing was fitted on")  # fmt: skip
    axes.legend(frameon=False, loc="lower right")
    path.write_text(svg_of(figure, command), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=MODELS)
    parser.add_argument("--plots", type=Path, help="a folder for the frontiers")
    chosen = parser.parse_args()
    for file in chosen.data:
        name = file.name.split(".")[0]
        command = f"python -m bench.cascade --data {file.name}"
        records = read(file)
        train, data = half(records, 0), half(records, 1)
        reader = Reader(train, partial(encoded, folder=chosen.encoder) if chosen.encoder.exists() else None)
        began = time.process_time()
        study = Study(train, reader.read(train))
        seen: Read = reader.read(data)
        known = study.scorer.of_new(seen)
        found = measure(study, data, seen)
        print(f"\n== {name}: {command}  ({time.process_time() - began:.0f} processor seconds)\n\n{found.table()}")
        scorer(study, known, data)
        searches(study.lesson)
        if chosen.plots:
            plot(chosen.plots / f"cascade-{name}.svg", name, study, known, data, found, command)


if __name__ == "__main__":
    main()
