"""A command that was disturbed is called again: then everything is as if nothing had disturbed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import ATTACK, RUN, Task
from tests.faults.folders import contents, differences, disowned, unfinished
from tests.faults.harness import Ended, run

_NOTHING_YET = "start it without --resume"


@dataclass(frozen=True)
class Kept:
    """What a disturbed command left behind.

    Attributes:
        leftovers: How many unfinished files and folders it left.
        units: How many files of finished work it left.
        redone: How many of those the repeat wrote once more.
    """

    leftovers: int
    units: int
    redone: int


def check_repeat(task: Task, made: Path, folder: Path, wanted: dict[str, str]) -> Kept:
    """Check what a disturbed command left behind, call it again, and check that the result is the undisturbed one.

    Args:
        task: The command.
        made: The folder that holds everything that it may need.
        folder: The folder in which it ran.
        wanted: What it writes if nothing disturbs it.
    """
    out = folder / "out"
    left = len(unfinished(folder))
    early = contents(out)  # fails where a file is half written
    wrong = [name for name, said in early.items() if wanted.get(name, said) != said and not task.grows(name)]
    assert not wrong, f"not final under a final name: {wrong}"
    times = {name: (out / name).stat().st_mtime_ns for name in early if task.is_unit(name)}
    again(task, folder).fine(*task.codes)
    assert differences(wanted, contents(out)) == []
    assert disowned(folder) == []
    assert unfinished(folder) == []
    for name in {RUN, ATTACK}.intersection(task.needs):
        assert differences(contents(made / name), contents(folder / name)) == [], f"{name} was changed"
    return Kept(left, len(times), sum((out / name).stat().st_mtime_ns != time for name, time in times.items()))


def again(task: Task, folder: Path) -> Ended:
    """Call a command again, as its messages say."""
    ended = run([*task.words, *task.again], folder)
    if task.again and _NOTHING_YET in ended.said:  # disturbed before there was anything to go on with
        ended.fine(2)
        return run(task.words, folder)
    return ended
