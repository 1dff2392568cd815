"""A chart as plain values: what is drawn for paper by matplotlib, and on the page by its script, from the same figures.

A section of the page shows a chart with the macro `chart` of `html/sections/chart.html`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from voxward.core.structure import to_data
from voxward.metrics.summary import Summary
from voxward.report.html.strings import STRINGS, count
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, number_text

_SHOWN_COLUMNS = 9
_TOLD_LINES = 4


@dataclass(frozen=True)
class Point:
    """One figure of a line.

    Attributes:
        x: Where it is.
        y: The figure; None where there is none, and the line has a gap.
        low: The lower end of its interval; None without one.
        high: The upper end of its interval; None without one.
        n: The number of cases that it is over; None where that is not said.
    """

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @classmethod
    def of(cls, x: float, summary: Summary | None) -> Point:
        """Return the mean over cases at a place, with its interval; one case has none.

        Args:
            x: The place.
            summary: The figure over cases; None where there is none.
        """
        if summary is None:
            return cls(x, None)
        low, high = (summary.low, summary.high) if summary.n > 1 else (None, None)
        return cls(x, summary.mean, low, high, summary.n)


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Attributes:
        name: What it is called, such as the name of a system.
        points: Its figures, x ascending.
        colour: Its place in `palette.LINES`, which begins again at their end.
        dash: Its place in `palette.DASHES`.
        shown: Whether it is drawn on paper, and on the page before a reader chooses.
        kind: What it is of several lines with this name; on the page a reader hides or shows all lines of one kind.
        figure: A figure of the whole line, which stands behind its name, such as "AUC 0.531".
    """

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    dash: int = 0
    shown: bool = True
    kind: str = ""
    figure: str = ""

    @property
    def label(self) -> str:
        """The name and the kind."""
        return f"{self.name}: {self.kind}" if self.kind else self.name

    @property
    def told(self) -> str:
        """The name and the kind, and the figure of the whole line."""
        return f"{self.label} ({self.figure})" if self.figure else self.label

    def at(self, x: float, steps: bool) -> Point | None:
        """Return the figure at a place.

        Args:
            x: The place.
            steps: Whether a figure holds until the next one.
        """
        if steps:
            return next((point for point in reversed(self.points) if point.x <= x), None)
        return next((point for point in self.points if point.x == x), None)

    def data(self) -> dict[str, Any]:
        """Return the line as plain data for the script of charts."""
        points = [[point.x, point.y, point.low, point.high, point.n] for point in self.points]
        return {
            "name": self.name, "kind": self.kind, "label": self.label, "colour": self.colour, "dash": self.dash,
            "shown": self.shown, "figure": self.figure, "points": points,
        }  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """Lines that are drawn together, such as those of one class.

    Attributes:
        name: What it is called.
        lines: The lines.
        shown: Whether it is drawn on paper. On the page a reader chooses one panel.
    """

    name: str
    lines: tuple[Line, ...]
    shown: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        name: What it shows, with the unit.
        ticks: The places that have a name of their own, such as (8 / 255, "8/255"), ascending; empty: round numbers.
        logarithmic: Whether it is logarithmic. Then it must show values above 0 only.
        limits: Its ends; None: those of the figures.
    """

    name: str
    ticks: tuple[tuple[float, str], ...] = ()
    logarithmic: bool = False
    limits: tuple[float, float] | None = None

    def text(self, value: float) -> str:
        """Return a place on the axis as text."""
        return next((text for place, text in self.ticks if place == value), f"{value:.6g}")


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: The name of its files, and of its place on the page.
        title: What it shows, in one line.
        x: The axis to the right.
        y: The axis upwards.
        panels: Its panels; the page shows the first one until a reader chooses another.
        choice: What a panel is, such as "Class".
        steps: Whether a figure holds until the next one, so that a line goes in steps.
        notes: What must be said about it, a sentence each.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]
    choice: str = STRINGS["charts"]["panel"]
    steps: bool = False
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """What the first panel says, for a reader who does not see it."""
        panel = self.panels[0]
        lines = [line for line in panel.lines if line.shown and line.points]
        told = [self._told(line) for line in lines[:_TOLD_LINES]]
        left = len(lines) - _TOLD_LINES
        more = [count("charts", "more_lines", left)] if left > 0 else []
        return " ".join([f"{self.title}. {panel.name}.", *told, *more])

    def table(self) -> Table:
        """Return the figures as a table: a row per line, a column per place on the x axis, or per some of many."""
        words = STRINGS["charts"]
        places = self._places()
        lines = [(panel.name, line) for panel in self.panels for line in panel.lines]
        rows = tuple(
            Row((name, line.told, *(point_text(line.at(x, self.steps)) for x in places))) for name, line in lines
        )
        headings = (self.choice, words["line"])
        columns = (*(Column(name, "left") for name in headings), *(Column(self.x.text(x)) for x in places))
        notes = (words["columns"].format(x=self.x.name, y=self.y.name),)
        return Table(columns, rows, self.title, notes=notes, fields=(), data=())

    def csv(self) -> str:
        """Return all figures at full precision as CSV, a row per figure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("panel", "line", "x", "y", "low", "high", "cases"))
        for panel in self.panels:
            for line in panel.lines:
                writer.writerows(self._row(panel, line, point) for point in line.points)
        return text.getvalue()

    def data(self) -> dict[str, Any]:
        """Return the chart as plain data for its script; a point is x, y, low, high, number of cases."""
        return {
            "name": self.name, "title": self.title, "steps": self.steps, "x": to_data(self.x), "y": to_data(self.y),
            "panels": [
                {"name": panel.name, "lines": [line.data() for line in panel.lines]} for panel in self.panels
            ],
        }  # fmt: skip

    def _row(self, panel: Panel, line: Line, point: Point) -> tuple[Value, ...]:
        return (panel.name, line.label, point.x, point.y, point.low, point.high, point.n)

    def _places(self) -> list[float]:
        """All places on the x axis, or a few of many: the first, the last, and some between."""
        found = {point.x for panel in self.panels for line in panel.lines for point in line.points}
        places = sorted(found)
        if len(places) <= _SHOWN_COLUMNS:
            return places
        step = (len(places) - 1) / (_SHOWN_COLUMNS - 1)
        return sorted({places[round(number * step)] for number in range(_SHOWN_COLUMNS)})

    def _told(self, line: Line) -> str:
        known = [point for point in line.points if point.y is not None]
        if not known:
            return STRINGS["charts"]["no_figure"].format(line=line.label)
        chosen = known if len(known) <= _TOLD_LINES else [known[0], known[len(known) // 2], known[-1]]
        told = (
            STRINGS["charts"]["told"].format(value=number_text(point.y), x=self.x.text(point.x)) for point in chosen
        )
        return f"{line.told}: {', '.join(told)}."


def point_text(point: Point | None) -> str:
    """Return a figure as text, with its interval: "0.437 [0.31, 0.56]"."""
    if point is None or point.y is None:
        return UNDEFINED
    if point.low is None or point.high is None:
        return number_text(point.y)
    return f"{number_text(point.y)} [{number_text(point.low, 2)}, {number_text(point.high, 2)}]"
