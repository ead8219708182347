"""Of many ways to save, the one that promises most: its saving times the chance that the saving will count.

A saving counts on further questions where quality beyond the best single model's is -0.5 points or more in the mean,
and -2 points or more at the lower end of its 95 % interval. Whether it will is uncertain for two reasons: the true
difference is known from so many questions only, and so many others will measure it. The highest of many noisy means is
too high by itself (the winner's curse): each is lowered by its standard error before they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cascade.learning.peers import Fitted, Lesson
from cascade.learning.table import Numbers

ENOUGH_MEAN, ENOUGH_LOW = -0.005, -0.02  # of the difference in quality to the best single model: then a saving counts
MEASURED = 0.5  # further questions that will measure it, as a share of those it is chosen on
CURSE = 1.0  # standard errors by which each mean is lowered
TWO_SIDED = 1.96


@dataclass(frozen=True, slots=True)
class Candidate:
    fitted: Fitted
    saved: float
    chance: float  # that the saving will count

    @property
    def promises(self) -> float:
        return self.saved * self.chance


def candidates(lesson: Lesson, fitted: Iterable[Fitted]) -> list[Candidate]:
    """What each does to questions whose scores it was not fitted on."""
    quality, cost = lesson.quality[:, lesson.best], float(lesson.cost_micros[:, lesson.best].mean())
    found = []
    for each in fitted:
        own, spent = each.play(lesson.known).of(lesson.quality, lesson.cost_micros)
        found.append(Candidate(each, 1 - float(spent.mean()) / cost, chance_to_count(own - quality)))
    return found


def chance_to_count(difference: Numbers) -> float:
    """`difference` (questions,): of quality, -1..1; normal approximations throughout."""
    count = len(difference)
    mean = float(difference.mean())
    spread = math.sqrt((float(((difference - mean) ** 2).sum()) + 1) / count)  # as if one more differed
    known, measured = spread / math.sqrt(count), spread / math.sqrt(count * MEASURED)
    enough = max(ENOUGH_MEAN, ENOUGH_LOW + TWO_SIDED * measured)
    return 0.5 * math.erfc((enough - (mean - CURSE * known)) / math.hypot(known, measured) / math.sqrt(2))
