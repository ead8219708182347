"""The report of a training run: right curves and bins, every slice told of, the same bytes for the same run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.scorer import report
from cascade.scorer.calibration import Calibration, expected_error
from cascade.scorer.manifest import Manifest
from cascade.scorer.measuring import SLICES, area, areas
from cascade.scorer.rows import row_of
from tests.cascade.small_scorer import small_rows

MADE = Manifest(
    "0123456789ab", 3, 128, Calibration(0.5, 0.25), {"epochs": 3, "head": {"seed": 7}},
    {"files": ["made-up.jsonl"], "sha256": "feed"}, "cafe", {}, {},
)  # fmt: skip
PLOTS = ("roc.svg", "reliability.svg", "histograms.svg")
FEW = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=1, max_size=30).map(np.array)


@pytest.fixture(scope="module")
def rows():
    """Wrong-customer look-ups and a few answers off the topic; nothing of the other slices."""
    found = [row_of(columns) for columns in small_rows()]
    return [
        row if row.good or n % 5 else replace(row, negative_type="off_topic", needs=None) for n, row in enumerate(found)
    ]


@pytest.fixture(scope="module")
def page(rows, tmp_path_factory):
    return report.write(tmp_path_factory.mktemp("weights"), rows, *made_up(rows), MADE)


def made_up(rows, seed=3):
    """Scores of a fair scorer, and of one that does not see the customer."""
    chance = np.random.default_rng(seed)
    seen = [float(np.clip(chance.normal(0.7 if row.good else 0.3, 0.2), 0, 1)) for row in rows]
    return seen, chance.random(len(rows)).tolist()


def line_of(page, name):
    (line,) = re.findall(rf"^\| {name} \|(.*)\|$", page, re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


def written(path):
    return " ".join(ElementTree.parse(path).getroot().itertext())


@given(FEW, FEW)
def test_the_area_beneath_the_curve_is_the_auc(good, bad):
    across, up = report.roc(good, bad).T
    assert np.trapezoid(up, across) == pytest.approx(area(good, bad))
    assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
    assert (np.diff(across) >= 0).all()
    assert (np.diff(up) >= 0).all()


def test_a_perfect_scorers_curve_goes_through_the_corner_and_a_reversed_ones_through_the_other():
    good, bad = np.array([0.9, 0.8]), np.array([0.1, 0.2, 0.3])
    assert [0.0, 1.0] in report.roc(good, bad).tolist()
    assert [1.0, 0.0] in report.roc(bad, good).tolist()


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=400, unique_by=lambda it: it[0]))
def test_every_row_is_in_one_bin_and_the_bins_give_the_calibration_error(rows):
    scores, good = np.array([n / 1000 for n, _ in rows]), np.array([is_good for _, is_good in rows])
    n, score, share, low, high = report.reliability(scores, good).T
    assert n.sum() == len(rows)
    assert n.max() - n.min() <= 1
    assert len(n) == 1 or n.min() >= report.ROWS_A_BIN
    assert len(n) <= report.MOST_BINS
    assert share @ n == pytest.approx(good.sum())
    assert (low <= share + 1e-9).all()
    assert (share <= high + 1e-9).all()
    error = expected_error(scores.tolist(), good.tolist(), len(n))
    assert n @ abs(share - score) / n.sum() == pytest.approx(error)


def test_the_interval_of_a_bins_share_is_wilsons():
    ((_, _, share, low, high),) = report.reliability(np.full(10, 0.5), np.array([True] * 8 + [False] * 2))
    assert (share, low, high) == (0.8, pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


@given(st.lists(st.floats(0, 1), max_size=50))
def test_a_histogram_leaves_no_score_out(scores):
    counts = report.histogram(np.array(scores))
    assert counts.sum() == len(scores)
    assert len(counts) == 20


def test_the_page_gives_each_slices_rows_areas_and_error(rows, page):
    scores, blind = made_up(rows)
    assert page.parts[-2:] == ("report", "REPORT.md")
    _, sides, seen, between, unseen, _, error = line_of(page.read_text(), "all")
    assert sides == "40 good, 40 bad"
    assert seen == f"{areas(rows, scores)['all']:.4f}"
    low, high = map(float, between.split(" to "))
    assert low < float(seen) < high
    assert unseen == f"{areas(rows, blind)['all']:.4f}"
    assert error == f"{expected_error(scores, [row.good for row in rows], report.bins_for(len(rows))):.4f}"


def test_a_slice_is_held_against_the_good_rows_of_its_own_groups(page):
    assert line_of(page.read_text(), "needs_lookup")[1] == "32 good, 32 bad"
    assert line_of(page.read_text(), "off_topic")[1] == "40 good, 8 bad"


def test_a_slice_without_rows_is_said_to_have_none(rows, page):
    assert line_of(page.read_text(), "own_record")[1:] == ["no rows", *["-"] * 5]
    missing = [name for name, value in areas(rows, made_up(rows)[0]).items() if value is None]
    assert missing == ["needs_policy", "fact_corrupted", "own_record"]
    for plot in PLOTS:
        assert written(page.parent / plot).count("no rows") == len(missing)


def test_a_run_with_nothing_to_report_says_so(tmp_path):
    page = report.write(tmp_path, [], [], [], MADE).read_text()
    assert all(line_of(page, name)[1] == "no rows" for name in SLICES)


def test_the_page_tells_how_the_weights_were_made(page):
    text = page.read_text()
    assert text.startswith("# Scorer 0123456789ab\n")
    made = json.loads(text.split("```json")[1].split("```")[0])
    assert (made["git_revision"], made["data"], made["config"]) == (MADE.git_revision, MADE.data, MADE.config)
    assert made["calibration"] == {"scale": 0.5, "shift": 0.25}


def test_every_plot_is_shown_with_words_for_those_who_cannot_see_it(page):
    shown = dict(re.findall(r"^!\[(.+)\]\((.+)\)$", page.read_text(), re.MULTILINE))
    assert sorted(shown.values()) == sorted(PLOTS)
    for alt, plot in shown.items():
        assert all(name in alt and name in written(page.parent / plot) for name in SLICES)


def test_the_same_run_gives_the_same_bytes_and_small_files(rows, page, tmp_path):
    again = report.write(tmp_path, rows, *made_up(rows), MADE)
    for name in (*PLOTS, "REPORT.md"):
        read = (page.parent / name).read_bytes()
        assert read == (again.parent / name).read_bytes()
        assert len(read) <= 100_000


@pytest.mark.parametrize("broken", [[0.5], [1.5] * 80, [float("nan")] * 80])
def test_scores_that_are_no_probabilities_of_these_rows_are_refused(rows, tmp_path, broken):
    fine = [0.5] * len(rows)
    for scores, blind in ((broken, fine), (fine, broken)):
        with pytest.raises(ValueError, match="a probability for each row"):
            report.write(tmp_path, rows, scores, blind, MADE)
    assert not list(tmp_path.iterdir())


def test_every_slice_is_explained():
    assert set(report.MEANINGS) == set(SLICES)


def test_serving_does_not_load_the_plotting_library():
    script = "import sys, cascade.scorer.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
