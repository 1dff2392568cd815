"""The figures over a suite: the Dice over eps averaged over tasks, that of each attack, and the curves of each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary
from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.html.strings import STRINGS
from voxward.report.palette import LINES
from voxward.report.robustness_charts import dice_over_eps
from voxward.report.suite.averages import Averaged, figures_notes, under, worst_case
from voxward.report.suite.source import SuiteSource, TaskResults
from voxward.report.text import number_text
from voxward.robustness.summary import area_under_curve

_SECOND_DASH = 4
_DICE = Axis(STRINGS["charts"]["dice"], limits=(0.0, 1.0))


def robustness_chart(source: SuiteSource, name: str = "suite-dice-over-eps") -> Chart | None:
    """Return the worst-case Dice over eps averaged over tasks, a line per system, as ROG's Fig. 1.

    Args:
        source: The suite.
        name: The name of the chart.
    """
    averaged = Averaged(source)
    if not averaged.tasks or not averaged.eps:
        return None
    words = STRINGS["suites"]
    lines = tuple(
        _line(system, number, averaged.course(system, worst_case, worst=True))
        for number, system in enumerate(averaged.systems)
    )
    notes = (words["over_tasks"], words["spread"], *figures_notes(averaged), *averaged.unequal())
    return Chart(name, words["robustness"], _eps_axis(averaged), _DICE, (Panel(words["all_tasks"], lines),),
                 notes=notes)  # fmt: skip


def attacks_chart(source: SuiteSource, name: str = "suite-attacks") -> Chart | None:
    """Return the Dice over eps under each attack averaged over tasks, a panel per system, as ROG's Fig. 3.

    A line is told with its area, by which the paper compares PGD with APGD.

    Args:
        source: The suite.
        name: The name of the chart.
    """
    averaged = Averaged(source)
    if not averaged.tasks or not averaged.eps:
        return None
    words, attacks = STRINGS["suites"], averaged.attacks()
    panels = tuple(
        Panel(system, tuple(
            _line(attack, number, averaged.course(system, under(attack)), area=True)
            for number, attack in enumerate(attacks)
        ))
        for system in averaged.systems
    )  # fmt: skip
    notes = (words["over_tasks"], words["some_tasks"], *figures_notes(averaged), *averaged.unequal())
    return Chart(name, words["attacks"], _eps_axis(averaged), _DICE, panels, words["system"], notes=notes)


def task_charts(source: SuiteSource, name: str = "suite-task") -> tuple[Chart, ...]:
    """Return the worst-case Dice over eps of each task, a panel per class and a line per system, as ROG's Fig. 4.

    Args:
        source: The suite.
        name: How the names of the charts begin.
    """
    made = [_task_chart(task, f"{name}-{number}") for number, task in enumerate(source.tasks, 1)]
    return tuple(one for one in made if one is not None)


def suite_charts(source: SuiteSource, number: int) -> tuple[Chart, ...]:
    """Return all charts of a suite.

    Args:
        source: The suite.
        number: Its number on the page, from 1, which makes the names of the charts unique.
    """
    over = robustness_chart(source, f"suite-{number}-dice-over-eps"), attacks_chart(source, f"suite-{number}-attacks")
    return (*(one for one in over if one is not None), *task_charts(source, f"suite-{number}-task"))


def _task_chart(task: TaskResults, name: str) -> Chart | None:
    if task.view is None or not any(record.kind == "attack" for record in task.view.records):
        return None
    groups: Mapping[str, tuple[str, ...]] | None = None
    if task.attacks is not None:
        groups = {STRINGS["suites"]["protocol_attacks"]: task.attacks}
    try:
        chart = dice_over_eps(task.view.records, groups, task.view.deployed, name)
    except UserError:
        return None  # such as one where a class is invented, whose Dice does not count
    return replace(chart, title=f"{task.name}: {chart.title}")


def _line(name: str, number: int, found: Mapping[float, Summary | None], area: bool = False) -> Line:
    points = tuple(Point(eps, None if one is None else one.mean, n=None if one is None else one.n)
                   for eps, one in found.items())  # fmt: skip
    known = [(eps, one.mean) for eps, one in found.items() if one is not None]
    told = STRINGS["charts"]["auc"].format(value=number_text(area_under_curve(known))) if area and known else ""
    return Line(name, points, number % len(LINES), 0 if number < len(LINES) else _SECOND_DASH, figure=told)


def _eps_axis(averaged: Averaged) -> Axis:
    view = averaged.tasks[0].view
    assert view is not None
    threat = view.records[0].threat
    key = "eps_l2" if threat.norm == "l2" else "eps" if threat.unit == "range" else "eps_native"
    return Axis(STRINGS["charts"][key], tuple((eps, averaged.eps_text(eps)) for eps in (0.0, *averaged.eps)))
