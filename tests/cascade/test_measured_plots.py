"""A plot of measured figures says what it shows, in which units, and what made it."""

from xml.etree import ElementTree

from cascade.learning.intervals import Estimate
from cascade.learning.worth import Length, worths
from cascade.measured_plots import lengths_svg, worth_svg
from cascade.optimiser import Goal
from tests.cascade.tables import ladder

COMMAND = "python -m bench.worth --data FILE"


def test_a_plot_has_axes_with_units_and_its_command_and_the_same_figures_give_the_same_bytes():
    found = worths(ladder(200, 3), Goal(quality=0.75), 2)
    plot = worth_svg(found, COMMAND)
    text = " ".join(ElementTree.fromstring(plot).itertext())
    assert "US dollars per 1,000 questions" in text
    assert COMMAND in text
    assert plot == worth_svg(found, COMMAND)


def test_a_further_model_that_changes_nothing_stands_beside_the_one_before():
    one, two = (Estimate(mean, mean - 0.1, mean + 0.1) for mean in (0.6, 0.7))
    plot = lengths_svg([Length(1, one, one), Length(2, two, two), Length(3, two, two)], COMMAND)
    assert ">2, 3</text>" in plot
