"""Drift on the admin pages: each week's readings, and one measure's weeks with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString, mark_safe
from unfold.decorators import display

from accounts.staff_pages import BOOKS, TenantAdmin
from cascade.drift_plot import Week, svg
from cascade.models import DriftReading
from cascade.templatetags.learning import per_thousand, percent

SHOWN_WEEKS = 26
SHARES = (DriftReading.Measure.ACCEPTED, DriftReading.Measure.LABELLED)


@admin.register(DriftReading)
class DriftReadingPage(TenantAdmin):
    """What a week came to beside the weeks before; an event where it left its band."""

    seen_by = BOOKS
    list_display = ("week", "chatbot", "who", "measure", "came_to", "band", "in_band", "turns")
    list_filter = ("out_of_band", "chatbot", "measure", "segment")
    list_select_related = ("chatbot",)
    ordering = ("-week", "chatbot", "segment", "measure")
    list_before_template = "admin/cascade/drift_note.html"
    change_form_template = "admin/cascade/drift.html"

    @display(description="customers", ordering="segment")
    def who(self, reading: DriftReading) -> str:
        return reading.segment or "all"

    @display(description="came to")
    def came_to(self, reading: DriftReading) -> str:
        return told(reading.measure, reading.value)

    @display(description="band")
    def band(self, reading: DriftReading) -> str:
        return f"{told(reading.measure, reading.low)} to {told(reading.measure, reading.high)}"

    @display(description="in its band", boolean=True, ordering="out_of_band")
    def in_band(self, reading: DriftReading) -> bool:
        return not reading.out_of_band

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        reading = cast(DriftReading | None, self.get_object(request, object_id))
        shown: dict[str, Any] = {"reading": reading}
        if reading:
            same = DriftReading.objects.filter(
                chatbot=reading.chatbot_id, segment=reading.segment, measure=reading.measure, week__lte=reading.week
            )
            weeks = list(same.order_by("-week")[:SHOWN_WEEKS])[::-1]
            shown |= {
                "plot": plot(reading, weeks),
                "weeks": [
                    (w, *(told(w.measure, value) for value in (w.reference, w.low, w.high, w.value)))
                    for w in reversed(weeks)
                ],
            }
        return super().change_view(request, object_id, form_url, shown | (extra_context or {}))


def told(measure: str, value: float) -> str:
    if measure in SHARES:
        return percent(value)
    return per_thousand(value) if measure == DriftReading.Measure.COST else f"{value:.3f} apart"


def plot(reading: DriftReading, weeks: Sequence[DriftReading]) -> SafeString:
    unit, factor = {
        DriftReading.Measure.COST: ("cost of 1,000 turns, US dollars", 1 / 1000),
        DriftReading.Measure.SCORES: ("distance from the weeks before, 0 to 1", 1.0),
    }.get(cast(Any, reading.measure), ("share of turns, per cent", 100.0))
    shown = [Week(w.week, w.value * factor, w.low * factor, w.high * factor, w.out_of_band) for w in weeks]
    return mark_safe(svg(shown, unit, f"{reading.get_measure_display()}, week by week"))  # noqa: S308  all escaped
