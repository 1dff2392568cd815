"""Units are done in rounds, once each; one that fails costs only those that need it."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import voxward
import voxward.commands.suite as command
from tests.suites.made import SYSTEMS, begun, damaged, plan, results, suite
from voxward.core.choices import Cases, Compute
from voxward.core.errors import CasesFailed, Failure, UserError
from voxward.core.interrupt import Interrupted
from voxward.core.progress import silent
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split
from voxward.engine.engine import InProcess
from voxward.engine.settings import settle
from voxward.phantoms.write import write_phantoms
from voxward.report.suite.source import read_suite
from voxward.runs.unseen import Scope
from voxward.suites.definition import load_suite
from voxward.suites.notes import Notes
from voxward.suites.plan import SUITE, SuitePlan, Unit
from voxward.suites.work import SuiteWork, done

PHANTOMS_ONLY = {"tasks": {"o": {"phantoms": {"kind": "organ", "cases": 4, "size": 16}}}}


class Doing:
    """Notes what it is asked to do; some units fail."""

    def __init__(self, plan, errors=None):
        self.plan, self.errors, self.did = plan, errors or {}, []

    def do(self, unit, folder, progress):
        self.did.append(unit)
        if unit in self.errors:
            raise self.errors[unit]
        results(self.plan, unit)
        return done(1.0, "a remark" if unit.stage == "attack" else "")


def run(found, errors=None):
    doer = Doing(found, errors)
    work = SuiteWork(found, doer)
    work.run(InProcess(found.root), silent)
    return doer.did, work.failed_now


def test_a_unit_comes_after_those_that_it_needs(tmp_path):
    found = plan(tmp_path, systems={**SYSTEMS, "twice": {"harden": "rog-free"}, "there": {"path": "models/{task}"}})
    did, failed = run(found)
    assert not failed
    assert sorted(did, key=str) == sorted(found.units, key=str)
    assert len(did) == 2 * (3 * 3 + 2)
    for unit in did:
        assert all(did.index(one) < did.index(unit) for one in found.needs(unit))
    assert found.needs(Unit("liver", "twice", "train")) == (Unit("liver", "rog-free", "train"),)
    assert found.needs(Unit("liver", "there", "attack")) == ()


def test_finished_work_is_never_done_again(tmp_path):
    found = plan(tmp_path)
    run(found)
    assert run(found) == ([], {})


@pytest.mark.parametrize(
    ("deleted", "again"),
    [
        (("organ", "rog-free", "attack"), [("rog-free", "attack")]),
        (("organ", "rog-free", "score"), [("rog-free", "score")]),
        (("organ", "rog-free", "train"), [("rog-free", stage) for stage in ("train", "score", "attack")]),
        (("organ", "rog", "train"), [(system, stage) for stage in ("train", "score", "attack")
                                     for system in ("rog", "rog-free")]),
    ],
)  # fmt: skip
def test_results_that_were_deleted_are_made_again_and_what_was_made_from_them(tmp_path, deleted, again):
    found = plan(tmp_path)
    run(found)
    unit = Unit(*deleted)
    path = results(found, unit)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    did, failed = run(found)
    assert [(one.system, one.stage) for one in did] == again
    assert {one.task for one in did} == {"organ"}
    assert not failed
    assert run(found) == ([], {})


def test_what_was_made_from_a_deleted_training_counts_no_more_where_it_fails_now(tmp_path):
    found, broken = plan(tmp_path), Unit("organ", "rog", "train")
    run(found)
    results(found, broken).unlink()
    with pytest.warns(UserWarning, match="no memory"):
        _, failed = run(found, {broken: MemoryError("no memory")})
    assert len(failed) == 6
    assert Notes(tmp_path).read(Unit("organ", "rog-free", "attack")).state == "failed"


def test_a_failed_cell_costs_no_other_one_and_is_tried_again(tmp_path):
    found, broken = plan(tmp_path), Unit("liver", "rog", "train")
    with pytest.warns(UserWarning, match="liver, rog: train failed, and the rest goes on: no memory"):
        did, failed = run(found, {broken: MemoryError("no memory")})
    assert {unit.task for unit in failed} == {"liver"}
    assert [unit for unit in did if unit.task == "liver"] == [broken]
    assert len([unit for unit in did if unit.task == "organ"]) == 6
    reason = Notes(tmp_path).read(Unit("liver", "rog-free", "train")).reason
    assert reason == "rog, which it hardens: no memory"
    did, failed = run(found)
    assert not failed
    assert {unit.task for unit in did} == {"liver"}
    assert len(did) == 6


def test_a_bug_is_told_with_its_place(tmp_path):
    found, broken = plan(tmp_path), Unit("organ", "rog", "attack")
    with pytest.warns(UserWarning, match=r"KeyError: 'x' \(at .*test_work.py:\d+\)"):
        _, failed = run(found, {broken: KeyError("x")})
    assert list(failed) == [broken]


def test_an_interruption_stops_everything_and_notes_no_failure(tmp_path):
    found, stopped = plan(tmp_path), Unit("organ", "rog", "train")
    doer = Doing(found, {stopped: Interrupted("a signal")})
    with pytest.raises(Interrupted):
        SuiteWork(found, doer).run(InProcess(tmp_path), silent)
    assert Notes(tmp_path).read(stopped) is None
    did, failed = run(found)
    assert did[0] == stopped
    assert not failed


def test_a_damaged_note_is_refused(tmp_path):
    found = plan(tmp_path)
    run(found)
    damaged(Notes(tmp_path).path(Unit("liver", "rog", "score")))
    with pytest.raises(UserError, match=r"rog.score\.json is damaged"):
        run(found)


def test_later_calls_may_add_and_leave_out_but_not_change(tmp_path):
    begun(tmp_path)
    grows = {"entries": "{} has changed"}
    more = plan(tmp_path, systems={"rog": SYSTEMS["rog"], "dynunet": {"recipe": "dynunet"}})
    settle(tmp_path / SUITE, more.settings, "a suite", grows=grows)
    assert len(begun(tmp_path).suite.systems) == 2
    changed = plan(tmp_path, systems={"rog": {"recipe": "rog", "minutes": 9.0}})
    with pytest.raises(UserError, match="systems/rog has changed"):
        settle(tmp_path / SUITE, changed.settings, "a suite", grows=grows)
    with pytest.raises(UserError, match=r"threat\.eps"):
        settle(tmp_path / SUITE, plan(tmp_path, overrides=["threat.eps=[0.3]"]).settings, "a suite", grows=grows)


def test_a_folder_begun_with_some_tasks_takes_the_others_later(tmp_path):
    systems = {
        **SYSTEMS,
        "there": {"path": "x", "tasks": ["organ", "liver"]},
        "else": {"path": "x", "tasks": ["liver"]},
    }
    whole, grows = plan(tmp_path, systems=systems), {"entries": "{} has changed"}
    part = SuitePlan(whole.suite.only(["organ"]), whole.root, whole.data)
    settle(tmp_path / SUITE, part.settings, "a suite", grows=grows)
    found = read_suite(tmp_path, [])
    assert (found.systems, [task.name for task in found.tasks]) == (("rog", "rog-free", "there"), ["organ"])
    assert found.missing == ("organ, rog", "organ, rog-free", "organ, there")
    settle(tmp_path / SUITE, whole.settings, "a suite", grows=grows)
    found = read_suite(tmp_path, [])
    assert (len(found.systems), len(found.tasks), found.absent) == (4, 2, (("organ", "else"),))


def test_what_cannot_work_is_refused_before_any_work(tmp_path):
    for changes, said in (
        ({}, "no dataset at .*datasets.Liver.*--tasks organ"),
        ({"tasks": {"o": {"phantoms": {"kind": "orgn"}}}}, "orgn"),
        ({"tasks": {"o": {"phantoms": {"kind": "organ", "size": 3}}}}, "size"),
        ({"tasks": {"o": {"phantoms": {"kind": "organ"}}}, "fold": 5}, "fold must be 0 to 4"),
        ({"tasks": {"o": {"phantoms": {"kind": "organ"}}}, "systems": {"x": {"recipe": "rogg"}}}, "rogg"),
        ({"systems": {**SYSTEMS, "rog-free": {"harden": "rog", "method": "fre"}}}, "systems.rog-free.method"),
        (
            {**PHANTOMS_ONLY, "systems": {**SYSTEMS, "h": {"harden": "rog", "overrides": ["defence.steps=3"]}}},
            "systems.h on the task o: .*defence.method=free does not use steps",
        ),
        (
            {**PHANTOMS_ONLY, "systems": {**SYSTEMS, "h": {"harden": "rog", "overrides": ["traning.epochs=3"]}}},
            "systems.h on the task o: .*traning",
        ),
        (
            {**PHANTOMS_ONLY, "systems": {**SYSTEMS, "h": {"harden": "rog", "eps": 2.0}}},
            "systems.h on the task o: .*eps",
        ),
    ):
        with pytest.raises(UserError, match=said):
            plan(tmp_path, **changes).check()
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_told_before_any_training(tmp_path):
    (tmp_path / "here").mkdir()
    systems = {"here": {"path": str(tmp_path / "here")}, "gone": {"path": str(tmp_path / "gone-{task}")}}
    with pytest.warns(UserWarning, match=r"there is no .*gone-o: these cells will fail"):
        plan(tmp_path, **PHANTOMS_ONLY, systems=systems).check()


def test_another_dataset_under_the_same_name_is_no_other_beginning(tmp_path):
    """What is done on one dataset must not be compared with what would be done on another one."""
    for number, place in enumerate(("one", "two")):
        write_phantoms(tmp_path / place / "Organ", 4, seed=number, size=16)
    tasks, grows = {"organ": {"data": "Organ"}}, {"entries": "{} has changed"}
    first, other = (SuitePlan(suite(tasks=tasks), tmp_path / "out", tmp_path / name) for name in ("one", "two"))
    settle(tmp_path / SUITE, first.settings, "a suite", grows=grows)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    moved = SuitePlan(suite(tasks=tasks), tmp_path / "out", tmp_path / "moved")
    settle(tmp_path / SUITE, moved.settings, "a suite", grows=grows)
    with pytest.raises(UserError, match="tasks/organ has changed"):
        settle(tmp_path / SUITE, other.settings, "a suite", grows=grows)
    ids = [case.id for case in open_dataset(tmp_path / "one" / "Organ").cases]
    (tmp_path / "moved" / "Organ" / "splits.json").write_text(json.dumps([{"train": ids[:2], "val": ids[2:]}]))
    with pytest.raises(UserError, match="tasks/organ has changed"):
        settle(tmp_path / SUITE, moved.settings, "a suite", grows=grows)


def test_a_suite_may_be_moved_with_its_models_and_recipes(tmp_path):
    data = {"name": "mine", "systems": {"a": {"recipe": "a.yaml"}, "b": {"path": "models/{task}"}}, **PHANTOMS_ONLY}
    settings = []
    for place in (tmp_path / "here", tmp_path / "there"):
        place.mkdir()
        (place / "a.yaml").write_text(dump_recipe(load_recipe("rog")))
        (place / "mine.yaml").write_text(yaml.safe_dump({"format": 1, **data}))
        found = SuitePlan(load_suite(place / "mine.yaml"), tmp_path / "out", place, place)
        assert found.source("o", "b") == place / "models" / "o"
        settings.append(found.settings)
    assert settings[0] == settings[1]


def test_every_system_is_scored_and_attacked_on_the_held_out_cases(tmp_path, monkeypatch):
    """Also a model that another tool trained, on whatever cases: else nothing would be compared with it."""
    found = plan(tmp_path, **PHANTOMS_ONLY, systems={**SYSTEMS, "theirs": {"path": "x"}})
    found.write_phantoms()
    (held_out,) = load_split(open_dataset(found.dataset("o")), 0, 0, 5).validation
    asked = []
    monkeypatch.setattr(voxward, "evaluate", lambda system, cases, **_: asked.append((str(system), cases)))
    monkeypatch.setattr(voxward, "attack", lambda systems, cases, **_: asked.append((systems[0], cases)))
    monkeypatch.setattr(command, "open_system", lambda *_: None)
    monkeypatch.setattr(command, "scope_for", lambda *_: Scope((held_out,), notes=("nothing is known",)))
    doer = command.CellDoer(found, Compute(), False)
    remarks = [
        doer.do(Unit("o", system, stage), tmp_path, silent).remark
        for system in ("rog", "theirs") for stage in ("score", "attack")
    ]  # fmt: skip
    assert [cases for _, cases in asked] == [Cases(found.dataset("o"), ids=(held_out,))] * 4
    assert [system for system, _ in asked][2:] == ["x", "x"]
    assert remarks == ["", "", "nothing is known", ""]


def test_what_failed_and_what_the_budget_left_out_are_both_told(tmp_path, monkeypatch):
    found = plan(tmp_path, **PHANTOMS_ONLY, systems={"theirs": {"path": "x"}})
    found.write_phantoms()

    def attack(*_, **__):
        raise CasesFailed((Failure("a", "too small"),), 2, "what was found")

    monkeypatch.setattr(voxward, "attack", attack)
    monkeypatch.setattr(command, "cases_within", lambda *_: (2, "the budget has room for 2 cases"))
    remark = command.CellDoer(found, Compute(), False).do(Unit("o", "theirs", "attack"), tmp_path, silent).remark
    assert "too small" in remark
    assert remark.endswith("; the budget has room for 2 cases")
