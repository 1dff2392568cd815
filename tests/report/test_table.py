"""Every form of a table shows all of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from voxward.data.check import CheckReport, Problem
from voxward.report.problems import problems_table, summary
from voxward.report.table import Column, Row, Table

TABLE = Table(
    (Column("name", "left"), Column("value", short="val\nue")),
    (Row(("a|b", "1")), Row(("[red]c", "2 [1, 3]"), strong=True, section=True, narrow=("[red]c", "2\n[1, 3]"))),
    title="Title", caption="Caption", notes=("first", "second"), warnings=("NOT TRUSTWORTHY (x): y",),
    fields=("name", "value"), data=(("a|b", 1 / 3), ("c, d", None)),
)  # fmt: skip


def printed(table: Table, width: int = 80) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(table.terminal())
    return text.getvalue()


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "Title\n\n**NOT TRUSTWORTHY (x): y**\n\n"
        "| name | value |\n| --- | ---: |\n| a\\|b | 1 |\n| **[red]c** | **2 [1, 3]** |\n\n"
        "Caption\n\n- first\n- second\n"
    )


def test_markdown_of_rows_alone_is_the_table_alone() -> None:
    assert Table((Column("a"),), (Row(("1",)),)).markdown() == "| a |\n| ---: |\n| 1 |\n"


def test_csv_has_full_precision_and_quotes() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [(row["name"], row["value"]) for row in rows] == [("a|b", repr(1 / 3)), ("c, d", "")]


def test_the_terminal_shows_all_of_it_and_takes_no_cell_for_a_style() -> None:
    lines = printed(TABLE).splitlines()
    for part in ("Title", "Caption", "first", "second", "NOT TRUSTWORTHY (x): y", "a|b", "[red]c", "[1, 3]", "val"):
        assert any(part in line for line in lines), part
    assert "2 [1, 3]" not in printed(TABLE)


def test_a_terminal_that_is_too_narrow_breaks_words_and_not_numbers() -> None:
    table = Table((Column("path", "left"), Column("n")), (Row(("/a/very/long/path" * 5, "123456")),))
    text = printed(table, 30)
    assert "123456" in text
    assert "/a/very/long/path" * 5 in "".join(line.split(" ")[0] for line in text.splitlines()[2:])


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_problems(severity: str) -> None:
    report = CheckReport((Problem("case_1", severity, "shape", "[1, 2] is not\n(3, 4)"),), 1)  # type: ignore[arg-type]
    table = problems_table(report)
    assert table.rows[0].cells == ("case_1", severity, "shape", "[1, 2] is not\n(3, 4)")
    assert "[1, 2] is not" in printed(table)


def _problems(count: int) -> CheckReport:
    found = [Problem(f"c{n}", "warning", "empty label", f"/d/labelsTr/c{n}.nii: {n} voxels") for n in range(count)]
    return CheckReport((*found, Problem("c0", "error", "shape", "/d/x differs")), 9, Path("/d"))


def test_many_problems_alike_are_one_row_and_none_is_lost_to_programs() -> None:
    table = problems_table(_problems(200))
    assert [row.cells[0] for row in table.rows] == ["c0, c1, c2, c3, c4 and 195 more", "c0"]
    assert table.rows[0].cells[3] == "200 times, the first: labelsTr/c0.nii: 0 voxels"
    assert len(table.data) == 201
    assert len(table.csv().splitlines()) == 202
    assert [row.cells[3] for row in problems_table(_problems(2)).rows] == [
        "labelsTr/c0.nii: 0 voxels", "labelsTr/c1.nii: 1 voxels", "x differs",
    ]  # fmt: skip


def test_the_table_of_problems_fits_its_width() -> None:
    name = "BraTS-GLI-02195-100-with-a-very-long-name"
    report = CheckReport((Problem(name, "warning", "not annotated", f"/d/{'long/' * 60}x.nii: y"),), 1, Path("/d"))
    assert max(map(len, printed(problems_table(report), 100).splitlines())) <= 100


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (CheckReport((), 1), "1 case read: no problems"),
        (_problems(1), "9 cases read: 1 error, 1 warning"),
        (CheckReport(_problems(2).warnings, 3), "3 cases read: 0 errors, 2 warnings"),
    ],
)
def test_the_last_line_of_a_check(report: CheckReport, text: str) -> None:
    assert summary(report) == text
