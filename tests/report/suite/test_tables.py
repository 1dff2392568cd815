"""Tables and charts over made-up cells: each task counts once, and what is missing is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from statistics import mean, stdev

import pytest

from tests.report.folders import metrics_data, write_json
from tests.suites.made import begun, fail, finish, records
from voxward.core.document import with_format
from voxward.core.outputs import Outputs
from voxward.report.html.page import render
from voxward.report.sources import read_sources
from voxward.report.suite.averages import Averaged, under
from voxward.report.suite.charts import attacks_chart, robustness_chart, task_charts
from voxward.report.suite.source import read_suite
from voxward.report.suite.tables import TABLES, areas_table, attacks_table, dice_table, suite_tables, write_tables
from voxward.robustness.record import Phantom
from voxward.suites.notes import Note, Notes
from voxward.suites.plan import Unit

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


def test_means_over_as_many_but_other_tasks_do_not_compare(tmp_path):
    found = begun(tmp_path)
    finish(found, "liver", "rog", {"a": 0.9}, records(LIVER))
    finish(found, "organ", "rog-free", {"x": 0.7}, records(HARDENED, "x"))
    source = read_suite(tmp_path, [])
    for table in (dice_table(source), attacks_table(source)):
        assert [text for text in table.warnings if "rog: liver; rog-free: organ" in text]


def test_clean_dice_is_over_the_cases_that_all_systems_were_scored_on(whole):
    finish(whole, "liver", "rog-free", {"a": 0.6, "c": 0.4, "d": 0.0}, records(HARDENED))
    source = read_suite(whole.root, [])
    assert [row(dice_table(source), name)["liver"] for name in ("rog", "rog-free")] == ["0.850", "0.500"]
    tasks = suite_tables(source)["tasks"]
    assert row(tasks, "liver")["scored"] == "2"
    assert "liver: clean Dice on the 2 cases that all systems were scored on, of 3 to 3" not in tasks.warnings
    assert any("on the 2 cases that all systems were scored on" in text for text in tasks.notes)
    finish(whole, "liver", "rog-free", {"d": 0.6}, records(HARDENED))
    source = read_suite(whole.root, [])
    assert "liver" not in [column.heading for column in dice_table(source).columns]
    assert any("rog, rog-free were scored on different cases" in text for text in dice_table(source).warnings)


def test_a_clean_dice_of_other_classes_is_told(whole):
    data = metrics_data({"x": 0.9, "y": 0.9})
    data["cases"] = [{**case, "classes": {"whole": case["classes"]["liver"]}} for case in data["cases"]]
    write_json(whole.folder("organ", "rog-free") / "metrics.json", data)
    assert any(
        "organ: the systems are scored on different classes, and do not compare: rog: liver; rog-free: whole" in text
        for text in dice_table(read_suite(whole.root, [])).warnings
    )


def test_what_is_not_known_of_a_training_stands_above_the_clean_dice(whole):
    unit = Unit("liver", "rog", "score")
    Notes(whole.root).write(unit, Note("done", remark="nothing is known about which images rog was trained on"))
    source = read_suite(whole.root, [])
    for table in (dice_table(source), suite_tables(source)["tasks"]):
        assert [text for text in table.warnings if text.startswith("liver, rog: nothing is known about which images")]


def test_an_attack_that_some_tasks_lack_is_averaged_over_the_others_and_says_so(whole):
    """As apgd-margin of two classes and apgd-dlr of more: 0.2 and 0.1 on the organ, whose clean Dice is 0.8."""
    finish(whole, "organ", "rog", {"x": 1.0, "y": 0.9}, records({**ORGAN, "apgd-dlr": (0.2, 0.1)}, "x", 0.6))
    source = read_suite(whole.root, [])
    table = attacks_table(source)
    first = row(table, "rog", "25.5/255")
    assert (first["apgd-dlr"], first["apgd-ce"], first["tasks"]) == ("0.200 (1)", "0.500", "2")
    assert any("in brackets: over so many tasks only" in text for text in table.notes)
    areas = areas_table(source)
    # The curve begins at the clean Dice of the same task, 0.6, and not at that of both.
    assert row(areas, "rog")["apgd-dlr"] == f"{(0.6 / 2 + 0.2 + 0.1 / 2) / 2:.3f} (1)"
    assert any("in brackets" in text for text in areas.notes)
    (line,) = [one for one in attacks_chart(source).panels[0].lines if one.name == "apgd-dlr"]
    assert [(point.y, point.n) for point in line.points] == [(0.6, 1), (0.2, 1), (0.1, 1)]
    whole_table = attacks_table(read_suite(whole.root, []))
    assert not any("(" in cell for cell in row(whole_table, "rog-free", "25.5/255").values())


def test_the_worst_case_is_over_the_attacks_that_the_attack_itself_names(whole):
    """A network of regions has apgd-margin, whatever the number of its regions."""
    ours = ("apgd-ce", "apgd-margin")
    for system, dice in (("rog", (0.5, 0.4)), ("rog-free", (0.6, 0.5))):
        held = records({"apgd-ce": (0.7, 0.7), "apgd-margin": dice, "square": (0.0, 0.0)}, "x")
        finish(whole, "organ", system, {"x": 0.9}, held)
        protocol = {"name": "p", "attacks": ["autoattack"], "threat": {"eps": [0.1, 0.2]}}
        described = {"ensembles": {"autoattack": list(ours)}, "protocol": protocol}
        write_json(whole.attack_folder("organ", system) / "protocol.json", with_format(described))
    source = read_suite(whole.root, [])
    assert [task.attacks for task in source.tasks] == [None, ours]
    assert source.tasks[1].worst.robust_dice("rog", 0.1).mean == pytest.approx(0.5)


def test_a_task_with_an_invented_class_is_in_no_mean_and_is_named(whole):
    for system in ("rog", "rog-free"):
        held = [replace(one, phantom=Phantom("cyst", 1.0, 3.0)) for one in records(HARDENED, "x")]
        finish(whole, "organ", system, {"x": 0.9}, held)
    source = read_suite(whole.root, [])
    assert row(attacks_table(source), "rog", "25.5/255")["tasks"] == "1"
    assert any("organ is in no mean: cyst is invented here" in text for text in attacks_table(source).warnings)


def test_figures_of_windows_say_so(whole):
    notes = attacks_table(read_suite(whole.root, [])).notes
    assert "Dice in one window of each case, and not of the whole volume as in the table of clean Dice" in notes


def test_results_that_are_gone_or_damaged_are_told_in_the_tables(whole):
    (whole.folder("organ", "rog") / "metrics.json").unlink()
    shutil.rmtree(whole.attack_folder("liver", "rog"))
    problems = []
    source = read_suite(whole.root, problems)
    assert source.missing == ("liver, rog", "organ, rog")
    assert not problems
    (record, *_) = sorted((whole.attack_folder("organ", "rog-free") / "records").rglob("*.json"))
    record.write_text("{")
    (whole.folder("liver", "rog-free") / "metrics.json").write_text("{")
    source = read_suite(whole.root, problems)
    assert any("organ, rog-free: " in text and "cannot be read" in text for text in attacks_table(source).warnings)
    assert any("liver, rog-free: in no figure of clean Dice" in text for text in suite_tables(source)["tasks"].warnings)
    assert problems


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
    written = [name for name in TABLES if not name.startswith(("corruptions", "certificates"))]
    assert all((whole.root / name).stat().st_size > 100 for name in written)
    write_tables(read_suite(begun(whole.root.parent / "new").root, []), Outputs(whole.root, "part of a suite"))
    assert sorted(path.name for path in whole.root.glob("*.*") if path.name in TABLES) == ["tasks.csv", "tasks.md"]
    write_tables(source, Outputs(whole.root, "part of a suite"))
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
