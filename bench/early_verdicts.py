"""Does it pay to judge a draft at its sentence ends? `python -m bench.early_verdicts --data ROWS.jsonl.gz ...`

Scores every prefix that ends with a sentence, as a growing draft would be, and the whole. A threshold of abortion is
chosen on one half of the customers - the highest that aborts no good answer which would have been accepted - and
measured on the other: how many of the bad answers' words are never written, how many accepted good answers are lost.
`--keep` writes the threshold into the weights' manifest, for serving: 0, which is off, if the other half lost any.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from cascade.early_verdicts import sentence_ends
from cascade.scorer import engines, head
from cascade.scorer import model as network
from cascade.scorer.manifest import read, write
from cascade.scorer.rows import Row, half, read_rows

WEIGHTS = Path(network.__file__).parent / "weights"
ACCEPT = (0.5, 0.7, 0.9)
ABORT = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Draft:
    """An answer of several sentences, as it grows."""

    half: int
    good: bool
    words: tuple[int, ...]  # of each prefix, the whole answer last
    scores: tuple[float, ...]

    def written(self, abort: float) -> int:
        """Words that are written before the draft is given up, all of them when it is not."""
        return next((w for w, s in zip(self.words[:-1], self.scores, strict=False) if s < abort), self.words[-1])

    def lost(self, abort: float) -> bool:
        return min(self.scores[:-1]) < abort


def prefixes(answer: str) -> list[str]:
    """Every beginning of the answer that a growing draft shows at a sentence end, then the answer."""
    return [*(answer[:end] for end in sentence_ends(answer) if answer[end:].strip()), answer]


def drafts(rows: Sequence[Row], weights: Path) -> list[Draft]:
    manifest = read(weights)
    engine, tokenizer, joined = engines.fastest(weights), *_parts(weights)
    several = [(row, found) for row in rows if len(found := prefixes(row.answer)) > 1]
    made = []
    for row, texts in tqdm(several, unit="answer"):
        readings = [network.reading(tokenizer, row.context, text, manifest.window) for text in texts]
        logits = head.logits(engine, joined, [*(each.begun() for each in readings[:-1]), readings[-1]])
        scores = tuple(manifest.calibration.probability(logit) for logit in logits)
        made.append(Draft(half(row), row.good, tuple(len(text.split()) for text in texts), scores))
    return made


def _parts(weights: Path) -> tuple[Tokenizer, head.Head]:
    return network.tokenizer_of(weights / "tokenizer.json"), head.load(weights)


def chosen(found: Sequence[Draft], accept: float) -> float:
    """The highest threshold that would have aborted none of the accepted good answers."""
    return min((min(d.scores[:-1]) for d in accepted(found, accept)), default=0.0)


def accepted(found: Sequence[Draft], accept: float) -> list[Draft]:
    """The good answers that would be shown."""
    return [d for d in found if d.good and d.scores[-1] >= accept]


def line(found: Sequence[Draft], accept: float, abort: float) -> str:
    """One row of the table; the upper bound is that of the exact binomial interval's 95 %."""
    bad, good = [d for d in found if not d.good], accepted(found, accept)
    refused = [d for d in found if d.scores[-1] < accept]
    lost = sum(d.lost(abort) for d in good)
    saved = [1 - sum(d.written(abort) for d in side) / sum(d.words[-1] for d in side) for side in (bad, refused, found)]
    shares = " ".join(f"{share:>9.1%}" for share in saved)
    return f"{abort:>8.5f} {shares} {lost:>6} of {len(good):<4} {_most(lost, len(good)):>8.1%}"


def _most(lost: int, among: int) -> float:
    """The largest true share with which so few would be seen in one sample of twenty (Clopper and Pearson 1934)."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        seen = sum(math.comb(among, k) * middle**k * (1 - middle) ** (among - k) for k in range(lost + 1))
        low, high = (middle, high) if seen > 0.05 else (low, middle)
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--keep", action="store_true", help="write the threshold into the weights' manifest")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = drafts(read_rows(asked.data, asked.split), asked.weights)
    choosing, reported = ([d for d in found if d.half == side] for side in (0, 1))
    print(f"{len(found)} answers of two sentences or more, {sum(d.good for d in found)} of them good")
    for accept in ACCEPT:
        best = chosen(choosing, accept)
        print(f"\naccepted at {accept}; chosen on one half, without loss there: abort below {best:.5f}")
        print(f"{'abort':>8} {'bad':>9} {'refused':>9} {'all':>9}   words saved; good answers lost, at most")
        for abort in sorted({*ABORT, best}):
            print(line(reported, accept, abort) + ("   <- chosen" if abort == best else ""))
    if asked.keep:
        abort = chosen(choosing, ACCEPT[0])  # the laxest threshold accepts most, so most could be lost
        none_lost = not any(d.lost(abort) for d in accepted(reported, ACCEPT[0]))
        kept = replace(read(asked.weights), abort_below=abort if none_lost else 0.0, abort_from=ACCEPT[0])
        write(kept, asked.weights)


if __name__ == "__main__":
    main()
