"""The problems of a dataset as a table."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from voxward.core.wording import counted
from voxward.data.check import CheckReport, Problem
from voxward.report.table import Column, Row, Table

MOST_ROWS = 5
"""How many problems of one kind have rows of their own; more of them share one."""
NAMED = 5
"""How many cases a row that stands for many problems names."""


def problems_table(report: CheckReport) -> Table:
    """The problems of a checked dataset: a row per problem with its case, severity, kind, and what was found.

    More than `MOST_ROWS` problems that differ only in the case, its files and its numbers are one row, with the first
    cases and the first message. Paths are relative to the dataset's folder. A program finds every problem in `data`.
    """
    fields = ("case", "severity", "kind", "problem")
    data = tuple((p.case, p.severity, p.kind, p.message) for p in report.problems)
    groups: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
    for problem in report.problems:
        groups[_alike(problem)].append(problem)
    rows = [row for group in groups.values() for row in _rows(group, report.root)]
    return Table(tuple(Column(name, "left") for name in fields), tuple(rows), fields=fields, data=data)


def summary(report: CheckReport) -> str:
    """Return what a check found, in one line."""
    counts = [(len(report.errors), "error"), (len(report.warnings), "warning")]
    found = ", ".join(counted(count, word) for count, word in counts) if report.problems else "no problems"
    return f"{counted(report.cases, 'case')} read: {found}"


def _alike(problem: Problem) -> tuple[str, ...]:
    """What problems have in common that differ in the case, its files and its numbers only."""
    text = problem.message.replace(problem.case, "") if problem.case else problem.message
    return problem.severity, problem.kind, re.sub(r"[-+]?\d+([.]\d+)?(e[-+]?\d+)?", "0", text)


def _rows(group: list[Problem], root: Path | None) -> list[Row]:
    cases = list(dict.fromkeys(problem.case for problem in group))
    if len(group) <= MOST_ROWS:
        return [_row(problem, problem.case, _inside(problem.message, root)) for problem in group]
    more = f" and {len(cases) - NAMED} more" if len(cases) > NAMED else ""
    message = f"{len(group)} times, the first: {_inside(group[0].message, root)}"
    return [_row(group[0], ", ".join(cases[:NAMED]) + more, message)]


def _row(problem: Problem, case: str, message: str) -> Row:
    return Row(
        (case, problem.severity, problem.kind, message), style="red" if problem.severity == "error" else "yellow"
    )


def _inside(message: str, root: Path | None) -> str:
    """The message with the paths in the dataset's folder shortened: the user has named that folder."""
    for folder in () if root is None else (str(root.resolve()), str(root)):
        if folder not in (".", "/"):
            message = re.sub(rf"(?<![\w/.-]){re.escape(folder)}/", "", message)
    return message
