"""How often the watch over drift alarms for nothing, and how often it notices: `python -m bench.drift`.

Chatbots' weeks are simulated: customers who come back with habits of their own (how hard they ask, how long, whether
they rate), a week like the four before it, or one that has changed. An alarm is any measure of any segment out of its
band; the budget is `drift.FALSE_ALARMS` of a chatbot's weeks.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cascade.learning import drift
from cascade.learning.table import Numbers

MEASURES = ("scores", "accepted", "cost", "labelled")
SEGMENTS = ("", "home", "trade")


@dataclass(frozen=True)
class Change:
    """Of the week that is judged."""

    name: str
    harder: float = 0.0  # log odds by which scores fall
    dearer: float = 1.0  # times the cost
    silent: float = 1.0  # times the share of replies that are rated


CHANGES = (
    Change("nothing"),
    Change("scores fall by 0.5 in log odds", harder=0.5),
    Change("scores fall by 1 in log odds", harder=1.0),
    Change("turns cost 1.5 times as much", dearer=1.5),
    Change("half as many replies are rated", silent=0.5),
)


def alarmed(chance: np.random.Generator, turns: int, change: Change) -> bool:
    """One chatbot's week, after four like it."""
    customers = turns // 2
    hard, chatty = chance.normal(size=customers), chance.normal(size=customers) * 0.5
    rates = chance.beta(1, 5, size=customers)
    count = turns * (1 + 4)
    week, who = np.repeat(np.arange(5), turns), chance.integers(customers, size=count)
    last = week == 4
    logit = 1.5 - hard[who] + chance.normal(size=count) - change.harder * last
    scores = 1 / (1 + np.exp(-logit))
    accepted = scores >= 0.6
    cost = np.exp(chance.normal(size=count) * 0.6 + chatty[who]) * np.where(accepted, 1, 12) * 50
    values = {
        "scores": scores,
        "accepted": accepted.astype(float),
        "cost": cost * np.where(last, change.dearer, 1),
        "labelled": (chance.uniform(size=count) < rates[who] * np.where(last, change.silent, 1)).astype(float),
    }
    return any(_out(values[m], who * 5 + week, last, who % 2, s, m) for s in range(len(SEGMENTS)) for m in MEASURES)


def _out(values: Numbers, bundle: Numbers, last: Numbers, half: Numbers, segment: int, measure: str) -> bool:
    its = np.ones(len(values), bool) if segment == 0 else half == segment - 1
    tests = len(SEGMENTS) * len(MEASURES)
    found = drift.read(values[its], bundle[its], last[its], tests=tests, distance=measure == "scores")
    return found is not None and found.out_of_band


def interval(alarms: int, weeks: int) -> tuple[float, float]:
    """95 % (Wilson, 1927)."""
    z, p = 1.96, alarms / weeks
    middle, room = p + z * z / (2 * weeks), z * math.sqrt(p * (1 - p) / weeks + z * z / (4 * weeks * weeks))
    return max(0.0, middle - room) / (1 + z * z / weeks), (middle + room) / (1 + z * z / weeks)


def measured(weeks: int, turns: int, say: Callable[[str], None] = print) -> None:
    say(f"{turns} turns a week, {len(SEGMENTS) - 1} segments; budget {drift.FALSE_ALARMS:.1%} of weeks\n")
    say("| what changed | weeks | alarms | 95 % |")
    say("| --- | --- | --- | --- |")
    for number, change in enumerate(CHANGES):
        chance = np.random.default_rng([drift.SEED, number])
        tried = weeks if number == 0 else max(1, weeks // 5)
        alarms = sum(alarmed(chance, turns, change) for _ in range(tried))
        low, high = interval(alarms, tried)
        say(f"| {change.name} | {tried} | {alarms / tried:.1%} | {low:.1%} to {high:.1%} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=500, help="without a change; a fifth of it with one")
    parser.add_argument("--turns", type=int, default=200, help="a week")
    told = parser.parse_args()
    measured(told.weeks, told.turns)
