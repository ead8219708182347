"""How fast the scorer is served, side by side with plain transformers on the same weights: `python -m bench.scorer`.

Prints milliseconds for one pair of 128, 256 and 512 pieces on one thread (transformers fp32, torch bf16), then how
many answers a second come through the served process with 16 turns at once, against transformers fp32 one by one and
in one padded batch. Ratios travel between machines; milliseconds do not.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import torch

from cascade.scorer import head
from cascade.scorer import model as network
from cascade.scorer.manifest import read
from cascade.scorer.serving import Scorer
from cascade.values import Context, Customer, Record

WEIGHTS = Path(network.__file__).parent / "weights"
TURNS = 16


def median_ms(call: Callable[[], object], times: int = 15) -> float:
    call()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1e3)
    return statistics.median(took)


def one_pair() -> None:
    plain, _ = network.load(WEIGHTS)
    short = network.load(WEIGHTS, torch.bfloat16)[0]
    print(f"{'pieces':>8} {'fp32 ms':>9} {'bf16 ms':>9} {'ratio':>6}")
    for length in (128, 256, 512):
        pair = [[101, *([2000] * (length - 2)), 102]]
        fp32, bf16 = (median_ms(partial(network.logits, model, pair)) for model in (plain, short))
        print(f"{length:>8} {fp32:>9.1f} {bf16:>9.1f} {fp32 / bf16:>6.2f}")


def turns() -> list[tuple[Context, str]]:
    """Sixteen customers of a shop, each told about the own order."""
    now = datetime(2026, 3, 10, tzinfo=UTC)
    made = []
    for number in range(TURNS):
        total = 20 + number
        data = {
            "status": "shipped",
            "items": [{"name": f"Lamp {number}", "price": f"${total}.00"}] * 4,
            "total": f"${4 * total}.00",
            "expected_on": (now + timedelta(days=number)).date().isoformat(),
        }
        customer = Customer(
            str(number), True, "en", {"name": f"N{number}"}, (Record("order", f"L-{number}", now, data),)
        )
        made.append(
            (Context(customer, "Where is my order?", now), f"Order L-{number} over ${4 * total}.00 is shipped.")
        )
    return made


async def many_at_once(rounds: int = 5) -> float:
    """Answers a second of the served process, all turns waiting at once."""
    scorer = Scorer(WEIGHTS)
    await scorer.start()
    await asyncio.gather(*(scorer.score(context, answer, deadline_seconds=60) for context, answer in turns()))
    started = time.perf_counter()
    for _ in range(rounds):
        found = await asyncio.gather(*(scorer.score(c, a, deadline_seconds=60) for c, a in turns()))
        assert None not in found
    took = time.perf_counter() - started
    await scorer.close()
    return rounds * TURNS / took


def plain_at_once(*, padded: bool, rounds: int = 3) -> float:
    """Answers a second of transformers fp32, text and tokenizer included."""
    manifest = read(WEIGHTS)
    plain, tokenizer = network.load(WEIGHTS)
    joined = head.load(WEIGHTS)

    def run() -> None:
        readings = [network.reading(tokenizer, *turn, manifest.budget, manifest.window) for turn in turns()]
        for batch in [readings] if padded else [[one] for one in readings]:
            head.logits(plain, joined, batch)

    return TURNS * 1e3 / median_ms(run, rounds)


def main() -> None:
    torch.set_num_threads(1)
    one_pair()
    alone, batch, served = plain_at_once(padded=False), plain_at_once(padded=True), asyncio.run(many_at_once())
    print(f"\n{TURNS} turns at once, answers a second")
    print(f"  transformers fp32, one by one   {alone:8.1f}")
    print(f"  transformers fp32, one batch    {batch:8.1f}")
    print(
        f"  served                          {served:8.1f}"
        f"   {served / alone:.2f} x one by one, {served / batch:.2f} x one batch"
    )


if __name__ == "__main__":
    main()
