"""Quality against cost as an inline SVG: the frontier, and single strategies beside it. All text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 20, 52  # margins
TICKS = 5  # about so many on an axis


@dataclass(frozen=True, slots=True)
class Point:
    """One strategy."""

    cost: float  # US dollars for 1,000 turns
    quality: float  # mean, 0..1
    name: str  # shown beside a mark, or when pointed at


@dataclass(frozen=True, slots=True)
class Axis:
    """From data to pixels."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        """Round numbers, 1, 2 or 5 times a power of ten apart."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def svg(frontier: Sequence[Point], marks: Sequence[Point], title: str) -> str:
    """`frontier`: cheapest first, joined by a line; `marks`: each with its name. Needs a point."""
    every = [*frontier, *marks]
    x = _axis([0.0, *(p.cost for p in every)], LEFT, WIDTH - RIGHT)
    y = _axis([100 * p.quality for p in every], HEIGHT - BOTTOM, TOP)
    places = [(x.at(p.cost), y.at(100 * p.quality), p) for p in frontier]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in places)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"',
        ' font-size="12" fill="currentColor">',
        *_axes(x, y),
        f'<polyline points="{line}" fill="none" stroke="#7c3aed" stroke-width="2"/>',
        *(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="#7c3aed"><title>{_told(p)}</title></circle>'
            for px, py, p in places
        ),
        *(_mark(x.at(p.cost), y.at(100 * p.quality), p, n) for n, p in enumerate(marks)),
        "</svg>",
    ]
    return "\n".join(parts)


def _axis(values: Sequence[float], begin: float, end: float) -> Axis:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 1e-9)
    return Axis(low - (room if low else 0.0), high + room, begin, end)


def _axes(x: Axis, y: Axis) -> list[str]:
    grid = 'stroke="currentColor" stroke-opacity="0.15"'
    found = [f'<line x1="{x.at(t):.1f}" x2="{x.at(t):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" {grid}/>' for t in x.ticks]
    found += [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(t):.1f}" y2="{y.at(t):.1f}" {grid}/>' for t in y.ticks]
    found += [f'<text x="{x.at(t):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{t:g}</text>' for t in x.ticks]
    found += [f'<text x="{LEFT - 8}" y="{y.at(t) + 4:.1f}" text-anchor="end">{t:g}</text>' for t in y.ticks]
    middle, half = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    found.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">cost of 1,000 turns, US dollars</text>')
    found.append(
        f'<text x="16" y="{half}" text-anchor="middle" transform="rotate(-90 16 {half})">'
        "expected quality, per cent</text>"
    )
    return found


def _mark(px: float, py: float, point: Point, number: int) -> str:
    colour = ("#b45309", "#15803d")[number % 2]
    left = px > WIDTH * 0.6
    aside = f'x="{px + (-11 if left else 11):.1f}" text-anchor="{"end" if left else "start"}"'
    below = py + (22 if number % 2 else -10)  # two marks at one place stay legible
    return (
        f'<g><circle cx="{px:.1f}" cy="{py:.1f}" r="6" fill="{colour}" stroke="#fff" stroke-width="1.5">'
        f"<title>{_told(point)}</title></circle>"
        f'<text {aside} y="{below:.1f}" font-weight="600">{escape(point.name)}</text></g>'
    )


def _told(point: Point) -> str:
    return escape(f"{point.name}: ${point.cost:.4g} for 1,000 turns, {100 * point.quality:.1f} %")
