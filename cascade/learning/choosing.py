"""Of many ways to save, the one that promises most: its saving times the chance that the saving will count.

A saving counts on further questions where quality beyond the best single model's is -0.5 points or more in the mean,
and -2 points or more at the lower end of its 95 % interval. Whether it will is uncertain for two reasons: the true
difference is known from so many questions only, and so many others will measure it. The highest of many noisy means is
too high by itself (the winner's curse): a way is believed no more than the mean of itself and its neighbours, the same
way with the next limits. What is less likely to count than LEAST is not risked.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.learning.peers import Fitted, Lesson

ENOUGH_MEAN, ENOUGH_LOW = -0.005, -0.02  # of the difference in quality to the best single model: then a saving counts
MEASURED = 3 / 7  # further questions that will measure it, for each that it is chosen on
LEAST = 0.4  # chance to count
TWO_SIDED = 1.96


@dataclass(frozen=True, slots=True)
class Candidate:
    fitted: Fitted
    saved: float
    chance: float  # that the saving will count

    @property
    def promises(self) -> float:
        return self.saved * self.chance if self.chance >= LEAST else -1.0  # the best single model promises 0


def candidates(lesson: Lesson, fitted: Iterable[Fitted]) -> list[Candidate]:
    """What each does to questions whose scores it was not fitted on."""
    ways, differences, saved = list(fitted), [], []
    quality, cost = lesson.quality[:, lesson.best], float(lesson.cost_micros[:, lesson.best].mean())
    for each in ways:
        own, spent = each.play(lesson.known).of(lesson.quality, lesson.cost_micros)
        differences.append((float((own - quality).mean()), float((own - quality).var())))
        saved.append(1 - float(spent.mean()) / cost)
    means = believed([each.told for each in ways], saved, [mean for mean, _ in differences])
    count = len(quality)
    return [
        Candidate(way, saving, chance_to_count(mean, variance, count))
        for way, saving, mean, (_, variance) in zip(ways, saved, means, differences, strict=True)
    ]


def believed(told: Sequence[str], saved: Sequence[float], means: Sequence[float]) -> list[float]:
    """Each way's mean, or that of it and the ones before and after it in saving that are `told` alike, if lower."""
    families: defaultdict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(told)), key=saved.__getitem__):
        families[told[place]].append(place)
    found = list(means)
    for places in families.values():
        for at, place in enumerate(places):
            near = [means[each] for each in places[max(0, at - 1) : at + 2]]
            found[place] = min(means[place], float(np.mean(near)))
    return found


def chance_to_count(mean: float, variance: float, count: int) -> float:
    """Of a difference in quality, -1..1, that was seen on `count` questions; normal approximations throughout."""
    spread = math.sqrt(variance + 1 / count)  # as if one more differed
    known, measured = spread / math.sqrt(count), spread / math.sqrt(count * MEASURED)
    enough = max(ENOUGH_MEAN, ENOUGH_LOW + TWO_SIDED * measured)
    return 0.5 * math.erfc((enough - mean) / math.hypot(known, measured) / math.sqrt(2))
