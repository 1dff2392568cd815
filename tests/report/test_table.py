"""Every form of a table shows all of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.report.html.markup import parsed
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


HOSTILE = '<b onclick="x()">\'&amp;</b></caption>{{7*7}}'


def test_html_keeps_text_as_text() -> None:
    """Names in headings, cells, title, caption, notes and warnings add no element and no attribute."""
    columns, rows = (Column(HOSTILE, "left"), Column(HOSTILE)), (Row((HOSTILE, "0.5")), Row(("b", HOSTILE)))
    texts = {"title": HOSTILE, "caption": HOSTILE, "notes": (HOSTILE,), "warnings": (HOSTILE,)}
    plain = {"title": "a", "caption": "a", "notes": ("a",), "warnings": ("a",)}
    found = parsed(str(Table(columns, rows, **texts).html()))
    other = parsed(str(Table(
        (Column("a", "left"), Column("a")), (Row(("a", "0.5")), Row(("b", "a"))), **plain
    ).html()))  # fmt: skip
    assert found.faults == []
    shape = [(one.tag, sorted(one.attributes)) for one in found.elements]
    assert [tag for tag, _ in shape] == [one.tag for one in other.elements]
    assert shape == [(one.tag, sorted(one.attributes)) for one in other.elements]
    assert [one.text for one in found.elements if one.tag in ("th", "caption", "li")] == [HOSTILE] * 4 + ["b", HOSTILE]


def test_html_says_by_which_number_a_cell_is_sorted() -> None:
    cells = ("0.853 [0.82, 0.88]", "-1.5", "+0.012 [-0.01, +0.03]", "3e-05", "n/a", "12 %")
    table = Table(
        (Column("name", "left"), Column("figure")), tuple(Row((f"{n} x", cell)) for n, cell in enumerate(cells))
    )
    found = [one.attributes for one in parsed(str(table.html())).of("td")]
    assert [one.get("data-sort", "") for one in found] == ["0.853", "-1.5", "+0.012", "3e-05", "", "12"]
    first = [one.attributes for one in parsed(str(table.html())).of("th") if one.attributes["scope"] == "row"]
    assert all("data-sort" not in one for one in first)


@pytest.mark.parametrize(("caption", "title", "expected"), [("c", "t", "c"), ("", "t", "t"), ("", "", "below")])
def test_html_has_a_name_for_those_who_do_not_see_it(caption: str, title: str, expected: str) -> None:
    table = Table((Column("a"),), (Row(("1",)), Row(("2",))), title=title, caption="below")
    page = parsed(str(table.html(caption)))
    assert [one.text for one in page.of("caption")] == [expected]
    assert [one.attributes["aria-label"] for one in page.of("div")] == [expected]


def test_html_that_nobody_can_sort() -> None:
    two = Table((Column("a"),), (Row(("1",)), Row(("2",), strong=True)))
    for table, sortable, sorted_by_readers in (
        (two, True, True),
        (two, False, False),
        (Table(two.columns, two.rows[:1]), True, False),
    ):
        (found,) = parsed(str(table.html(sortable=sortable))).of("table")
        assert ("sortable" in found.attributes.get("class", "").split()) is sorted_by_readers
    assert [one.attributes.get("class") for one in parsed(str(two.html())).of("tr")] == [None, None, "strong"]
