"""The Dice over the severity of each corruption, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.metrics.summary import summarise
from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.html.strings import STRINGS
from voxward.report.palette import LINES
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.record import Record


def dice_over_severity(records: Sequence[Record], name: str = "dice-over-severity") -> Chart:
    """Return the mean Dice over the severity: a panel for each system, a line for each corruption.

    Args:
        records: All records, of which some are of corruptions above severity 0.
        name: The name of the chart.
    """
    view, words = CorruptionView(records), STRINGS["corruptions"]
    ticks = tuple((float(severity), str(severity)) for severity in (0, *view.severities))
    panels = tuple(
        Panel(model, tuple(_line(view, model, one, place) for place, one in enumerate(view.corruptions)))
        for model in view.models
    )
    return Chart(
        name, words["chart"], Axis(words["axis"], ticks), Axis(STRINGS["charts"]["dice"], limits=(0.0, 1.0)), panels,
        choice=words["system"], notes=(words["chart_note"], STRINGS["charts"]["bands"]),
    )  # fmt: skip


def _line(view: CorruptionView, model: str, corruption: str, place: int) -> Line:
    """The clean cases are severity 0."""
    clean = summarise([*view.clean(model).values()])
    found = [(severity, summarise([*view.dice(model, corruption, severity).values()])) for severity in view.severities]
    points = (Point.of(0.0, clean), *(Point.of(float(severity), one) for severity, one in found))
    return Line(corruption, points, place % len(LINES), place // len(LINES))
