"""What turns stand for that were only partly recorded: weights by how each came to be known.

A turn whose answer is known whatever was explored counts as itself. One that needed a model which was not asked is
known only if it was drawn for exploring; those that were drawn stand for all that needed it: one over the chance of
being drawn (Horvitz and Thompson, 1952), scaled so that they add up to as many turns as there were (the ratio
estimator of Hajek, 1971, in each of the two strata).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cascade.learning.table import Numbers

Mask = npt.NDArray[np.bool_]


def weights(free: Mask, known: Mask, chance: Numbers) -> Numbers:
    """(turns,); 0 where nothing is known.

    `free`: known whatever was explored. `known`: known at all. `chance`: of having been drawn, above 0 where a turn is
    known by exploring alone. Where none of those that needed it was drawn, nobody stands for them: all their weights
    are 0, and what is estimated is true of the others only.
    """
    found = np.where(free, 1.0, 0.0)
    drawn = known & ~free
    if drawn.any():
        inverse = 1 / chance[drawn]
        found[drawn] = inverse * (~free).sum() / inverse.sum()
    return found
