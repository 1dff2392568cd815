"""The engine of this process does what is left, one unit after the other."""

from __future__ import annotations

import os
import signal

import pytest

from tests.engine.names import Heard, Names, Shouter, begun, names
from voxward.core.interrupt import Interrupted
from voxward.engine.engine import Doer, Engine, InProcess, Watch, Work


def test_the_protocols(tmp_path):
    assert isinstance(InProcess(tmp_path), Engine)
    assert isinstance(names(tmp_path), Work)
    assert isinstance(names(tmp_path).doer, Doer)
    assert isinstance(Heard(), Watch)


def test_only_what_is_left_is_done_and_the_watch_is_told(tmp_path):
    work, heard = names(tmp_path, "b"), Heard()
    InProcess(tmp_path).run(["a", "b", "c"], work, heard)
    assert begun(tmp_path) == ["a", "c"]
    assert work.results == {"a": "A", "b": "", "c": "C"}
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == ["a.txt", "c.txt"]
    assert heard.events[:3] == [("begin", "a"), ("told", "a", "steps", 1, 2, {"dice": 0.5}), ("end", "a")]
    assert [event[:2] for event in heard.events[3:]] == [("begin", "c"), ("told", "c"), ("end", "c")]


def test_a_failure_is_kept_and_a_bug_ends_the_work(tmp_path):
    work, heard = names(tmp_path), Heard()
    with pytest.raises(ZeroDivisionError, match="bug"):
        InProcess(tmp_path).run(["a", "bad", "c", "bug", "d"], work, heard)
    assert list(work.results) == ["a", "c"]
    assert str(work.failures["bad"]) == "bad is bad"
    assert heard.events[-1] == ("end", "bug")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_work_after_the_unit_that_runs(tmp_path, number):
    class Struck(Shouter):
        def do(self, unit, folder, progress):
            if unit == "b":
                os.kill(os.getpid(), number)
            return super().do(unit, folder, progress)

    work = Names(Struck(tmp_path / "log"))
    with (
        pytest.warns(UserWarning, match="finished first; a second Ctrl-C or signal stops at once"),
        pytest.raises(Interrupted, match="same command again"),
    ):
        InProcess(tmp_path).run(["a", "b", "c"], work, Heard())
    assert work.results == {"a": "A", "b": "B"}


def test_a_signal_during_the_last_unit_is_not_forgotten(tmp_path):
    """Other rounds may follow."""

    class Struck(Shouter):
        def do(self, unit, folder, progress):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # as from `timeout`, which tells the process and its group
            return super().do(unit, folder, progress)

    work = Names(Struck(tmp_path / "log"))
    with pytest.warns(UserWarning, match="finished first"), pytest.raises(Interrupted):
        InProcess(tmp_path).run(["a"], work, Heard())
    assert work.results == {"a": "A"}


def test_a_second_signal_stops_at_once(tmp_path):
    class Struck(Shouter):
        def do(self, unit, folder, progress):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().do(unit, folder, progress)

    work = Names(Struck(tmp_path / "log"))
    with pytest.warns(UserWarning, match="finished first"), pytest.raises(KeyboardInterrupt):
        InProcess(tmp_path).run(["a"], work, Heard())
    assert work.results == {}
