"""How sure a hit must be, so that at most a tolerated share of hits is wrong: Learn then Test (arXiv 2110.01052).

Observed hits, each with a confidence and whether it was wrong, say for each threshold how many of the hits above it
were wrong. From each of a few places, fixed beforehand, thresholds are tried downwards (fixed sequence testing from
several starts); the first that could break the bound by chance ends it. The doubt is parted among the starts: one bad
hit at the very top is not the end. With probability `SURE` over the observations, the share of wrong hits is then
within the bound, if the observations are independent; those of `fitting` are not quite, for one question is asked of
several memories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

SURE = 0.95
STARTS = (0.05, 0.1, 0.2)  # shares of the observed: so many are above the first threshold that is tried
STEP = 10  # hits between two thresholds that are tried
NEVER = math.inf  # a threshold: nothing is sure enough


def threshold(observed: Iterable[tuple[float, bool]], tolerated: float, sure: float = SURE) -> float:
    """The lowest confidence at which a hit may be given. `observed`: confidence, was it wrong. NEVER: none is known."""
    levels, hits, wrong = [], 0, 0
    for confidence, group in groupby(sorted(observed, key=lambda each: -each[0]), key=lambda each: each[0]):
        outcomes = [was_wrong for _, was_wrong in group]
        hits, wrong = hits + len(outcomes), wrong + sum(outcomes)
        levels.append((confidence, hits, wrong))
    doubt = (1 - sure) / len(STARTS)
    least = fewest(tolerated, 1 - doubt)
    return min(_down(levels, max(least, math.ceil(share * hits)), tolerated, doubt) for share in STARTS)


def _down(levels: Iterable[tuple[float, int, int]], start: int, tolerated: float, doubt: float) -> float:
    """`levels`: confidence, hits from it on, wrong ones among them."""
    found, tried = NEVER, start - STEP
    for confidence, hits, wrong in levels:
        if hits - tried < STEP:
            continue
        tried = hits
        if at_most(wrong, hits, tolerated) > doubt:
            break
        found = confidence
    return found


def raised(observed: Iterable[tuple[float, bool]], tolerated: float, shipped: float, sure: float = SURE) -> float:
    """`shipped`, or higher where what a tenant's own checks show above it refutes the bound.

    Each threshold above is tried in turn, until the wrong hits that were seen are no longer too many to be chance.
    """
    above = sorted(each for each in observed if each[0] >= shipped)
    for at, (confidence, _) in enumerate(above):
        wrong, hits = sum(was_wrong for _, was_wrong in above[at:]), len(above) - at
        if not wrong or 1 - at_most(wrong - 1, hits, tolerated) > 1 - sure:
            return max(shipped, confidence) if at else shipped
    return NEVER if above else shipped


def fewest(tolerated: float, sure: float = SURE) -> int:
    """So many hits, none of them wrong, prove the bound."""
    return math.ceil(math.log(1 - sure) / math.log(1 - tolerated))


def at_most(wrong: int, hits: int, share: float) -> float:
    """The probability of at most `wrong` wrong ones in `hits` where each is with probability `share`."""
    logs = (
        math.lgamma(hits + 1) - math.lgamma(k + 1) - math.lgamma(hits - k + 1)
        + k * math.log(share) + (hits - k) * math.log1p(-share)
        for k in range(min(wrong, hits) + 1)
    )  # fmt: skip
    return min(1.0, sum(map(math.exp, logs)))
