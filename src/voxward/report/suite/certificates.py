"""What is certified of the systems of a suite, averaged over its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxward.metrics.summary import summarise
from voxward.report.certificate import Certified, broken, certified
from voxward.report.suite.averages import different_tasks
from voxward.report.suite.source import SuiteSource
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import mean_text


@dataclass(frozen=True)
class _Figure:
    """A figure of a certificate. radius: of a median in units of sigma; tau: of a mask."""

    name: str
    radius: float | None = None
    tau: float | None = None

    def of(self, found: Certified) -> float | None:
        """The mean over the cases of a task; None where there are too few runs."""
        summary = found.certified(self.radius) if self.radius is not None else found.masked(self.tau or 0.0)
        return None if summary is None else summary.mean


def suite_certificates_table(source: SuiteSource) -> Table | None:
    """The certificates of each system and noise, averaged over tasks; None where nothing was certified.

    Args:
        source: The suite.
    """
    by_task = {task.name: certified(task.certificates) for task in source.tasks if task.certificates}
    if not by_task:
        return None
    figures = [*_figures(found for groups in by_task.values() for found in groups)]
    rows, data, taken = list[Row](), list[tuple[Value, ...]](), dict[str, list[str]]()
    kinds = dict.fromkeys((one.noise, one.sigma) for groups in by_task.values() for one in groups)
    for system in source.systems:
        for kind in kinds:
            own = {
                task: one for task, groups in by_task.items() for one in groups
                if (one.model, (one.noise, one.sigma)) == (system, kind)
            }  # fmt: skip
            if not own:
                continue
            taken[f"{system}, {next(iter(own.values())).title}"] = [*own]
            values = [{task: figure.of(one) for task, one in own.items()} for figure in figures]
            # Where a task lacks a figure for want of runs, the mean over the others would be of other tasks.
            cells = [mean_text(summarise(_whole([*found.values()]))) for found in values]
            title = next(iter(own.values())).title
            rows.append(Row((system, title, *cells, str(len(own)))))
            data += [
                (system, title, task, figure.name, value)
                for figure, found in zip(figures, values, strict=True) for task, value in found.items()
            ]  # fmt: skip
    columns = (
        Column("system", "left"), Column("noise", "left"), *(Column(one.name) for one in figures), Column("tasks"),
    )  # fmt: skip
    notes = (
        "certified Dice of the system under noise, within a radius in units of sigma: the median of noisy runs, and "
        "the mask that most of them agree on; mean over tasks, each counts once",
    )
    warned = (
        *source.doubts,
        *different_tasks(taken),
        *(text for task in source.tasks for text in broken(task.certificates)),
    )
    return Table(
        columns, tuple(rows), "What is certified", notes=notes, warnings=warned,
        fields=("system", "noise", "task", "figure", "dice"), data=tuple(data),
    )  # fmt: skip


def _figures(groups: Iterator[Certified]) -> Iterator[_Figure]:
    found = [*groups]
    for radius in sorted({radius for one in found for radius in one.radii}):
        yield _Figure(f"median, R = {radius:g}", radius=radius)
    masks = {mask.tau: mask.radius for one in found for case in one.cases for mask in case.masks}
    for tau in sorted(masks):
        yield _Figure(f"mask, R = {masks[tau]:.2f}", tau=tau)


def _whole(values: list[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []
