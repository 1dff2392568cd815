"""What corruptions do to the systems of a suite, averaged over its tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from voxward.metrics.summary import summarise
from voxward.report.suite.averages import different_tasks, spread_text
from voxward.report.suite.source import SuiteSource
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, mean_text, number_text
from voxward.robustness.corruption_figures import CorruptionView

_FIGURES = ("clean", "corrupted", "gap")


def suite_corruptions_table(source: SuiteSource) -> Table | None:
    """The Dice under corruptions of each system, averaged over tasks; None where nothing was corrupted.

    Args:
        source: The suite.
    """
    views = {task.name: CorruptionView(task.view.records) for task in source.tasks if task.view is not None}
    views = {name: view for name, view in views.items() if view.models}
    if not views:
        return None
    rows, data, taken = list[Row](), list[tuple[Value, ...]](), dict[str, list[str]]()
    for system in source.systems:
        own = {name: view for name, view in views.items() if system in view.models}
        if not own:
            continue
        taken[system] = [*own]
        figures = {name: _figures_of(view, system) for name, view in own.items()}
        over = [summarise([found[one] for found in figures.values()]) for one in _FIGURES]
        rows.append(Row((system, *map(mean_text, over), spread_text(over[1]), _worst(own, system), str(len(own)))))
        data += [(system, name, *(found[one] for one in _FIGURES)) for name, found in figures.items()]
    columns = (Column("system", "left"), *map(Column, (*_FIGURES, "std", "worst corruption", "tasks")))
    notes = (
        "mean over tasks; each task counts once. corrupted: the mean over all corruptions and severities of the task; "
        "gap: clean - corrupted; std: the standard deviation (n - 1) of corrupted over tasks",
        "worst corruption: the one with the lowest mean over severities and tasks",
    )
    return Table(
        columns, tuple(rows), "Dice under corruptions", notes=notes,
        warnings=(*source.doubts, *different_tasks(taken), *_different_corruptions(views)),
        fields=("system", "task", *_FIGURES), data=tuple(data),
    )  # fmt: skip


def _figures_of(view: CorruptionView, system: str) -> dict[str, float]:
    """The means over the cases of one task."""
    corrupted = view.corrupted(system)
    clean = fmean(view.clean(system)[case] for case in corrupted)
    return {"clean": clean, "corrupted": fmean(corrupted.values()), "gap": clean - fmean(corrupted.values())}


def _worst(views: Mapping[str, CorruptionView], system: str) -> str:
    """The corruption that hurts most on average over the tasks that have it, and the Dice under it."""
    found = defaultdict[str, list[float]](list)
    for view in views.values():
        for name in view.corruptions:
            if per_case := view.of_corruption(system, name):
                found[name].append(fmean(per_case.values()))
    if not found:
        return UNDEFINED
    name = min(found, key=lambda one: fmean(found[one]))
    return f"{name} {number_text(fmean(found[name]))}"


def _different_corruptions(views: Mapping[str, CorruptionView]) -> Sequence[str]:
    """What is said where tasks have other corruptions, as scans of CT and of MR have."""
    kinds = defaultdict[tuple[str, ...], list[str]](list)
    for task, view in views.items():
        kinds[view.corruptions].append(task)
    if len(kinds) < 2:
        return ()
    told = "; ".join(f"{', '.join(tasks)}: {', '.join(names)}" for names, tasks in kinds.items())
    return (f"the tasks have different corruptions, so that they do not compare with each other: {told}",)
