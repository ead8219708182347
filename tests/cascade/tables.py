"""Evaluation tables: random ones for properties, and one in which dearer models know more."""

import numpy as np
from hypothesis import strategies as st

from cascade.learning.table import UNUSABLE, EvaluationTable


def table(score, quality, cost_micros, *, seconds=None, weight=None, segment=None, models=None):
    """From nested lists, one row a question."""
    score, quality, cost = (np.asarray(each, float) for each in (score, quality, cost_micros))
    rows, columns = score.shape
    return EvaluationTable(
        questions=tuple(f"q{i}" for i in range(rows)),
        models=models or tuple(f"m{i}" for i in range(columns)),
        score=score,
        quality=quality,
        cost_micros=cost,
        seconds=np.ones_like(score) if seconds is None else np.asarray(seconds, float),
        weight=np.ones(rows) if weight is None else np.asarray(weight, float),
        segment=tuple(segment or [""] * rows),
    )


def ladder(rows=400, models=4, seed=7, noise=0.6, segment=None):
    """Each model dearer and better than the one before; scores tell right from wrong, with noise."""
    chance = np.random.default_rng(seed)
    hard = chance.normal(size=(rows, 1))
    skill = np.linspace(0.2, 2.0, models)
    right = (skill - hard + chance.normal(size=(rows, models)) * 0.7 > 0).astype(float)
    score = 1 / (1 + np.exp(-(3 * right - 1.5 + chance.normal(size=right.shape) * 3 * noise)))
    cost = 10 * 6.0 ** np.arange(models) * chance.uniform(0.5, 1.5, (rows, models))
    return table(score, right, cost, seconds=cost / 100, segment=segment)


@st.composite
def tables(draw, least=1, most=12, models=(1, 4), missing=False):
    """Few distinct scores, so that ties are common."""
    rows, columns = draw(st.integers(least, most)), draw(st.integers(*models))

    def grid(elements):
        return [draw(st.lists(elements, min_size=columns, max_size=columns)) for _ in range(rows)]

    blank = st.just(float("nan")) if missing else st.nothing()
    return table(
        grid(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0, UNUSABLE]) | blank),
        grid(st.sampled_from([0.0, 0.5, 1.0])),
        grid(st.integers(0, 50).map(float)),
        seconds=grid(st.integers(0, 9).map(float)),
        weight=draw(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=rows, max_size=rows)),
        segment=draw(st.lists(st.sampled_from(["", "trade", "home"]), min_size=rows, max_size=rows)),
    )
