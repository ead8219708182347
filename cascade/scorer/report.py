"""What a training run gives people to look at: a page of Markdown and three sheets of plots, one panel a slice.

For those who decide whether weights are good enough; programs read the manifest. The same rows and scores give the
same bytes. Scoring the rows is left to the caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.scorer.calibration import expected_error
from cascade.scorer.manifest import Manifest
from cascade.scorer.measuring import SLICES, area, intervals, slice_members
from cascade.scorer.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito's: told apart by the colour-blind too
HISTOGRAM_EDGES = np.linspace(0, 1, 21)
MOST_BINS, ROWS_A_BIN = 15, 20  # of a reliability curve; a bin of fewer rows would show chance
MEANINGS = {
    "all": "every bad answer",
    "right_answer_wrong_user": "right for another customer, wrong for this one",
    "needs_lookup": "of those: told from this customer's records alone",
    "needs_policy": "of those: told from records and rules read together",
    "fact_corrupted": "one fact of a good answer changed",
    "own_record": "of those: changed to what another record of the same customer says",
    "off_topic": "an answer to another question",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One slice: its rows in the order they came."""

    good: np.ndarray  # (rows,) bool
    scores: np.ndarray  # (rows,) in [0, 1]
    blind: np.ndarray  # (rows,) the same rows' scores with nothing known of the customer

    def sides(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scores of the good and those of the bad rows."""
        return scores[self.good], scores[~self.good]

    def area(self, scores: np.ndarray) -> float:
        good, bad = self.sides(scores)
        return area(good.tolist(), bad.tolist())

    @property
    def error(self) -> float:
        return expected_error(self.scores.tolist(), self.good.tolist(), bins_for(len(self.good)))


Panels = Mapping[str, Panel | None]
Ranges = Mapping[str, tuple[float, float] | None]


def write(
    folder: Path, rows: Sequence[Row], scores: Sequence[float], blind: Sequence[float], manifest: Manifest
) -> Path:
    """Write REPORT.md, roc.svg, reliability.svg and histograms.svg into `folder`/report. Returns the page's path.

    `rows` neither trained nor calibrated; `scores` are their served probabilities, `blind` those with the customer
    blanked. Raises ValueError when they are not one for each row or not all in [0, 1].
    """
    for each in (scores, blind):
        if len(each) != len(rows) or not all(0 <= score <= 1 for score in each):
            raise ValueError("a report needs a probability for each row, with the customer and without")
    panels = {name: _panel(rows, scores, blind, name) for name in SLICES}
    report = folder / "report"
    report.mkdir(parents=True, exist_ok=True)
    _sheet(report / "roc.svg", panels, _draw_roc, "bad answers accepted (share)", "good answers accepted (share)")
    _sheet(report / "reliability.svg", panels, _draw_reliability, "score (mean of a bin)", "good answers (share)")
    _sheet(report / "histograms.svg", panels, _draw_histogram, "score", "answers")
    customers = len({row.user_id for row in rows})
    opening = f"{len(rows)} labelled answers of {customers} customers, none of which trained or calibrated it."
    page = _page(opening, panels, (intervals(rows, scores), intervals(rows, blind)), manifest)
    (report / "REPORT.md").write_text(page, encoding="utf-8")
    return report / "REPORT.md"


def _panel(rows: Sequence[Row], scores: Sequence[float], blind: Sequence[float], name: str) -> Panel | None:
    """None: there are no good or no bad rows to compare."""
    good, bad = slice_members(rows, name)
    members = sorted([*good, *bad])
    if not good or not bad:
        return None
    return Panel(*(np.array(column)[members] for column in ([row.good for row in rows], scores, blind)))


def roc(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Shares of (bad, good) answers accepted at each threshold, (thresholds, 2), from none to all.

    Answers of the same score go together, so that the area beneath is `measuring.area`.
    """
    levels, place = np.unique(np.concatenate([good, bad]), return_inverse=True)
    counts = [np.bincount(side, minlength=len(levels))[::-1] for side in (place[len(good) :], place[: len(good)])]
    return np.array([[0, *np.cumsum(count) / count.sum()] for count in counts]).T


def bins_for(rows: int) -> int:
    return max(1, min(MOST_BINS, rows // ROWS_A_BIN))


def reliability(scores: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Bins of equal mass, (bins, 5): rows, mean score, share of good, and that share's 95 % interval (Wilson, 1927)."""
    order, bins, z = np.argsort(scores, kind="stable"), bins_for(len(scores)), 1.96
    parts = zip(np.array_split(scores[order], bins), np.array_split(good[order], bins), strict=True)
    n, score, share = np.array([(len(p), p.mean(), y.mean()) for p, y in parts]).T
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.stack([n, score, share, middle - reach, middle + reach], axis=1)


def histogram(scores: np.ndarray) -> np.ndarray:
    """How many scores lie in each twentieth of [0, 1], both ends included; (20,)."""
    return np.histogram(scores, HISTOGRAM_EDGES)[0]


def _sheet(path: Path, panels: Panels, draw: Callable[[Axes, Panel], str], across: str, up: str) -> None:
    """One SVG, a panel for each slice and the legend in the last place; `draw` returns what stands below the name."""
    import matplotlib  # here: it takes a while, and serving never draws
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "path.simplify_threshold": 0.5,
    }  # long curves stay small
    with matplotlib.rc_context({"svg.hashsalt": "scorer", "svg.fonttype": "none", **look}):
        figure = Figure(figsize=(12, 7), layout="constrained")
        places = list(figure.subplots(2, len(panels) // 2 + 1, sharey=True).flat)
        for place, (name, panel) in zip(places, panels.items(), strict=False):
            told = draw(place, panel) if panel else "no rows"
            place.set(title=f"{name}\n{told}", xlim=(-0.02, 1.02), xticks=(0, 0.5, 1), box_aspect=1)
        for place in places[len(panels) :]:
            place.axis("off")
        drawn = next((place for place in places if place.has_data()), places[-1])
        places[-1].legend(*drawn.get_legend_handles_labels(), loc="center", frameon=False)
        figure.supxlabel(across)
        figure.supylabel(up)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_roc(axes: Axes, panel: Panel) -> str:
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, label="by chance")
    axes.plot(*roc(*panel.sides(panel.blind)).T, "--", color=ORANGE, label="customer blanked")
    axes.plot(*roc(*panel.sides(panel.scores)).T, color=BLUE, label="this scorer")
    axes.set(ylim=(-0.02, 1.02), yticks=(0, 0.5, 1))
    return f"AUC {panel.area(panel.scores):.4f}"


def _draw_reliability(axes: Axes, panel: Panel) -> str:
    _, score, share, low, high = reliability(panel.scores, panel.good).T
    axes.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, label="score = share of good")
    axes.vlines(score, low, high, color=BLUE, alpha=0.5, linewidth=1, label="95 % interval")
    axes.plot(score, share, "o-", color=BLUE, markersize=3.5, linewidth=1, label="bin of equal mass")
    axes.set(ylim=(-0.02, 1.02), yticks=(0, 0.5, 1))
    return f"ECE {panel.error:.4f}, bins: {len(score)}"


def _draw_histogram(axes: Axes, panel: Panel) -> str:
    good, bad = (histogram(side) for side in panel.sides(panel.scores))
    axes.stairs(good, HISTOGRAM_EDGES, fill=True, color=BLUE, alpha=0.45, label="good answers")
    axes.stairs(bad, HISTOGRAM_EDGES, color=ORANGE, linewidth=1.5, label="bad answers")
    axes.set(yscale="log", ylim=(0.7, None))  # a handful on the wrong side is what one looks for
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    return f"{good.sum()} good, {bad.sum()} bad"


def _page(opening: str, panels: Panels, ranges: Sequence[Ranges], manifest: Manifest) -> str:
    told = {name: _figures(panel, *(each[name] for each in ranges)) for name, panel in panels.items()}
    made = {key: value for key, value in asdict(manifest).items() if key not in ("metrics", "files")}
    return "\n".join([
        f"# Scorer {manifest.version}", "", opening, "",
        "## Ranking", "",
        "The AUC is the probability that a good answer outranks a bad one, ties counted half; its 95 % interval comes",
        "from drawing customers again. Blind is the same scorer with nothing known of the customer: where good and bad",
        "answers differ only in whom they are for, it should be near 0.5.", "",
        "| slice | bad answers | rows | AUC | 95 % | blind AUC | 95 % | ECE |", "|" + " --- |" * 8,
        *(f"| {' | '.join((name, MEANINGS.get(name, ''), *cells))} |" for name, cells in told.items()), "",
        _image("ROC curves, one panel a slice, the scorer solid, blind dashed; AUC", told, 1, "roc.svg"), "",
        "## Reliability", "",
        f"Bins of equal mass, at most {MOST_BINS}, of {ROWS_A_BIN} answers or more where there are as many; the ECE is",
        "their mean distance from the diagonal. Scores are calibrated for all rows together: a slice has a share of",
        "good answers of its own, and may lie off the diagonal for that alone. Intervals take answers as independent.",
        "", _image("Share of good answers against score, one panel a slice; ECE", told, 5, "reliability.svg"), "",
        "## Scores", "",
        "How many answers score what, in twentieths, on a logarithmic scale; the less the two overlap the better.", "",
        _image("Histograms of the scores of good and bad answers, one panel a slice", told, 0, "histograms.svg"), "",
        "## How it was made", "",
        "```json", json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False), "```", "",
    ])  # fmt: skip


def _figures(panel: Panel | None, *ranges: tuple[float, float] | None) -> list[str]:
    """Rows, AUC, its interval, blind AUC, its interval, ECE."""
    if panel is None:
        return ["no rows", *["-"] * 5]
    seen, unseen = (f"{panel.area(scores):.4f}" for scores in (panel.scores, panel.blind))
    between, blind_between = (f"{found[0]:.4f} to {found[1]:.4f}" if found else "-" for found in ranges)
    sides = f"{panel.good.sum()} good, {(~panel.good).sum()} bad"
    return [sides, seen, between, unseen, blind_between, f"{panel.error:.4f}"]


def _image(alt: str, told: Mapping[str, Sequence[str]], column: int, plot: str) -> str:
    return f"![{alt}: {'; '.join(f'{name} {cells[column]}' for name, cells in told.items())}.]({plot})"
