"""A stricter threshold for a customer whom accepted answers keep disappointing; never a laxer one.

How often a customer is disappointed is a beta-binomial rate, shrunk to what the tenant's customers expect until there
are ratings to tell otherwise. A threshold asks for odds; a customer who is disappointed at twice the odds of others
is given answers of twice the odds only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

STRICTEST = 0.98  # no threshold is raised above it: some answer may still pass


@dataclass(frozen=True, slots=True)
class Ratings:
    """What one customer said of accepted answers."""

    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of a customer nobody has heard of: a beta distribution."""

    bad: float = 0.2  # the share of accepted answers that disappoint, of those that are rated
    worth: float = 10.0  # so many ratings weigh as much as the expectation


def strictness(ratings: Ratings, expected: Expectation) -> float:
    """How much the odds asked of an answer are raised, as a logarithm; 0: not at all.

    The posterior mean of the customer's rate against the expected one (beta-binomial; Casella, 1985, on empirical
    Bayes). Without ratings it is exactly 0.
    """
    count = ratings.good + ratings.bad
    if ratings.bad <= expected.bad * count:
        return 0.0
    rate = (ratings.bad + expected.bad * expected.worth) / (count + expected.worth)
    return math.log(rate / (1 - rate)) - math.log(expected.bad / (1 - expected.bad))


def stricter(threshold: float, by: float) -> float:
    """The threshold whose odds are exp(`by`) times as high; never below `threshold`, never raised above STRICTEST.

    A threshold of 0 asks for no score at all and stays 0.
    """
    if by <= 0 or threshold <= 0 or threshold >= STRICTEST:
        return threshold
    raised = 1 / (1 + (1 - threshold) / threshold * math.exp(-by))
    return max(threshold, min(raised, STRICTEST))


def expectation(customers: Sequence[Ratings], prior: Expectation = Expectation()) -> Expectation:
    """What a tenant's customers, with one rating or more each, let one expect of the next.

    The share pools all ratings with `prior`'s; its worth is a beta-binomial's estimated by moments (Kleinman, 1973),
    between 2 and 100, and `prior`'s as long as fewer than ten customers have rated twice.
    """
    bad = sum(each.bad for each in customers) + prior.bad * prior.worth
    mean = bad / (sum(each.good + each.bad for each in customers) + prior.worth)
    often = [each for each in customers if each.good + each.bad > 1]
    return Expectation(mean, _worth(often, mean) if len(often) >= 10 else prior.worth)


def _worth(customers: Sequence[Ratings], mean: float) -> float:
    """The a + b of the beta distribution whose rates vary as much as these do."""
    counts = [each.good + each.bad for each in customers]
    total = sum(counts)
    spread = sum(n * (each.bad / n - mean) ** 2 for n, each in zip(counts, customers, strict=True))
    chance = mean * (1 - mean)
    alike = (spread - len(counts) * chance) / ((total - len(counts)) * chance)  # correlation of a customer's ratings
    return 100.0 if alike <= 0.01 else min(max(1 / alike - 1, 2.0), 100.0)
