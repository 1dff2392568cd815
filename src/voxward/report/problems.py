"""The problems of a dataset as a table."""

from __future__ import annotations

from voxward.data.check import CheckReport
from voxward.report.table import Column, Row, Table


def problems_table(report: CheckReport) -> Table:
    """The problems of a checked dataset: a row per problem with its case, severity, kind, and what was found."""
    fields = ("case", "severity", "kind", "problem")
    data = tuple((p.case, p.severity, p.kind, p.message) for p in report.problems)
    rows = tuple(
        Row(cells, style="red" if problem.severity == "error" else "yellow")
        for problem, cells in zip(report.problems, data, strict=True)
    )
    return Table(tuple(Column(name, "left") for name in fields), rows, fields=fields, data=data)
