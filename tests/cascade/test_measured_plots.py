"""A plot of measured figures says what it shows, in which units, and what made it."""

from xml.etree import ElementTree

from cascade.learning.worth import worths
from cascade.measured_plots import worth_svg
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
