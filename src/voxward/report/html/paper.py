"""Every figure of a page as files for a paper: SVG and PDF, in one style."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxward.core.choices import Look
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.report.attack_panel import PanelFiles, panel_of
from voxward.report.attack_source import AttackSource
from voxward.report.chart import Chart
from voxward.report.chart_figure import chart_figure
from voxward.report.html.kept import Kept, NotShown, read_kept
from voxward.report.html.page import Setting
from voxward.report.html.run_history import History
from voxward.report.html.sections.corruptions import corruptions
from voxward.report.html.sections.curves import curves
from voxward.report.html.sections.histories import histories
from voxward.report.html.sections.visibility import visibility
from voxward.report.sources import Sources
from voxward.report.style import FORMATS, write
from voxward.report.suite.charts import suite_charts
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.worst import harm, worst_attacks

KIND = "a figure of a report"
_LONGEST = 80  # bytes of UTF-8
# The number that makes a chart's name unique on its page.
_NUMBER = re.compile(r"-\d+(?=-|$)")


@dataclass(frozen=True)
class Paper:
    """The figures of a report, by the names of their files without the suffix.

    Attributes:
        charts: The charts.
        panels: For each system the scan that lost most under the strongest attack, where its volume was kept.
    """

    charts: Mapping[str, Chart]
    panels: Mapping[str, PanelFiles] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files."""
        return tuple(f"{name}.{form}" for name in (*self.charts, *self.panels) for form in FORMATS)

    def write(self, outputs: Outputs) -> None:
        """Write all figures. A panel whose volumes cannot be read is left out, with a warning.

        Args:
            outputs: Their folder.

        Raises:
            UserError: A file must not be replaced.
        """
        for name, chart in self.charts.items():
            _write(outputs, name, chart_figure(chart, titled=False))
        for name, files in self.panels.items():
            try:
                figure = panel_of(files, titled=False)
            except (UserError, OSError) as error:
                warnings.warn(f"the figure {name} is left out: {error}", stacklevel=2)
                continue
            _write(outputs, name, figure)


def paper(sources: Sources, look: Look = Look()) -> Paper:
    """Return all figures of a report.

    Args:
        sources: What was read from the folders.
        look: Where the dataset lies if it was moved since, and the eps at which the courses of attacks are drawn.

    Raises:
        UserError: There is nothing to draw.
    """
    charts: dict[str, Chart] = {}
    for folder, chart in _charts(sources, Setting(look)):
        charts[_unused(f"{_plain(folder)}-{_plain(_NUMBER.sub('', chart.name))}", charts)] = chart
    panels: dict[str, PanelFiles] = {}
    data = None if look.data is None else Path(look.data)
    for source in sources.attacks:
        for files in _panels(source, data):
            panels[_unused(f"{_plain(source.name)}-panel-{_plain(files.record.model)}", {**charts, **panels})] = files
    if not charts and not panels:
        raise UserError("there is no figure to draw: the folders hold neither attacks nor courses of trainings")
    return Paper(charts, panels)


def _write(outputs: Outputs, name: str, figure: Any) -> None:
    for form in FORMATS:
        with outputs.write(f"{name}.{form}") as path:
            write(figure, path, form)


def _panels(source: AttackSource, data: Path | None) -> Iterator[PanelFiles]:
    """For each system the scan that lost most at the greatest eps, of those whose volumes were kept."""
    try:
        kept = read_kept(source.folder, data)
    except NotShown:
        return  # the section of the cases says why
    seeds = () if source.protocol is None else source.protocol.seeds
    clean = {record.case_key: record for record in source.records if record.attack == CLEAN}
    for model in source.models:
        worst = worst_attacks(record for record in source.records if record.model == model)
        ordered = sorted(worst.values(), key=lambda record: (-record.eps, harm(record)))
        found = (_files(kept, record, clean.get(record.case_key), seeds) for record in ordered)
        yield from [files for files in found if files is not None][:1]


def _files(kept: Kept, record: Record, clean: Record | None, seeds: Sequence[int]) -> PanelFiles | None:
    paths = (kept.volume(record, seeds), None if clean is None else kept.mask(clean, seeds), kept.mask(record, seeds))
    adversarial, before, after = paths
    if adversarial is None or before is None or after is None:
        return None
    try:
        case = kept.case(record.case)
    except NotShown:
        return None
    order = kept.systems.get(record.model, kept.first).orders.get(record.case) or case.order
    return PanelFiles(record, replace(case, order=order), kept.labels(record.model), adversarial, before, after)


def _charts(sources: Sources, setting: Setting) -> Iterator[tuple[str, Chart]]:
    """The charts, each with the name of its folder."""
    for number, suite in enumerate(sources.suites, 1):
        yield from ((suite.name, chart) for chart in suite_charts(suite, number))
    for part in curves(sources, setting) or ():
        yield from ((part.name, chart) for chart in part.charts)
    for seen in visibility(sources, setting) or ():
        if seen.chart is not None:
            yield seen.name, seen.chart
    for corrupted in corruptions(sources, setting) or ():
        if corrupted.chart is not None:
            yield corrupted.name, corrupted.chart
    folders = [one.name for group in (sources.runs, sources.searches, sources.validations) for one in group]
    parts: tuple[History, ...] = histories(sources, setting) or ()
    for folder, history in zip(folders, parts, strict=True):
        yield from ((folder, chart) for chart in history.charts)
        yield from ((folder, part.chart) for part in history.tables if part.chart is not None)


def _plain(name: str) -> str:
    """A name as a part of a file's name that every program takes."""
    short = re.sub(r"[^\w.]+", "-", name).encode("utf-8")[:_LONGEST].decode("utf-8", "ignore")
    return short.strip("-.") or "unnamed"


def _unused(stem: str, found: Mapping[str, object]) -> str:
    numbers = (f"{stem}-{number}" if number > 1 else stem for number in range(1, len(found) + 2))
    return next(name for name in numbers if name not in found)


def figures_outputs(folder: Path, overwrite: bool) -> Outputs:
    """Return the folder of the figures.

    Args:
        folder: The folder, which need not exist.
        overwrite: Whether files that voxward did not write may be replaced.
    """
    return Outputs(folder, KIND, overwrite)
