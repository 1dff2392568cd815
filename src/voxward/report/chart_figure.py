"""A chart on paper: matplotlib figures of it as PNG, SVG and PDF, and the SVG that stands in the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from voxward.report.chart import Axis, Chart, Line, Panel
from voxward.report.palette import DASHES, line_colour
from voxward.report.style import COLUMN_INCHES, PAGE_INCHES, save, shortened, styled, write

_COLUMNS = 4
_LETTER_INCHES = 0.062
_TICK_INCHES = 0.44
_NAME_LENGTH = 40
# A name may hold such characters; a file of XML may not.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


def write_chart(chart: Chart, path: Path) -> None:
    """Write a chart as PNG, SVG or PDF, by the path's suffix.

    Args:
        chart: The chart; those of its panels and lines are drawn that are shown without a choice.
        path: The file.
    """
    save(chart_figure(chart), path)


@styled()
def chart_figure(chart: Chart, titled: bool = True) -> Any:
    """Return a chart as a matplotlib figure in the style of voxward.

    Args:
        chart: The chart; those of its panels and lines are drawn that are shown without a choice.
        titled: Whether its title stands above it.
    """
    from matplotlib.figure import Figure

    panels = [panel for panel in chart.panels if panel.shown] or list(chart.panels[:1])
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    width = COLUMN_INCHES if columns == 1 else PAGE_INCHES
    lines = _named(panels)
    across = _legend_columns([name for name, _ in lines], width)
    legend = len(lines) > 1 or any(line.figure for _, line in lines)
    below = 0.15 * math.ceil(len(lines) / across) + 0.1 if legend else 0.0
    above = rows * (min(0.78 * width / columns, 2.6) + 0.25) + 0.3
    figure: Any = Figure(figsize=(width, above + below), layout="constrained")
    # The legend has a place of its own, where it covers neither figures nor names.
    upper, lower = figure.subfigures(2, 1, height_ratios=(above, below)) if below else (figure, None)
    axes = list(upper.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for unused in axes[len(panels) :]:
        unused.remove()
    if titled:
        upper.suptitle(shortened(chart.title, int(width / _LETTER_INCHES * 0.9)))
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        _draw_panel(axis, panel, chart, width / columns)
        axis.set_ylabel(chart.y.name if place % columns == 0 else "")
    upper.supxlabel(chart.x.name, fontsize="medium")
    if lower is not None:
        handles, names = [_handle(line) for _, line in lines], [name for name, _ in lines]
        lower.legend(handles, names, loc="center", ncols=across)
    return figure


def inline_svg(chart: Chart) -> Markup:
    """Return a chart as an SVG element that can stand in a page beside others.

    Args:
        chart: The chart. Its name, which is unique on the page, stands before all ids.
    """
    return Markup(_inlined(figure_svg(chart_figure(chart, titled=False)), chart.name, chart.title))


def figure_svg(figure: Any) -> bytes:
    """Return a matplotlib figure as the content of an SVG file.

    Args:
        figure: The figure.
    """
    stream = io.BytesIO()
    write(figure, stream, "svg")
    return _NO_XML.sub("\ufffd", stream.getvalue().decode("utf-8")).encode("utf-8")


def _inlined(svg: bytes, prefix: str, title: str) -> str:
    """An SVG file as an element of a page: its ids and its style concern nothing else there."""
    for name, space in (("", _SVG), ("xlink", _XLINK)):
        ElementTree.register_namespace(name, space)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        for name, value in element.attrib.items():
            element.set(name, _prefixed(name, value, prefix))
    root.attrib |= {"role": "img", "aria-label": title, "style": "stroke-linejoin: round; stroke-linecap: butt"}
    return ElementTree.tostring(root, encoding="unicode")


def _prefixed(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == f"{{{_XLINK}}}href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}-")


def _draw_panel(axis: Any, panel: Panel, chart: Chart, inches: float) -> None:
    for line in panel.lines:
        if line.shown:
            _draw_line(axis, line, chart.steps)
    axis.set_title(shortened(panel.name, int(inches / _LETTER_INCHES * 0.85)))
    axis.grid(True)
    _dress(axis.xaxis, chart.x, inches - 0.5)
    _dress(axis.yaxis, chart.y, math.inf)
    for which, side in ((chart.x, axis.set_xlim), (chart.y, axis.set_ylim)):
        if which.limits is not None:
            side(*which.limits)


def _draw_line(axis: Any, line: Line, steps: bool) -> None:
    style = _style(line)
    if len(line.points) <= 40 and not steps:
        style |= {"marker": "o"}
    x = [point.x for point in line.points]
    kind = "steps-post" if steps else "default"
    y = [math.nan if point.y is None else point.y for point in line.points]
    axis.plot(x, y, drawstyle=kind, clip_on=False, **style)
    known = [point for point in line.points if point.low is not None and point.high is not None]
    if known:
        low, high = [point.low for point in known], [point.high for point in known]
        axis.fill_between([point.x for point in known], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _style(line: Line) -> dict[str, Any]:
    dash = DASHES[line.dash % len(DASHES)]
    return {"color": line_colour(line.colour).light, "linestyle": (0, dash) if dash else "solid"}


def _handle(line: Line) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **_style(line))


def _dress(axis: Any, which: Axis, inches: float) -> None:
    """Scale and ticks of one axis; names of ticks that would touch each other are left out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if which.logarithmic:
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
        axis.set_major_locator(LogLocator(10, numticks=max(3, min(9, int(min(inches, 9) / 0.4)))))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    elif which.ticks:
        kept = spaced([place for place, _ in which.ticks], _TICK_INCHES / max(inches, _TICK_INCHES))
        axis.set_ticks(kept, [which.text(place) for place in kept])
        axis.set_minor_locator(NullLocator())


def spaced(places: Sequence[float], least: float) -> list[float]:
    """Return those places whose names do not touch: the first, the last, and what fits between.

    Args:
        places: Places on an axis, ascending.
        least: The least distance of two names, as a share of the axis.
    """
    span = (places[-1] - places[0]) * least
    kept = list(places[:1])
    for place in places[1:-1]:
        if place - kept[-1] >= span and places[-1] - place >= span:
            kept.append(place)
    return [*kept, *places[1:][-1:]]


def _named(panels: Sequence[Panel]) -> list[tuple[str, Line]]:
    """The drawn lines of all panels, each name once, with their figures from the first panel to the last."""
    found: dict[str, list[Line]] = {}
    for panel in panels:
        for line in panel.lines:
            if line.shown:
                found.setdefault(line.label, []).append(line)
    return [(_legend_name(name, [line.figure for line in lines]), lines[0]) for name, lines in found.items()]


def _legend_name(name: str, figures: Sequence[str]) -> str:
    """A name with the figures of its lines, as "apgd-ce (AUC 0.531 / 0.602)"; those of many panels are left out."""
    # Matplotlib leaves out names that begin with an underscore.
    short = shortened(f" {name}" if name.startswith("_") else name, _NAME_LENGTH)
    if not any(figures) or len(figures) > _COLUMNS:
        return short
    first, *others = figures
    return f"{short} ({' / '.join([first, *(other.rpartition(' ')[2] for other in others)])})"


def _legend_columns(names: Sequence[str], inches: float) -> int:
    longest = max((len(name) for name in names), default=1)
    return max(1, min(len(names), int(inches / (longest * _LETTER_INCHES + 0.6))))
