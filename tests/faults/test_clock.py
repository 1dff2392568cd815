"""A wall clock that is set forward and back while a command works changes nothing: durations are measured otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import TASKS
from tests.faults.folders import contents, differences
from tests.faults.harness import Started, run
from voxward.core.leftovers import DAY, remove_leftovers

Undisturbed = Callable[[str], dict[str, str]]


class Jumping:
    """Let the wall clock of the process jump by ten days, forward and back, every time that it is read."""

    def __call__(self) -> None:
        right, calls = time.time, iter(range(10**9))
        time.time = lambda: right() + (10 * DAY if next(calls) % 2 else -10 * DAY)


def test_another_machines_work_stays_when_this_machines_clock_is_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".unfinished-00000000.7.12345678-a").write_text("half")
    monkeypatch.setattr(time, "time", lambda: time.monotonic() + 1e12)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepare", "train", "attack", "predict"])
def test_results_are_the_same(name: str, made: Path, place: Path, undisturbed: Undisturbed) -> None:
    task, wanted = TASKS[name], undisturbed(name)
    run(task.words, task.set_up(made, place), Jumping()).fine(*task.codes)
    assert differences(wanted, contents(place / "out")) == []


@pytest.mark.slow
def test_a_time_budget_is_kept(made: Path, place: Path) -> None:
    """Six seconds are no ten days, and more than nothing."""
    task = TASKS["train"]
    started = Started([*task.words, "--minutes", "0.1"], task.set_up(made, place), [Jumping()])
    ended = started.wait(60.0).fine()
    assert started.seconds > 3.0
    steps = int(ended.said.rpartition(" steps ·")[0].rpartition("/")[2])
    assert steps > 4, "more than the two epochs of the recipe"
