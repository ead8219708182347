"""How fast the scorer is served, side by side with plain transformers on the same weights: `python -m bench.scorer`.

On one thread: one text of 32, 64, 128, 256 and 512 pieces, then sixteen turns at once through the served process, text,
tokenizer and trees included everywhere, and what that process holds in memory. Plain transformers reads every answer,
the served process those that its trees leave open: so once with right answers alone, once with half of them wrong, and
each beside the same process with trees that are sure of nothing, which reads all sixteen too.
With `--data ROWS.jsonl.gz ...` also how far the engines' scores lie apart on labelled answers. Each figure is the best
of several rounds, taken in turns; processor time is told beside the clock's, since others may be busy. Ratios travel
between machines; milliseconds do not.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import psutil
import torch

from cascade.scorer import engines, head
from cascade.scorer import model as network
from cascade.scorer.head import Reading
from cascade.scorer.manifest import describe, read, write
from cascade.scorer.rows import read_rows
from cascade.scorer.serving import Scorer
from cascade.values import Context, Customer, Record, Utterance

WEIGHTS = Path(network.__file__).parent / "weights"
TURNS = 16
WORDINGS = (
    (
        "Where is my order {id}, and what did it cost?",
        "Order {id} over {total} is {status} and should be with you on {day}.",
    ),
    ("When will I get {id}?", "We expect it at your door on {day}."),
    ("Can you tell me the total of order {id}?", "The total of order {id} is {total}."),
    ("Is my parcel on its way already?", "Your latest order, {id}, is {status}."),
)
ACCEPT = (0.5, 0.9)  # an even chance, and what the demo asks of its small model
ROUNDS = 5
EVERY = 4  # of the labelled answers, each fourth


def best_ms(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time of each call's quickest round."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            took[name].append((time.process_time() - started) * 1e3)
    return {name: min(times[1:]) for name, times in took.items()}


# --- one text -------------------------------------------------------------------------------


def direct() -> dict[str, network.Reader]:
    """Plain transformers, and each engine called directly on what transformers made of the weights."""
    short, plain = network.load(WEIGHTS, torch.bfloat16)[0], network.load(WEIGHTS)[0]
    compute = engines.by_openvino(plain, "bf16")
    return {
        "transformers fp32": plain,
        "torch bf16": short,
        "openvino bf16": engines.Engine("openvino", compute, 1, plain.pairing),
    }


def one_text(ours: engines.Engine) -> None:
    models = {**direct(), "served": ours}
    print(f"one text, ms of the processor   (served: {ours.name}, {ours.at_once} at once)")
    print(f"{'pieces':>8} " + " ".join(f"{name:>17}" for name in models) + "   served / faster direct")
    for length in (32, 64, 128, 256, 512):
        text = [[101, *([2000] * (length - 2)), 102]]
        calls = {name: partial(network.vectors, model, text) for name, model in models.items()}
        took = best_ms(calls, 15)
        faster = min(took["torch bf16"], took["openvino bf16"])
        figures = " ".join(f"{ms:>17.1f}" for ms in took.values())
        print(f"{length:>8} {figures}   {took['served'] / faster:.2f}")


# --- sixteen turns at once --------------------------------------------------------------------


def turns() -> list[tuple[Context, str]]:
    """Sixteen customers of a shop with one to four orders, each told about the own order, some at length."""
    now = datetime(2026, 3, 10, tzinfo=UTC)
    return [_turn(number, now) for number in range(TURNS)]


def half_wrong() -> list[tuple[Context, str]]:
    """The same, every second one told what is right for the next customer."""
    asked = turns()
    return [(context, asked[(n + n % 2) % TURNS][1]) for n, (context, _) in enumerate(asked)]


def _turn(number: int, now: datetime) -> tuple[Context, str]:
    orders = tuple(_order(100 * number + which, now) for which in range(1 + number % 4))
    latest = orders[0]
    known = {**latest.data, "id": latest.external_id, "day": latest.data["expected_on"]}
    question, told = (text.format(**known) for text in WORDINGS[number // 4 % len(WORDINGS)])
    customer = Customer(str(number), True, "en", {"name": f"N{number}", "plan": "Plus", "city": "Ghent"}, orders)
    said = (Utterance("customer", "Hello, I moved house last week."), Utterance("assistant", "Thank you, noted."))
    more = " It has two lamps in it. You can still change the address until it leaves our house." * (number % 3)
    return Context(customer, question, now, said), told + more


def _order(number: int, now: datetime) -> Record:
    price = 20 + number % 80
    data = {
        "status": ("shipped", "pending", "delivered")[number % 3],
        "items": [{"name": f"Lamp {number}", "colour": "brass", "price": f"${price}.00"}] * 2,
        "total": f"${2 * price}.00",
        "expected_on": (now + timedelta(days=number % 30)).date().isoformat(),
        "address": {"street": f"{number} Mill Road", "city": "Ghent"},
    }
    return Record("order", f"L-{number}", now, data)


async def sixteen() -> None:
    with TemporaryDirectory() as folder:
        scorer, unsure = Scorer(WEIGHTS), Scorer(sure_of_nothing(Path(folder) / "weights"))
        await asyncio.gather(scorer.start(), unsure.start())
        transformers = Transformers()
        for told, asked in (("all told right", turns()), ("every second told wrong", half_wrong())):
            await side_by_side(told, asked, (scorer, unsure), transformers)
        await memory(scorer, turns())
        await asyncio.gather(scorer.close(), unsure.close())


def sure_of_nothing(folder: Path) -> Path:
    """The weights with trees as many and as deep, whose logits are all near 0: the network is asked every time."""
    copytree(WEIGHTS, folder)
    shipped, known = head.load(WEIGHTS), read(WEIGHTS)
    head.save(replace(shipped, trees=replace(shipped.trees, values=shipped.trees.values / 100)), folder)
    facts = {name: getattr(known, name) for name in ("window", "calibration", "config", "data", "metrics")}
    write(describe(folder, **facts), folder)
    return folder


async def side_by_side(
    told: str, asked: Sequence[tuple[Context, str]], scorers: tuple[Scorer, Scorer], transformers: Transformers
) -> None:
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "transformers fp32, one by one": partial(transformers.judge, asked, 1),
        "transformers fp32, in one batch": partial(transformers.judge, asked, TURNS),
        "served": partial(served, scorers[0], asked),
        "served, all of them read": partial(served, scorers[1], asked),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            took[name].append(await timed(way, scorers))
    pieces, open_ = transformers.lengths(asked)
    print(f"\n{TURNS} turns at once, {told}: {min(pieces)} to {max(pieces)} pieces, {open_} left open by the trees")
    print(f"{'':33} {'a second':>9} {'served':>8}   {'a processor second':>18} {'served':>8} {'all read':>8}")
    best = {name: [min(times) for times in zip(*found[1:], strict=True)] for name, found in took.items()}
    for name, (clock, processor) in best.items():
        times = (
            clock / best["served"][0],
            processor / best["served"][1],
            processor / best["served, all of them read"][1],
        )
        ratios = (
            f"{TURNS / clock:>9.1f} {times[0]:>7.2f}x   {TURNS / processor:>18.1f} {times[1]:>7.2f}x {times[2]:>7.2f}x"
        )
        print(f"{name:<33} {ratios}")


async def timed(way: Callable[[], Awaitable[None]], scorers: Sequence[Scorer]) -> tuple[float, float]:
    """Seconds by the clock and of the processor, this process and the scorers' together."""
    clock, processor = time.perf_counter(), _processor_seconds(scorers)
    await way()
    return time.perf_counter() - clock, _processor_seconds(scorers) - processor


def _processor_seconds(scorers: Sequence[Scorer]) -> float:
    spent = [psutil.Process(_pid(scorer)).cpu_times() for scorer in scorers]
    return time.process_time() + sum(each.user + each.system for each in spent)


def _pid(scorer: Scorer) -> int:
    assert scorer._child
    return scorer._child.pid


async def served(scorer: Scorer, asked: Sequence[tuple[Context, str]]) -> None:
    found = await asyncio.gather(*(scorer.score(*turn, deadline_seconds=60) for turn in asked))
    assert None not in found


class Transformers:
    """The weights as anybody would run them: text, tokenizer and head as served, the network in fp32."""

    def __init__(self) -> None:
        self.model, self.tokenizer = network.load(WEIGHTS)
        self.head, self.manifest = head.load(WEIGHTS), read(WEIGHTS)

    def readings(self, asked: Sequence[tuple[Context, str]]) -> list[Reading]:
        return [network.reading(self.tokenizer, *turn, self.manifest.window) for turn in asked]

    def lengths(self, asked: Sequence[tuple[Context, str]]) -> tuple[list[int], int]:
        """Pieces of each, and how many the served process has the network read."""
        found = self.readings(asked)
        looked_up = self.head.trees.logits([each.evidence for each in found], [each.terms for each in found])
        pieces = [len(each.asked) + len(each.answered) for each in found]
        return pieces, sum(map(head.is_open, looked_up, found))

    async def judge(self, asked: Sequence[tuple[Context, str]], at_once: int) -> None:
        found = self.readings(asked)
        self.head.trees.logits([each.evidence for each in found], [each.terms for each in found])
        for at in range(0, len(found), at_once):
            network.logits(self.model, [each[:2] for each in found[at : at + at_once]])

    def scores(self, found: Sequence[Reading], model: network.Reader | None = None) -> list[float]:
        """Probabilities; `model`: another engine in place of plain transformers."""
        logits = head.logits(model or self.model, self.head, found)
        return [self.manifest.calibration.probability(logit) for logit in logits]


async def memory(scorer: Scorer, asked: Sequence[tuple[Context, str]]) -> None:
    """After the longest texts, as many at once as are let in."""
    much = " ".join(f"Lamp {n} of ${n}.50 is here." for n in range(250))
    await served(scorer, [(context, f"{answer} {much}") for context, answer in asked] * 4)
    resident = psutil.Process(_pid(scorer)).memory_info().rss
    print(f"\nresident memory of the scorer's process after its largest work: {resident / 2**20:.0f} MB")


# --- agreement ------------------------------------------------------------------------------


def agreement(paths: Sequence[Path]) -> None:
    """How far each engine's probabilities lie from those of plain transformers, how often the verdict is the same."""
    plain, rows = Transformers(), read_rows(paths, "validation")[::EVERY]
    found = plain.readings([(row.context, row.answer) for row in rows])
    expected = plain.scores(found)
    print(f"\n{len(rows)} labelled answers against transformers fp32: largest difference, same verdict at {ACCEPT}")
    for name, compute in engines.candidates(plain.model):
        theirs = plain.scores(found, engines.Engine(name, compute, 1, plain.model.pairing))
        apart = max(abs(a - b) for a, b in zip(theirs, expected, strict=True))
        same = [(a >= at) == (b >= at) for at in ACCEPT for a, b in zip(theirs, expected, strict=True)]
        print(f"  {name:<15} {apart:.4f}   {sum(same) / len(same):.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    one_text(engines.fastest(WEIGHTS))
    asyncio.run(sixteen())
    if asked.data:
        agreement(asked.data)


if __name__ == "__main__":
    main()
