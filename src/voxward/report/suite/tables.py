"""The tables over a suite: clean Dice per task, the Dice under each attack, areas, and the Dice over the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from voxward.core.outputs import Outputs
from voxward.metrics.summary import Summary, summarise
from voxward.report.budgets import budget_text
from voxward.report.chart_figure import write_chart
from voxward.report.suite.averages import (
    Averaged,
    clean,
    different_tasks,
    figures_notes,
    spread_text,
    under,
    worst_case,
)
from voxward.report.suite.certificates import suite_certificates_table
from voxward.report.suite.charts import attacks_chart, robustness_chart
from voxward.report.suite.corruptions import suite_corruptions_table
from voxward.report.suite.source import SuiteSource
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, mean_text, number_text
from voxward.robustness.summary import area_under_curve
from voxward.robustness.sweep import Sweep

WORST = "worst case"
_OVER_TASKS = "mean over tasks; each task counts once, whatever the number of its cases"
_SOME_TASKS = (
    "in brackets: over so many tasks only, because an attack knows two classes only, or only more, as apgd-margin and "
    "apgd-dlr; such a mean does not compare with others of its row"
)


def suite_tables(source: SuiteSource) -> dict[str, Table]:
    """Return all tables that a suite has figures for, by the names of their files.

    Args:
        source: The suite.
    """
    makers: Mapping[str, Callable[[SuiteSource], Table | None]] = {
        "tasks": tasks_table, "dice": dice_table, "attacks": attacks_table, "areas": areas_table,
        "budgets": suite_budgets_table, "corruptions": suite_corruptions_table,
        "certificates": suite_certificates_table,
    }  # fmt: skip
    made = {name: make(source) for name, make in makers.items()}
    return {name: table for name, table in made.items() if table is not None}


def tasks_table(source: SuiteSource) -> Table:
    """What each task is, and on how many cases its figures rest."""
    columns = (Column("task", "left"), Column("dataset", "left"), Column("scored"), Column("attacked"),
               Column("systems"))  # fmt: skip
    rows, data = list[Row](), list[tuple[Value, ...]]()
    for task in source.tasks:
        scored = sorted({found.n + found.left_out for found in task.dice.values()})
        part = len(source.systems) - sum(name == task.name for name, _ in source.absent)
        cells = ("-".join(map(str, dict.fromkeys((scored[0], scored[-1])))) if scored else UNDEFINED,
                 str(task.cases), f"{len(task.attacked)} of {part}")  # fmt: skip
        rows.append(Row((task.name, task.what, *cells)))
        data.append((task.name, task.what, scored[0] if scored else None, task.cases, len(task.attacked)))
    notes = (
        "scored: held-out cases that all systems were scored on; attacked: cases that all systems were attacked on; "
        "systems: those whose attack is finished",
        *(note for task in source.tasks for note in task.notes),
    )
    warned = tuple(dict.fromkeys((*source.doubts, *source.scored)))
    return Table(columns, tuple(rows), "The tasks of the suite", notes=notes, warnings=warned,
                 fields=("task", "dataset", "scored", "attacked", "systems"), data=tuple(data))  # fmt: skip


def dice_table(source: SuiteSource) -> Table | None:
    """The clean Dice of each system on each task, with mean and standard deviation over tasks, as ROG's Table 2."""
    tasks = [task for task in source.tasks if task.dice]
    if not tasks:
        return None
    rows, data, taken = list[Row](), list[tuple[Value, ...]](), dict[str, list[str]]()
    for system in source.systems:
        found = {task.name: task.dice.get(system) for task in tasks}
        known = [one.mean for one in found.values() if one is not None]
        if not known:
            continue
        taken[system] = [name for name, one in found.items() if one is not None]
        over = summarise(known)
        rows.append(Row((system, *map(mean_text, found.values()), mean_text(over), spread_text(over), str(len(known)))))
        data += [
            (system, name, one.n, one.mean, one.std, one.low, one.high)
            for name, one in found.items()
            if one is not None
        ]
    columns = (Column("system", "left"), *(Column(task.name) for task in tasks), *map(Column, ("mean", "std", "tasks")))
    notes = (
        "mean foreground Dice over the held-out cases of each task in which a class is defined; mean and standard "
        "deviation (n - 1) over tasks",
        "the paper's table is of the Decathlon's own test cases, whose truth is not published",
    )
    return Table(
        columns, tuple(rows), "Clean Dice per task (as Table 2 of the ROG paper)", notes=notes,
        warnings=(*source.scored, *different_tasks(taken)), data=tuple(data),
        fields=("system", "task", "cases", "dice", "std", "dice_low", "dice_high"),
    )  # fmt: skip


def attacks_table(source: SuiteSource) -> Table | None:
    """The Dice under each attack alone, averaged over tasks, as ROG's Table 1: a row per system and size."""
    averaged = Averaged(source)
    if not averaged.tasks or not averaged.eps:
        return None
    names, rows, data = averaged.attacks(), list[Row](), list[tuple[Value, ...]]()
    for system in averaged.systems:
        for place, eps in enumerate(averaged.eps):
            found = {
                "clean": averaged.mean(system, eps, clean),
                **{name: averaged.mean(system, eps, under(name)) for name in names},
                WORST: averaged.mean(system, eps, worst_case, worst=True),
            }
            count = max((one.n for one in found.values() if one is not None), default=0)
            cells = (system, averaged.eps_text(eps), *(_over(one, count) for one in found.values()), str(count))
            rows.append(Row(cells, section=place == 0 and bool(rows)))
            data += [_figures(system, name, eps, one) for name, one in found.items() if one is not None]
    columns = (Column("system", "left"), Column("eps"), *map(Column, ("clean", *names, WORST, "tasks")))
    notes = (
        _OVER_TASKS, *_bracket_note(rows), "clean is over the cases that were attacked", *figures_notes(averaged),
        _worst_note(averaged),
    )  # fmt: skip
    return Table(
        columns, tuple(rows), "Dice under each attack (as Table 1 of the ROG paper)", notes=notes,
        warnings=(*source.doubts, *averaged.unequal()),
        fields=("system", "attack", "eps", "tasks", "dice", "std"), data=tuple(data),
    )  # fmt: skip


def areas_table(source: SuiteSource) -> Table | None:
    """The area under Dice over eps of each attack, averaged over tasks, as in ROG's Fig. 3."""
    averaged = Averaged(source)
    if not averaged.tasks or not averaged.eps:
        return None
    names = (*averaged.attacks(), WORST)
    rows, data = list[Row](), list[tuple[Value, ...]]()
    for system in averaged.systems:
        found = {name: area_of(averaged, system, name) for name in names}
        count = max((number for _, number in found.values()), default=0)
        rows.append(Row((system, *(_counted(number_text(area), own, count) for area, own in found.values()))))
        data += [(system, name, area, own) for name, (area, own) in found.items() if area is not None]
    last = averaged.eps_text(averaged.eps[-1])
    notes = (
        f"area under the mean Dice over tasks, from eps 0 to {last}, divided by that span; lower: a stronger attack",
        *_bracket_note(rows),
        *figures_notes(averaged),
        _worst_note(averaged),
    )
    return Table(
        (Column("system", "left"), *map(Column, names)), tuple(rows),
        "Area under Dice over eps (as in Fig. 3 of the ROG paper)", notes=notes,
        warnings=(*source.doubts, *averaged.unequal()), fields=("system", "attack", "area", "tasks"), data=tuple(data),
    )  # fmt: skip


def area_of(averaged: Averaged, system: str, attack: str) -> tuple[float | None, int]:
    """Return the area under the Dice over eps of one attack, averaged over the tasks that have all of it, and how many.

    Args:
        averaged: The means over tasks.
        system: The system.
        attack: The attack, or the worst case over all.
    """
    reading = worst_case if attack == WORST else under(attack)
    course = averaged.course(system, reading, worst=attack == WORST)
    known = [(eps, found.mean) for eps, found in course.items() if found is not None]
    number = max((found.n for found in course.values() if found is not None), default=0)
    return (area_under_curve(known) if known else None), number


def suite_budgets_table(source: SuiteSource) -> Table | None:
    """The Dice over the budget of attacks that were run with several, averaged over tasks."""
    averaged = Averaged(source)
    members = dict[str, tuple[Sweep, str]]()
    for task in averaged.tasks:
        for sweep in task.swept:
            for name, options in sweep.members.items():
                members.setdefault(name, (sweep, budget_text(options)))
    rows, data = list[Row](), list[tuple[Value, ...]]()
    for system in averaged.systems:
        for name, (sweep, budget) in members.items():
            found = [averaged.mean(system, eps, under(name)) for eps in averaged.eps]
            if not any(found):
                continue
            count = max(one.n for one in found if one is not None)
            rows.append(Row((system, sweep.attack, budget, *(_over(one, count) for one in found), str(count))))
            data += [
                (system, sweep.attack, budget, name, eps, one.n, one.mean, one.std)
                for eps, one in zip(averaged.eps, found, strict=True) if one is not None
            ]  # fmt: skip
    if not rows:
        return None
    head = tuple(Column(name, "left") for name in ("system", "attack", "budget"))
    sizes = tuple(Column(averaged.eps_text(eps)) for eps in averaged.eps)
    return Table(
        (*head, *sizes, Column("tasks")), tuple(rows), "Dice over the budget (as in the supplement of the ROG paper)",
        notes=(
            _OVER_TASKS, *_bracket_note(rows), *figures_notes(averaged),
            "where more steps still lower the Dice, the figures are not converged",
        ),
        warnings=(*source.doubts, *averaged.unequal()),
        fields=("system", "attack", "budget", "name", "eps", "tasks", "dice", "std"), data=tuple(data),
    )  # fmt: skip


def _over(found: Summary | None, count: int) -> str:
    """A mean over tasks, with their number where others of its row are over more."""
    return _counted(mean_text(found), 0 if found is None else found.n, count)


def _counted(text: str, number: int, count: int) -> str:
    return f"{text} ({number})" if 0 < number < count else text


def _bracket_note(rows: Sequence[Row]) -> list[str]:
    return [_SOME_TASKS] if any(cell.endswith(")") for row in rows for cell in row.cells[1:]) else []


def _figures(system: str, name: str, eps: float, found: Summary) -> tuple[Value, ...]:
    return system, name, eps, found.n, found.mean, found.std


def _worst_note(averaged: Averaged) -> str:
    groups = dict.fromkeys(task.attacks for task in averaged.tasks)
    told = ["all attacks" if names is None else ", ".join(names) for names in groups]
    return f"{WORST}: on each case the lowest Dice of {' or '.join(told)}, and clean"


_NAMES = ("tasks", "dice", "attacks", "areas", "budgets", "corruptions", "certificates")
_FIGURES = {"dice-over-eps.png": robustness_chart, "attacks.png": attacks_chart}
TABLES = (*(f"{name}{suffix}" for name in _NAMES for suffix in (".md", ".csv")), *_FIGURES)
"""The files of a suite's tables and figures in its folder."""


def write_tables(source: SuiteSource, outputs: Outputs) -> None:
    """Write all tables as Markdown and CSV, and the figures over all tasks; those of before that are none now go.

    Args:
        source: The suite.
        outputs: Its folder.

    Raises:
        UserError: A file must not be replaced.
    """
    written = set[str]()
    for name, table in suite_tables(source).items():
        outputs.text(f"{name}.md", table.markdown())
        outputs.text(f"{name}.csv", table.csv())
        written |= {f"{name}.md", f"{name}.csv"}
    for file, make in _FIGURES.items():
        if (chart := make(source)) is not None:
            with outputs.write(file) as path:
                write_chart(chart, path)
            written.add(file)
    for name in TABLES:
        if name not in written:
            outputs.remove(name)
