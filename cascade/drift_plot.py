"""One measure week by week, with the band that it was to stay in, as an inline SVG. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from cascade.frontier_plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis

MOST_NAMED = 8  # weeks under the axis


@dataclass(frozen=True, slots=True)
class Week:
    monday: date
    value: float
    low: float
    high: float
    out_of_band: bool


def svg(weeks: Sequence[Week], unit: str, title: str) -> str:
    """Oldest first; at least one."""
    every = [value for week in weeks for value in (week.value, week.low, week.high)]
    room = (max(every) - min(every)) * 0.08 or max(abs(every[0]) * 0.1, 1e-9)
    y = Axis(min(every) - room, max(every) + room, HEIGHT - BOTTOM, TOP)
    x = Axis(-0.5, len(weeks) - 0.5, LEFT, WIDTH - RIGHT)
    half, step = (TOP + HEIGHT - BOTTOM) / 2, -(-len(weeks) // MOST_NAMED)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"',
        ' font-size="12" fill="currentColor">',
    ]
    for tick in y.ticks:
        at = f"{y.at(tick):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" stroke="currentColor"')
        parts.append(f' stroke-opacity="0.15"/><text x="{LEFT - 8}" y="{at}" dy="4" text-anchor="end">{tick:g}</text>')
    for place, week in enumerate(weeks):
        parts += _week(x.at(place), y, week, named=(len(weeks) - 1 - place) % step == 0)
    parts.append(
        f'<text x="16" y="{half}" text-anchor="middle" transform="rotate(-90 16 {half})">{escape(unit)}</text>'
    )
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">week of</text></svg>')
    return "\n".join(parts)


def _week(at: float, y: Axis, week: Week, *, named: bool) -> list[str]:
    colour = "#b45309" if week.out_of_band else "#7c3aed"
    top, bottom = y.at(week.high), y.at(week.low)
    verdict = "out of its band" if week.out_of_band else "in its band"
    parts = [
        f'<rect x="{at - 9:.1f}" width="18" y="{top:.1f}" height="{bottom - top:.1f}" rx="3" fill="#7c3aed"',
        ' fill-opacity="0.18"/>',
        f'<circle cx="{at:.1f}" cy="{y.at(week.value):.1f}" r="5" fill="{colour}">',
        f"<title>{week.monday}: {week.value:.4g}, {verdict}</title></circle>",
    ]
    if named:
        day = f"{week.monday:%d %b}"
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{day}</text>')
    return parts
