"""Whether the choice of `product` keeps what it promises: `python -m bench.choosing --data FILE ... --splits 3`.

Each file is split in about 70 and 30 by a salted hash of the question, as often as is asked; everything is fitted and
chosen on the larger part, and measured on the other. Printed for each split and for the mean of all: what was
promised, what was saved, whether it counts (a saving that does not is worth nothing), the same where a way is believed
alone without its neighbours or however unlikely it is to count, and what the best way that counts would have saved,
which nobody can know before.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import string
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.cascade import MODELS, some
from cascade.evaluation import Encode, Study
from cascade.learning.answer_scorer import Known, Reader
from cascade.learning.choosing import ENOUGH_LOW, ENOUGH_MEAN, LEAST, TWO_SIDED, believed, chance_to_count
from cascade.learning.encoding import encoded
from cascade.learning.peers import Fitted
from cascade.learning.records import Records, read

LARGER = 179  # of 256
RULES = {"product": (True, LEAST), "believed alone": (False, LEAST), "however unlikely": (True, 0.0)}


def parts(records: Records, salt: str) -> tuple[Records, Records]:
    first = np.array([hashlib.sha256((salt + name).encode()).digest()[0] < LARGER for name in records.ids])
    return some(records, np.flatnonzero(first)), some(records, np.flatnonzero(~first))


def played(ways: list[Fitted], known: Known, records: Records, best: int) -> np.ndarray:
    """(ways, 3): share of the best single model's cost that is saved; mean and variance of the quality beyond it."""
    single, cost = records.quality[:, best], records.cost_micros[:, best].mean()
    found = []
    for way in ways:
        quality, spent = way.play(known).of(records.quality, records.cost_micros)
        found.append((1 - spent.mean() / cost, (quality - single).mean(), (quality - single).var()))
    return np.array(found)


def chosen(ways: list[Fitted], seen: np.ndarray, count: int, near: bool, least: float) -> tuple[int, float]:
    """The place of the way, and the chance that was given to it."""
    saved, mean, variance = seen.T
    means = believed([way.told for way in ways], saved.tolist(), mean.tolist()) if near else mean
    chances = np.array([chance_to_count(m, v, count) for m, v in zip(means, variance, strict=True)])
    best = int(np.where(chances >= least, saved * chances, -1.0).argmax())
    return best, float(chances[best])


def encoder(records: Records, folder: Path) -> Encode | None:
    """Each question is read once for all splits; None: the sentence encoder is not there."""
    if not folder.exists():
        return None
    vectors = dict(zip(records.questions, encoded(records.questions, folder), strict=True))
    return lambda texts: np.array([vectors[text] for text in texts])


def split(records: Records, salt: str, encode: Encode | None) -> dict[str, tuple[float, bool]]:
    """By rule, what was saved on the smaller part, and whether it counts."""
    train, data = parts(records, salt)
    reader = Reader(train, encode)
    study = Study(train, reader.read(train))
    ways, best = [each.fitted for each in study.candidates], study.lesson.best
    seen = played(ways, study.lesson.known, train, best)
    saved, mean, variance = played(ways, study.scorer.of_new(reader.read(data)), data, best).T
    counts = (mean >= ENOUGH_MEAN) & (mean - TWO_SIDED * np.sqrt(variance / len(data.ids)) >= ENOUGH_LOW)
    found = {"best that counts": (float(saved[counts].max()), True)}
    for rule, (near, least) in RULES.items():
        place, chance = chosen(ways, seen, len(train.ids), near, least)
        found[rule] = (float(saved[place]), bool(counts[place]))
        print(
            f"  {salt} {rule:<17} promised {seen[place, 0]:6.1%} ({chance:4.0%}), saved {saved[place]:6.1%} at "
            f"{100 * mean[place]:+.2f} points, {'counts' if counts[place] else 'does not'}: {ways[place].told}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=MODELS)
    parser.add_argument("--splits", type=int, default=3, choices=range(1, 27))
    told = parser.parse_args()
    for file in told.data:
        print(f"\n{file.name}")
        records, results = read(file), defaultdict(list)
        encode = encoder(records, told.encoder)
        for salt in string.ascii_lowercase[: told.splits]:
            for rule, result in split(records, salt, encode).items():
                results[rule].append(result)
        for rule, found in results.items():
            counted = math.fsum(saved for saved, counts in found if counts) / len(found)
            print(f"  {rule:<17} {counted:6.1%} that counts, {sum(counts for _, counts in found)} of {len(found)}")


if __name__ == "__main__":
    main()
