"""A proposed cascade for people to look at: one self-contained page, the same as JSON, and its plots as SVG.

Cost is in US dollars per 1,000 questions, quality from 0 to 1; every plot says which command made it. The same
proposal gives the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from cascade.learning.intervals import Estimate
from cascade.learning.search import Choice
from cascade.learning.worth import Length, Worth
from cascade.optimiser import Proposal

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito's: told apart by the colour-blind too
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}svg{max-width:100%;height:auto}code{background:#f3f3f3}"""


def as_json(proposal: Proposal, worths: Sequence[Worth] = (), lengths: Sequence[Length] = ()) -> str:
    """Micro-dollars a question, as the engine counts."""
    told = {key: value for key, value in asdict(proposal).items() if key != "unseen"}
    rest = {"worths": [asdict(each) for each in worths], "lengths": [asdict(each) for each in lengths]}
    return json.dumps({"proposal": told, **rest}, indent=1, sort_keys=True)


def as_html(
    proposal: Proposal,
    command: str,
    *,
    present: Choice | None = None,
    worths: Sequence[Worth] = (),
    lengths: Sequence[Length] = (),
) -> str:
    """`command` is what made it; `present` the strategy that is live, as the same table values it."""
    told = [
        ("questions", f"{proposal.questions}"),
        ("chain", " → ".join(_tiers(proposal.chain, proposal.thresholds))),
        *((f"thresholds of {name}", ", ".join(f"{t:.3f}" for t in own)) for name, own in proposal.by_segment.items()),
        ("quality", _range(proposal.quality, 1, 4)),
        (f"quality beyond {proposal.best_single}", _range(proposal.quality_difference, 100, 2) + " points"),
        ("USD per 1,000 questions", _range(proposal.cost_micros, 0.001, 4)),
        (f"saved of {proposal.best_single}'s cost", _range(proposal.saved, 100, 1) + " %"),
        ("left out as dominated", ", ".join(proposal.dominated) or "none"),
    ]
    parts = ["<h1>A proposed cascade</h1>", _table((), told), frontier_svg(proposal, command, present)]
    if worths:
        rows = [(w.model, *_worth(w)) for w in worths]
        parts += ["<h2>Is each model worth it?</h2>", _table(("left out", "USD per 1,000 more", "quality lost"), rows)]
        parts.append(worth_svg(worths, command))
    if lengths:
        tiers = [(str(n.tiers), _range(n.cost_micros, 0.001, 4), _range(n.quality, 1, 4)) for n in lengths]
        parts += ["<h2>How many models?</h2>", _table(("tiers at most", "USD per 1,000", "quality"), tiers)]
    ending = f"<p>Intervals of 95 %, by bootstrap over questions. Made by <code>{escape(command)}</code></p>"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>A proposed cascade</title><style>{STYLE}</style>"
    return "\n".join([head, *parts, ending, "</html>"])


def frontier_svg(proposal: Proposal, command: str, present: Choice | None = None) -> str:
    """Quality against cost of the best chains, the proposal and the present strategy on it."""
    figure, axes = figure_of()
    points = proposal.frontier
    axes.step([p.cost_micros / 1000 for p in points], [p.quality for p in points], where="post", color=BLUE)
    axes.plot([], [], color=BLUE, label="best chains (fitted and measured on the same questions)")
    quality, cost = proposal.quality, proposal.cost_micros
    axes.errorbar(
        cost.mean / 1000, quality.mean, fmt="o", color=ORANGE, capsize=3, label="proposed, on questions not seen",
        xerr=[[(cost.mean - cost.low) / 1000], [(cost.high - cost.mean) / 1000]],
        yerr=[[quality.mean - quality.low], [quality.high - quality.mean]],
    )  # fmt: skip
    if present:
        axes.plot(present.cost_micros / 1000, present.quality, "s", color=GREY, label="at present")
    axes.set(xscale="log", xlabel="cost, US dollars per 1,000 questions (logarithmic)", ylabel="mean quality (0 to 1)")
    axes.legend(frameon=False, loc="lower right")
    return svg_of(figure, command)


def worth_svg(worths: Sequence[Worth], command: str) -> str:
    """What a question costs more without each model, with its interval."""
    figure, axes = figure_of()
    for place, worth in enumerate(worths):
        d = worth.dearer
        axes.errorbar(
            d.mean / 1000, place, xerr=[[(d.mean - d.low) / 1000], [(d.high - d.mean) / 1000]], fmt="o", capsize=3,
            color=BLUE if worth.used else GREY,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(worths)), [worth.model for worth in worths])
    axes.set(xlabel="dearer without it, US dollars per 1,000 questions, 95 % interval", ylabel="model left out")
    return svg_of(figure, command)


def figure_of() -> tuple[Any, Any]:
    """A figure and its axes."""
    from matplotlib.figure import Figure  # here: it takes a while, and only reports draw

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    return figure, axes


def svg_of(figure: Any, command: str) -> str:
    """As text, with the command that made it below."""
    import matplotlib

    figure.text(0.005, -0.03, command, fontsize=7, color=GREY, family="monospace")
    with matplotlib.rc_context({"svg.hashsalt": "cascade", "svg.fonttype": "none"}):
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None}, bbox_inches="tight")
    drawn = held.getvalue()
    return drawn[drawn.index("<svg") :]


def _tiers(chain: Sequence[str], thresholds: Sequence[float]) -> list[str]:
    return [f"{model} (from {limit:.3f})" for model, limit in zip(chain, thresholds, strict=True)]


def _worth(worth: Worth) -> tuple[str, str]:
    if not worth.used:
        return "never asked", "-"
    return _range(worth.dearer, 0.001, 4), _range(worth.worse, 100, 2) + " points"


def _range(of: Estimate, factor: float, places: int) -> str:
    mean, low, high = (each * factor for each in (of.mean, of.low, of.high))
    return f"{mean:.{places}f} ({low:.{places}f} to {high:.{places}f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{top}{''.join(body)}</table>"
