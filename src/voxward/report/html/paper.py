"""Every chart of a page as files for a paper: SVG and PDF, in one style."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.report.chart import Chart
from voxward.report.chart_figure import chart_figure
from voxward.report.html.page import Setting
from voxward.report.html.run_history import History
from voxward.report.html.sections.curves import curves
from voxward.report.html.sections.histories import histories
from voxward.report.html.sections.visibility import visibility
from voxward.report.sources import Sources
from voxward.report.style import FORMATS, write

KIND = "a figure of a report"
_LONGEST = 80  # bytes of UTF-8
# The number that makes a chart's name unique on its page.
_NUMBER = re.compile(r"-\d+(?=-|$)")


@dataclass(frozen=True)
class Paper:
    """The figures of a report, by the names of their files without the suffix.

    Attributes:
        charts: The charts.
    """

    charts: dict[str, Chart]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files."""
        return tuple(f"{name}.{form}" for name in self.charts for form in FORMATS)

    def write(self, outputs: Outputs) -> None:
        """Write all figures.

        Args:
            outputs: Their folder.

        Raises:
            UserError: A file must not be replaced.
        """
        for name, chart in self.charts.items():
            figure = chart_figure(chart, titled=False)
            for form in FORMATS:
                with outputs.write(f"{name}.{form}") as path:
                    write(figure, path, form)


def paper(sources: Sources) -> Paper:
    """Return all figures of a report.

    Args:
        sources: What was read from the folders.

    Raises:
        UserError: There is nothing to draw.
    """
    found: dict[str, Chart] = {}
    for folder, chart in _charts(sources, Setting()):
        stem = f"{_plain(folder)}-{_plain(_NUMBER.sub('', chart.name))}"
        found[_unused(stem, found)] = chart
    if not found:
        raise UserError("there is no figure to draw: the folders hold neither attacks nor courses of trainings")
    return Paper(found)


def _charts(sources: Sources, setting: Setting) -> Iterator[tuple[str, Chart]]:
    """The charts, each with the name of its folder."""
    for part in curves(sources, setting) or ():
        yield from ((part.name, chart) for chart in part.charts)
    for seen in visibility(sources, setting) or ():
        if seen.chart is not None:
            yield seen.name, seen.chart
    folders = [one.name for group in (sources.runs, sources.searches, sources.validations) for one in group]
    parts: tuple[History, ...] = histories(sources, setting) or ()
    for folder, history in zip(folders, parts, strict=True):
        yield from ((folder, chart) for chart in history.charts)


def _plain(name: str) -> str:
    """A name as a part of a file's name that every program takes."""
    short = re.sub(r"[^\w.]+", "-", name).encode("utf-8")[:_LONGEST].decode("utf-8", "ignore")
    return short.strip("-.") or "unnamed"


def _unused(stem: str, found: dict[str, Chart]) -> str:
    numbers = (f"{stem}-{number}" if number > 1 else stem for number in range(1, len(found) + 2))
    return next(name for name in numbers if name not in found)


def figures_outputs(folder: Path, overwrite: bool) -> Outputs:
    """Return the folder of the figures.

    Args:
        folder: The folder, which need not exist.
        overwrite: Whether files that voxward did not write may be replaced.
    """
    return Outputs(folder, KIND, overwrite)
