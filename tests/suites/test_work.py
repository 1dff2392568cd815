"""Units are done in rounds, once each; one that fails costs only those that need it."""

from __future__ import annotations

import pytest

from tests.suites.made import SYSTEMS, begun, damaged, plan
from voxward.core.errors import UserError
from voxward.core.interrupt import Interrupted
from voxward.core.progress import silent
from voxward.engine.engine import InProcess
from voxward.engine.settings import settle
from voxward.report.suite.source import read_suite
from voxward.suites.notes import Notes
from voxward.suites.plan import SUITE, SuitePlan, Unit
from voxward.suites.work import SuiteWork, done


class Doing:
    """Notes what it is asked to do; some units fail."""

    def __init__(self, errors=None):
        self.errors, self.did = errors or {}, []

    def do(self, unit, folder, progress):
        self.did.append(unit)
        if unit in self.errors:
            raise self.errors[unit]
        return done(1.0, "a remark" if unit.stage == "attack" else "")


def run(found, errors=None):
    doer = Doing(errors)
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
    doer = Doing({stopped: Interrupted("a signal")})
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
    ):
        with pytest.raises(UserError, match=said):
            plan(tmp_path, **changes).check()
    assert not list(tmp_path.iterdir())
