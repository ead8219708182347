"""Plots of what was measured, as SVG: cost in US dollars per 1,000 questions, quality from 0 to 1.

Every plot says which command made it; the same figures give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from cascade.learning.intervals import Estimate
from cascade.learning.worth import Length, Worth

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito's: told apart by the colour-blind too


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


def lengths_svg(lengths: Sequence[Length], command: str) -> str:
    """What the best of one model, of two in a row, of three costs and reaches, with intervals."""
    figure, axes = figure_of()
    alike: dict[tuple[Estimate, Estimate], list[str]] = {}  # a further model may change nothing
    for each in lengths:
        alike.setdefault((each.cost_micros, each.quality), []).append(f"{each.tiers}")
    for (cost, quality), tiers in alike.items():
        axes.errorbar(
            cost.mean / 1000, quality.mean, fmt="o", capsize=3, color=BLUE,
            xerr=[[(cost.mean - cost.low) / 1000], [(cost.high - cost.mean) / 1000]],
            yerr=[[quality.mean - quality.low], [quality.high - quality.mean]],
        )  # fmt: skip
        axes.annotate(", ".join(tiers), (cost.mean / 1000, quality.mean), xytext=(6, 6), textcoords="offset points")
    axes.set(xlabel="cost, US dollars per 1,000 questions, 95 % interval", ylabel="mean quality (0 to 1)",
             title="The best chains of so many models at most")  # fmt: skip
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
