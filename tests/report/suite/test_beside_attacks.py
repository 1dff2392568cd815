"""Corruptions and certificates of a suite: means over tasks, and what does not compare."""

from __future__ import annotations

from dataclasses import replace

from tests.report.folders import attack_folder
from tests.report.html.test_certificate import certificate_of
from tests.report.suite.test_tables import row
from tests.robustness.test_corruption_figures import book
from tests.suites.made import begun, finish
from voxward.report.suite.certificates import suite_certificates_table
from voxward.report.suite.corruptions import suite_corruptions_table
from voxward.report.suite.source import read_suite
from voxward.report.suite.tables import suite_tables

PROTOCOL = {"attacks": [], "corruptions": {"set": "rood-mri"}}


def corrupted(tmp_path, **systems):
    """Two tasks; the Dice under corruptions of each system on both, as in `book`, and by how much it is higher."""
    found = begun(tmp_path)
    for task in ("liver", "organ"):
        for system, shifts in systems.items():
            held = book(shift=shifts[task])
            finish(found, task, system, {"a": 0.8, "b": 0.6}, held)
            attack_folder(found.attack_folder(task, system), held, {"protocol": PROTOCOL})
    return found


def test_corruptions_are_averaged_over_tasks(tmp_path):
    corrupted(tmp_path, **{"rog": {"liver": 0.0, "organ": 0.1}, "rog-free": {"liver": 0.1, "organ": 0.1}})
    source = read_suite(tmp_path, [])
    table = suite_corruptions_table(source)
    cells = row(table, "rog")
    assert (cells["clean"], cells["corrupted"], cells["gap"]) == ("0.700", "0.525", "0.175")
    assert cells["worst corruption"] == "move 0.500"
    assert (cells["std"], cells["tasks"]) == ("0.071", "2")
    assert row(table, "rog-free")["corrupted"] == "0.575"
    assert not table.warnings
    assert list(suite_tables(source)) == ["tasks", "dice", "corruptions"]  # no attack, no table of attacks


def test_tasks_with_other_corruptions_say_so(tmp_path):
    found = begun(tmp_path)
    finish(found, "liver", "rog", {"a": 0.8}, book())
    finish(found, "organ", "rog", {"a": 0.8}, [one for one in book() if one.attack != "move"])
    (text,) = [one for one in suite_corruptions_table(read_suite(tmp_path, [])).warnings if "different corr" in one]
    assert "liver: blur, move; organ: blur" in text


def test_certificates_are_averaged_over_tasks(tmp_path):
    corrupted(tmp_path, rog={"liver": 0.0, "organ": 0.0})
    source = read_suite(tmp_path, [])
    made = {
        "liver": tuple(replace(certificate_of(case, dice), model="rog") for case, dice in (("a", 0.8), ("b", 0.6))),
        "organ": (replace(certificate_of("a", 0.9), model="rog"),),
    }
    source = replace(source, tasks=tuple(replace(task, certificates=made[task.name]) for task in source.tasks))
    cells = row(suite_certificates_table(source), "rog")
    assert cells["median, R = 1"] == "0.800"  # of 0.7 and 0.9
    assert cells["median, R = 2"] == "n/a"  # too few runs
    assert cells["mask, R = 0.67"] == "0.700"
    assert cells["tasks"] == "2"


def test_where_nothing_was_corrupted_or_certified_there_is_no_table(tmp_path):
    source = read_suite(begun(tmp_path).root, [])
    assert suite_corruptions_table(source) is None
    assert suite_certificates_table(source) is None
