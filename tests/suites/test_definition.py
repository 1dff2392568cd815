"""What a suite's file may say, and what is refused with the reason."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from tests.suites.made import SYSTEMS, suite
from tests.suites.made import plan as made
from voxward.core.errors import UserError
from voxward.robustness.protocol import load_protocol
from voxward.suites.definition import PhantomSet, Suite, SuiteSystem, Task, load_suite, suite_names
from voxward.suites.plan import TRAIN


@pytest.mark.parametrize("name", suite_names())
def test_packaged_suites_can_be_read(name):
    found = load_suite(name)
    assert found.name == name
    assert {one.harden for one in found.systems.values() if one.harden} == {"rog", "dynunet"}


def test_the_decathlon_has_its_ten_tasks():
    names = [one.data for one in load_suite("decathlon").tasks.values()]
    assert [int(name[4:6]) for name in names] == list(range(1, 11))


def test_the_small_suite_keeps_its_three_hours():
    found = load_suite("small")
    assert len(found.tasks) >= 6
    minutes = [one.within(task).minutes for one in found.systems.values() for task in found.tasks.values()]
    assert sum(minutes) / 2 <= 60  # in two processes; the attacks take as long
    assert all(task.attacked <= 2 for task in found.tasks.values())


def test_a_task_stretches_every_time_budget():
    system, task = SuiteSystem(recipe="rog", minutes=10.0, attack_minutes=4.0), Task(data="x", time=1.5)
    assert (system.within(task).minutes, system.within(task).attack_minutes) == (15.0, 6.0)
    assert SuiteSystem(recipe="rog").within(task) == SuiteSystem(recipe="rog")
    plan = made(Path("out"), tasks={"organ": {"phantoms": {"kind": "organ"}, "time": 0.5}})
    assert [plan.system(unit).minutes for unit in plan.units if unit.stage == TRAIN] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": {}}, "tasks must name at least one"),
        ({"tasks": {"a": {}}}, "tasks.a.data or phantoms must be given"),
        ({"tasks": {"a": {"data": "x", "phantoms": {"kind": "organ"}}}}, "phantoms must be given, and not both"),
        ({"tasks": {"../a": {"data": "x"}}}, "task '../a' needs a name"),
        ({"tasks": {"a": {"data": "x", "attacked": 0}}}, "attacked must be at least 1"),
        ({"tasks": {"a": {"data": "x", "time": 0.0}}}, "time must be above 0, such as 2 for twice the minutes, got 0"),
        ({"tasks": {"a": {"data": "x", "time": float("nan")}}}, "time must be above 0"),
        ({"tasks": {"a": {"phantoms": {"kind": "organ", "cases": 1}}}}, "cases must be at least 2"),
        ({"systems": {"data": {"recipe": "rog"}}}, "no system may be called 'data'"),
        ({"systems": {"a": {"recipe": "rog", "path": "x"}}}, "systems.a.recipe, harden or path must be given"),
        ({"systems": {"a": {}}}, "got none"),
        ({"systems": {"a": {"path": "x", "minutes": 3.0}}}, "a path is not trained"),
        ({"systems": {"a": {"recipe": "rog", "minutes": 0.0}}}, "minutes must be positive"),
        ({"systems": {"a": {"recipe": "rog", "method": "free", "eps": 0.1}}}, "method and eps would not be used"),
        ({"systems": {"a": {"path": "x", "eps": 0.1}}}, "eps would not be used"),
        ({"systems": {"a": {"harden": "b"}, "rog": {"recipe": "rog"}}}, "systems.a.harden"),
        ({"systems": {"a": {"harden": "b"}, "b": {"harden": "a"}}}, "leads back to itself"),
        ({"systems": {"a": {"recipe": "rog", "tasks": ["spleen"]}}}, "systems.a.tasks"),
        ({"systems": {**SYSTEMS, "rog": {"recipe": "rog", "tasks": ["liver"]}}}, "in the task 'organ', and rog"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(changes, said):
    with pytest.raises(UserError, match=r"made\.yaml") as raised:
        suite(**changes)
    assert said in str(raised.value)


def test_paths_lie_beside_the_file(tmp_path):
    data = {
        "name": "mine", "tasks": {"a": {"data": "A"}}, "protocol": "mine-protocol.yaml",
        "systems": {"x": {"recipe": "my.yaml"}, "y": {"recipe": "rog"}, "z": {"path": "models/{task}"}},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"format": 1, **data}))
    found = load_suite(tmp_path / "mine.yaml", ["systems.y.minutes=3"])
    assert found.systems["x"].recipe == str(tmp_path / "my.yaml")
    assert (found.systems["y"].recipe, found.systems["y"].minutes) == ("rog", 3.0)
    assert found.systems["z"].path == str(tmp_path / "models/{task}")
    assert found.protocol == str(tmp_path / "mine-protocol.yaml")


def test_some_tasks_only():
    chosen = suite(systems={**SYSTEMS, "other": {"path": "x", "tasks": ["organ"]}}).only(["liver"])
    assert list(chosen.tasks) == ["liver"]
    assert list(chosen.systems) == ["rog", "rog-free"]
    assert list(suite(systems={**SYSTEMS, "other": {"path": "x", "tasks": ["organ"]}}).only(["organ"]).systems)[2:]
    with pytest.raises(UserError, match="livr"):
        suite().only(["livr"])


def test_the_suite_of_the_page_on_suites_is_one(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "suites.md").read_text()
    (tmp_path / "mine.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    found = load_suite(tmp_path / "mine.yaml")
    assert {name: bool(one.tasks) for name, one in found.systems.items()} == {
        "rog": False, "rog-free": False, "old": False, "nnunet": True,
    }  # fmt: skip
    assert load_protocol(found.protocol, found.overrides).threat.eps == (4 / 255, 8 / 255)
    assert all(name in text for name in (f"`{name}`" for name in suite_names()))
    names = {field.name for cls in (Suite, Task, SuiteSystem, PhantomSet) for field in fields(cls)}
    assert {name for name in names if name not in text} == {"description"}
