"""A process that reads patches ahead dies: one sentence says what to do, and nothing is lost."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import TASKS
from tests.faults.harness import AtStep, Send, Started, run
from tests.faults.mounts import SmallSharedMemory, needs_root
from tests.faults.repeats import check_repeat

Undisturbed = Callable[[str], dict[str, str]]
WORKERS_0 = ("--set", "training.workers=0")


def check_died(made: Path, place: Path, fault: Callable[[], object]) -> int:
    """The training ends with one sentence, and no process is left; return the step at which it goes on."""
    task = TASKS["train-long"]
    started = Started(task.words, task.set_up(made, place), [fault])
    ended = started.wait().fine(2)
    said = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert re.search(r"a process that reads patches ahead \(training.workers=2\) (was killed|found no room)", said[0])
    assert "/dev/shm" in said[0]
    assert said[0].endswith("--resume continues out")
    started.until_gone()
    return int(said[0].partition("before step ")[2].partition(".")[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_loader_worker_is_killed(made: Path, place: Path, undisturbed: Undisturbed, number: int) -> None:
    task, wanted = TASKS["train-long"], undisturbed("train-long")
    step = check_died(made, place, AtStep(3, Send((number,), "child")))
    resumed = run([*task.words, *task.again, *WORKERS_0], place).fine()
    assert step >= 3
    assert f"train {step}/16" in resumed.said, "the steps before are not done again"
    check_repeat(task, made, place, wanted)


@needs_root
@pytest.mark.slow
def test_shared_memory_is_too_small(made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """No batch fits; PyTorch by itself would wait for ever."""
    task, wanted = TASKS["train-long"], undisturbed("train-long")
    check_died(made, place, SmallSharedMemory(256))
    run([*task.words, *task.again, *WORKERS_0], place, SmallSharedMemory(256)).fine()
    check_repeat(task, made, place, wanted)


@pytest.mark.slow
def test_a_prepared_case_disappears(made: Path, place: Path) -> None:
    """What a loader worker cannot read is told in one line, without the worker's traceback."""
    task = TASKS["train-long"]
    ended = run(task.words, task.set_up(made, place), AtStep(2, Remove(place / "out" / "prepared")))
    ended.fine(2)
    assert "Original" not in ended.said
    assert str(Path("out") / "prepared") in ended.said


class Remove:
    """Remove a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        shutil.rmtree(self.folder)
