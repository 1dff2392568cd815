"""The section on suites: tables and charts over all tasks and systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxward.report.chart import Chart
from voxward.report.html.page import Setting
from voxward.report.sources import Sources
from voxward.report.suite.charts import suite_charts
from voxward.report.suite.tables import suite_tables
from voxward.report.table import Table


@dataclass(frozen=True)
class ShownSuite:
    """One suite on the page.

    Attributes:
        name: The name of its folder.
        description: What it is for.
        tables: Its tables by name.
        charts: Its charts.
    """

    name: str
    description: str
    tables: Mapping[str, Table]
    charts: tuple[Chart, ...]


def suites(sources: Sources, setting: Setting) -> tuple[ShownSuite, ...] | None:
    """Return the tables and charts of each suite; None where there is none."""
    return tuple(
        ShownSuite(one.name, one.description, suite_tables(one), suite_charts(one, number))
        for number, one in enumerate(sources.suites, 1)
    ) or None  # fmt: skip
