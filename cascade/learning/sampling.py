"""What turns stand for that were only partly recorded: weights by how each came to be known.

A turn whose answer is known whatever was explored counts as itself. One that needed a model which was not asked is
known only if it was drawn for exploring; those that were drawn stand for all that needed it: one over the chance of
being drawn (Horvitz and Thompson, 1952), scaled so that they add up to as many turns as there were (the ratio
estimator of Hajek, 1971, in each stratum: a segment of customers of which enough were drawn, or all others together).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cascade.learning.table import Numbers

Mask = npt.NDArray[np.bool_]
LEAST_DRAWN = 20  # turns of a segment, to stand for its others


def strata(segments: Sequence[str], free: Mask, known: Mask) -> tuple[str, ...]:
    """Each turn's segment where exploring tells enough of it; "" for the others, which are weighed together.

    A segment stands for itself if LEAST_DRAWN of its turns that needed exploring were drawn, or all of them. If of the
    others some needed it and none was drawn, the smallest segments join them, until one was.
    """
    held, needed = np.array(segments, object), ~free
    drawn = known & needed
    size = {name: int((held == name).sum()) for name in set(segments) - {""}}
    kept = [n for n in size if drawn[held == n].sum() >= min(LEAST_DRAWN, needed[held == n].sum())]
    kept.sort(key=lambda name: (-size[name], name))
    while kept:
        others = ~np.isin(held, kept)
        if drawn[others].any() or not needed[others].any():
            break
        kept.pop()
    return tuple(name if name in kept else "" for name in segments)


def weights(free: Mask, known: Mask, chance: Numbers, stratum: Sequence[str]) -> Numbers:
    """(turns,); 0 where nothing is known.

    `free`: known whatever was explored. `known`: known at all. `chance`: of having been drawn, above 0 where a turn is
    known by exploring alone. `stratum`: see `strata`. Where none of those that needed it was drawn, nobody stands for
    them: all their weights are 0, and what is estimated is true of the others only.
    """
    found, held = np.where(free, 1.0, 0.0), np.array(stratum, object)
    for name in set(stratum):
        drawn = known & ~free & (held == name)
        if drawn.any():
            inverse = 1 / chance[drawn]
            found[drawn] = inverse * (~free & (held == name)).sum() / inverse.sum()
    return found
