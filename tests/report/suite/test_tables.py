"""Tables and charts over made-up cells: each task counts once, and what is missing is named."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

import pytest

from tests.suites.made import begun, fail, finish, records
from voxward.core.outputs import Outputs
from voxward.report.html.page import render
from voxward.report.sources import read_sources
from voxward.report.suite.averages import Averaged, under
from voxward.report.suite.charts import attacks_chart, robustness_chart, task_charts
from voxward.report.suite.source import read_suite
from voxward.report.suite.tables import TABLES, areas_table, attacks_table, dice_table, suite_tables, write_tables

# The row of ROG in Table 2 of the paper, which says 0.69 and 0.18.
PAPER = (0.56, 0.91, 0.75, 0.89, 0.79, 0.36, 0.66, 0.62, 0.88, 0.46)

LIVER = {"apgd-ce": (0.4, 0.2), "apgd-ce-10": (0.3, 0.1), "pgd-ce": (0.5, 0.3)}
ORGAN = {"apgd-ce": (0.6, 0.4), "apgd-ce-10": (0.6, 0.4), "pgd-ce": (0.6, 0.5)}
HARDENED = {"apgd-ce": (0.7, 0.6), "apgd-ce-10": (0.7, 0.6), "pgd-ce": (0.7, 0.65)}


@pytest.fixture
def whole(tmp_path):
    """A finished suite. The liver has three held-out cases, of which rog was attacked on two."""
    found = begun(tmp_path)
    liver = [*records(LIVER), *records(dict.fromkeys(LIVER, (0.0, 0.0)), "b")]
    finish(found, "liver", "rog", {"a": 0.9, "b": 0.7, "c": 0.8}, liver)
    finish(found, "liver", "rog-free", {"a": 0.6, "b": 0.6, "c": 0.6}, records(HARDENED))
    finish(found, "organ", "rog", {"x": 1.0, "y": 0.9}, records(ORGAN, "x"))
    finish(found, "organ", "rog-free", {"x": 0.7, "y": 0.5}, records(HARDENED, "x"))
    return found


def row(table, *head):
    (found,) = [one for one in table.rows if one.cells[: len(head)] == head]
    return dict(zip([column.heading for column in table.columns], found.cells, strict=True))


def test_the_mean_of_the_paper_s_row(tmp_path):
    tasks = {f"t{n}": {"data": f"T{n}"} for n, _ in enumerate(PAPER, 1)}
    found = begun(tmp_path, tasks=tasks, systems={"rog": {"recipe": "rog"}})
    for n, dice in enumerate(PAPER, 1):
        finish(found, f"t{n}", "rog", {"a": dice - 0.01, "b": dice + 0.01}, records(LIVER))
    cells = row(dice_table(read_suite(tmp_path, [])), "rog")
    assert (cells["t1"], cells["t10"], cells["tasks"]) == ("0.560", "0.460", "10")
    assert cells["mean"] == f"{mean(PAPER):.3f}" == "0.688"
    assert cells["std"] == f"{stdev(PAPER):.3f}"
    assert float(cells["std"]) == pytest.approx(0.18, abs=0.01)


def test_each_task_counts_once_over_the_cases_in_common(whole):
    source = read_suite(whole.root, [])
    assert not source.warnings
    cells = row(dice_table(source), "rog")
    assert (cells["liver"], cells["organ"], cells["mean"]) == ("0.800", "0.950", "0.875")
    # Of the liver only the case a is compared; case b, at 0, would halve its figures.
    found = attacks_table(source)
    assert "apgd-ce-10" not in [column.heading for column in found.columns]
    first = row(found, "rog", "25.5/255")
    assert (first["clean"], first["apgd-ce"], first["pgd-ce"], first["tasks"]) == ("0.800", "0.500", "0.550", "2")
    # The lowest of all attacks, those with more steps among them.
    assert first["worst case"] == "0.450"
    assert row(found, "rog-free", "51/255")["worst case"] == "0.600"
    tasks = row(suite_tables(source)["tasks"], "liver")
    assert (tasks["scored"], tasks["attacked"], tasks["systems"]) == ("3", "1", "2 of 2")
    assert "compared on the 1 case that all systems were attacked on, of 1 to 2" in str(suite_tables(source)["tasks"])


def test_areas_are_those_under_the_mean_over_tasks(whole):
    cells = row(areas_table(read_suite(whole.root, [])), "rog")
    # By trapezoids over 0.8, 0.5, 0.3; and 0.8, 0.55, 0.4.
    assert cells["apgd-ce"] == f"{(0.8 / 2 + 0.5 + 0.3 / 2) / 2:.3f}"
    assert cells["pgd-ce"] == f"{(0.8 / 2 + 0.55 + 0.4 / 2) / 2:.3f}"


def test_budgets_are_averaged_over_tasks(whole):
    table = suite_tables(read_suite(whole.root, []))["budgets"]
    found = {(one.cells[0], one.cells[2]): one.cells[3:5] for one in table.rows}
    assert ("rog", "10 steps") in found
    assert found["rog", "10 steps"] == ("0.450", "0.250")


def test_charts_show_the_same_figures(whole):
    source = read_suite(whole.root, [])
    (panel,) = robustness_chart(source).panels
    assert [line.name for line in panel.lines] == ["rog", "rog-free"]
    assert [point.y for point in panel.lines[0].points] == pytest.approx([0.8, 0.45, 0.25])
    attacks = attacks_chart(source)
    assert [one.name for one in attacks.panels] == ["rog", "rog-free"]
    assert {line.name: line.figure for line in attacks.panels[0].lines}["apgd-ce"] == "AUC 0.525"
    charts = task_charts(source)
    assert [one.title.split(":")[0] for one in charts] == ["liver", "organ"]
    assert {line.name for line in charts[0].panels[0].lines} >= {"rog", "rog-free"}


def test_failed_and_unfinished_cells_are_named_and_their_means_do_not_compare(tmp_path):
    found = begun(tmp_path)
    finish(found, "liver", "rog", {"a": 0.9}, records(LIVER))
    finish(found, "organ", "rog", {"x": 0.9}, records(ORGAN, "x"))
    finish(found, "organ", "rog-free", {"x": 0.7}, records(HARDENED, "x"))
    fail(found, "liver", "rog-free", "train", "the loss is not finite")
    source = read_suite(tmp_path, [])
    assert source.warnings == ("failed, and in no figure: liver, rog-free (train: the loss is not finite)",)
    for table in (dice_table(source), attacks_table(source), areas_table(source)):
        assert any("the loss is not finite" in text for text in table.warnings)
        assert any("over different tasks, and do not compare" in text for text in table.warnings)
    assert row(dice_table(source), "rog-free")["liver"] == "n/a"
    assert read_suite(begun(tmp_path / "new").root, []).warnings[0].startswith("not finished: liver, rog; ")


def test_a_system_with_other_classes_costs_no_other_one(whole):
    others = [replace(one, classes=("liver", "cyst")) for one in records(HARDENED)]
    finish(whole, "liver", "rog-free", {"a": 0.6}, others)
    source = read_suite(whole.root, [])
    assert source.tasks[0].attacked == ("rog",)
    assert row(attacks_table(source), "rog", "25.5/255")["tasks"] == "2"
    assert any("liver, rog-free is in no figure of attacks" in text for text in attacks_table(source).warnings)


def test_an_attack_that_is_not_finished_is_in_no_figure(whole):
    (whole.root / "cells" / "organ" / "rog" / "attack.json").unlink()
    source = read_suite(whole.root, [])
    assert source.missing == ("organ, rog",)
    assert Averaged(source).mean("rog", 0.1, under("apgd-ce")).n == 1


def test_files_and_page(whole):
    source = read_suite(whole.root, [])
    write_tables(source, Outputs(whole.root, "part of a suite"))
    assert all((whole.root / name).stat().st_size > 100 for name in TABLES)
    sources = read_sources([whole.root])
    assert not sources.problems
    page = render(sources)
    for text in ("All tasks together", "suite-1-dice-over-eps", "suite-1-task-2", "as Table 2 of the ROG paper"):
        assert text in page


def test_what_is_damaged_is_a_problem_and_no_end(whole):
    (whole.folder("organ", "rog") / "metrics.json").write_text("{")
    problems = []
    source = read_suite(whole.root, problems)
    assert len(problems) == 1
    assert "metrics.json" in problems[0]
    assert list(source.tasks[1].dice) == ["rog-free"]
    (whole.root / "suite.json").write_text("{}")
    assert read_suite(whole.root, problems).tasks == ()
    assert len(problems) == 2
