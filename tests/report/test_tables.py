"""What the tables say is what the evaluation holds."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from voxward.inference.evaluate import Evaluation, summarise_cases
from voxward.metrics.score import CaseMetrics, ClassMetrics
from voxward.report.tables import case_table, markdown_table, metrics_table

ABSENT = ClassMetrics(None, None, None, None, None, None, 0, 0)


def scored(dice: float, hd95: float | None = 1.5) -> ClassMetrics:
    return ClassMetrics(dice, dice / 2, 0.75, 0.9876, hd95, 0.625, 10, 20)


@pytest.fixture
def evaluation() -> Evaluation:
    cases = [
        CaseMetrics("case_a", {"liver": scored(0.8), "tumour": ABSENT}),
        CaseMetrics("case_b", {"liver": scored(0.6, 2.5), "tumour": scored(0.2, None)}),
    ]
    return summarise_cases(cases, "ignore", 2.0)


def shown(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("│", "|").strip().strip("|").split("|")]


def row(lines: list[str], name: str) -> list[str]:
    return next(cells(line) for line in lines if cells(line)[0] == name)


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_metrics_table(form: str, evaluation: Evaluation) -> None:
    lines = shown(metrics_table(evaluation)) if form == "terminal" else markdown_table(evaluation).splitlines()
    assert row(lines, "liver") == (
        ["liver", "0.700 [0.600, 0.800]", "0.141", "0.600", "0.800", "0.350", "0.750", "0.9876", "2.00", "0.625", "2"]
    )
    assert row(lines, "tumour") == (
        ["tumour", "0.200 [0.200, 0.200]", "0.000", "0.200", "0.200", "0.100", "0.750", "0.9876", "n/a", "0.625", "1"]
    )
    # Case means 0.8 and (0.6 + 0.2) / 2.
    assert row(lines, "mean")[:5] == ["mean", "0.600 [0.400, 0.800]", "0.283", "0.400", "0.800"]
    assert any("NSD 2 mm" in line for line in lines)
    assert any("2 cases" in line and "ignore" in line for line in lines)


def test_a_class_that_no_case_defines() -> None:
    lines = markdown_table(summarise_cases([CaseMetrics("a", {"x": ABSENT})], "ignore", 1.0)).splitlines()
    assert row(lines, "x") == ["x", *["n/a"] * 9, "0"]


def test_case_table_lists_the_worst_first(evaluation: Evaluation) -> None:
    lines = shown(case_table(evaluation))
    assert row(lines, "case_b") == ["case_b", "0.400", "0.600", "0.200", "2.50"]
    assert row(lines, "case_a") == ["case_a", "0.800", "0.800", "n/a", "1.50"]
    assert [cells(line)[0] for line in lines if "case_" in line] == ["case_b", "case_a"]
