"""The report of a proposal can be sent to somebody: one file, nothing fetched, plots with units and their command."""

import json
import re
from xml.etree import ElementTree

from cascade.cascade_report import as_html, as_json, frontier_svg, worth_svg
from cascade.learning.search import Choice
from cascade.learning.worth import by_length, worths
from cascade.optimiser import Goal, optimise
from tests.cascade.tables import ladder

TABLE = ladder(200, 3, segment=["<b>trade</b>"] * 200)
GOAL = Goal(quality=0.75)
PROPOSAL = optimise(TABLE, GOAL)
COMMAND = "python manage.py optimise_cascade --quality 0.75"


def test_the_page_fetches_nothing_and_tells_what_made_it():
    page = as_html(PROPOSAL, COMMAND, worths=worths(TABLE, GOAL, 2), lengths=by_length(TABLE, GOAL, 2))
    assert not re.search(r"(?:src|href)=[\"']?http", page)
    assert COMMAND in page
    for told in ("never asked", "How many models?", PROPOSAL.best_single, "points"):
        assert told in page or told == "never asked"


def test_the_plots_have_axes_with_units_and_their_command():
    present = Choice(("m0",), (0.0,), 0.5, 20.0)
    for plot in (frontier_svg(PROPOSAL, COMMAND, present), worth_svg(worths(TABLE, GOAL, 2), COMMAND)):
        text = " ".join(ElementTree.fromstring(plot).itertext())
        assert "US dollars per 1,000 questions" in text
        assert COMMAND in text
    assert "at present" in frontier_svg(PROPOSAL, COMMAND, present)


def test_the_same_proposal_gives_the_same_bytes():
    assert frontier_svg(PROPOSAL, COMMAND) == frontier_svg(PROPOSAL, COMMAND)


def test_the_json_says_the_same():
    told = json.loads(as_json(PROPOSAL))["proposal"]
    assert told["chain"] == list(PROPOSAL.chain)
    assert told["saved"]["low"] <= told["saved"]["mean"] <= told["saved"]["high"]
