"""What a search for a strategy found, as pictures: on its own page, and where a strategy is written."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils.safestring import SafeString, mark_safe

from cascade import frontier_plot
from cascade.frontier_plot import Point
from cascade.models import Proposal
from cascade.strategy_proposals import Wish

LOOKED_AT = 20  # searches, the newest


def newest_compared(searches: QuerySet[Proposal]) -> Proposal | None:
    """The newest that compared strategies in the market as it is; None: none of the newest did."""
    for proposal in searches.select_related("chatbot").order_by("-created_at")[:LOOKED_AT]:
        if proposal.report.get("frontier") and not Wish(**proposal.wish).hypothetical:
            return proposal
    return None


def plot(proposal: Proposal) -> SafeString | None:
    """The frontier with the present and the proposed strategy on it; None: nothing was compared."""
    report = proposal.report
    if not report.get("frontier"):
        return None
    frontier = [Point(p["cost_micros"] / 1000, p["quality"], p["asks"]) for p in report["frontier"]]
    marks = [
        Point(report[name]["cost_micros"]["mean"] / 1000, report[name]["quality"]["mean"], told)
        for name, told in (("present", f"live v{report['present']['version']}"), ("proposed", "proposed"))
    ]
    title = "Expected quality against cost of 1,000 turns: the best strategies, the live and the proposed one"
    return mark_safe(frontier_plot.svg(frontier, marks, title))  # noqa: S308  every text in it is escaped


def returns(proposal: Proposal) -> SafeString | None:
    """What one, two, three models reach: where another one brings little more."""
    lengths = proposal.report.get("lengths")
    if not lengths:
        return None
    points = [
        Point(each["cost_micros"]["mean"] / 1000, each["quality"]["mean"], f"{each['tiers']} in a row")
        for each in lengths
    ]
    title = "Expected quality against cost of 1,000 turns, of the best one, two, three and four models"
    return mark_safe(frontier_plot.svg([], points, title))  # noqa: S308  every text in it is escaped
