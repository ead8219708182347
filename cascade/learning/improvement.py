"""How good a range of trade-offs is, in one number: AIQ, average improvement in quality (RouterBench, Hu et al., 2024).

The area below the least concave, never falling line over a method's points, divided by the range of cost. Between two
points lies what a coin between them would reach, so that no method is punished for points that nobody would take.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]  # mean cost, mean quality


def aiq(points: Sequence[Point], low: float, high: float) -> float:
    """Mean height of the line from cost `low` to `high`; left of its first point it has that point's quality."""
    if not low < high:
        return max(quality for _, quality in points)
    line = hull(points)
    costs, qualities = (np.array(column) for column in zip(*line, strict=True))
    at = np.unique(np.concatenate([[low, high], costs[(costs > low) & (costs < high)]]))
    return float(np.trapezoid(np.interp(at, costs, qualities), at) / (high - low))


def hull(points: Sequence[Point]) -> list[Point]:
    """Cheapest first; rising, and ever less steeply."""
    found: list[Point] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if found and quality <= found[-1][1]:
            continue
        while len(found) > 1 and _steep(found[-2], found[-1]) <= _steep(found[-1], (cost, quality)):
            found.pop()
        found.append((cost, quality))
    return found


def _steep(a: Point, b: Point) -> float:
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else float("inf")
