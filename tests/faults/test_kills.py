"""A command that is killed (SIGKILL) at any moment loses nothing that was finished, and leaves nothing half written.

The same command again gives what an undisturbed run gives, file by file. VOXWARD_FAULTS sets how often each command is
killed in the campaigns: half of the times at a moment, half of them at a touch of a file. `pytest -s` prints the table.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.commands import TASKS
from tests.faults.harness import DieAtFile, Started, run
from tests.faults.repeats import check_repeat

FAULTS = int(os.environ.get("VOXWARD_FAULTS", "4"))
ONCE = ("predict", "prepare", "train")
Undisturbed = Callable[[str], dict[str, str]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE)
def test_killed_once(name: str, made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """In the middle, at one of the moments at which a file is touched."""
    task, wanted = TASKS[name], undisturbed(name)
    middle = _touches(name, made, place) // 2
    ended = run(task.words, task.set_up(made, place), DieAtFile(middle, place / "out"))
    assert ended.code == -9
    check_repeat(task, made, place, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_campaign(name: str, made: Path, place: Path, undisturbed: Undisturbed) -> None:
    task, wanted, tally = TASKS[name], undisturbed(name), Counter[str]()
    for kind, kill in _kills(name, made, place):
        task.set_up(made, place)
        tally[f"{kind}, tried"] += 1
        tally[f"{kind}, hit"] += kill()
        kept = check_repeat(task, made, place, wanted)
        assert kept.redone <= 1  # the file of the unit in flight
        tally["identical"] += 1
        tally["left something unfinished"] += kept.leftovers > 0
        tally["files of finished work"] += kept.units
        tally["written once more"] += kept.redone
    print(f"\n{name}: {dict(tally)}")
    assert tally["at a file, hit"] == tally["at a file, tried"]


def _kills(name: str, made: Path, place: Path) -> Iterator[tuple[str, Callable[[], bool]]]:
    """The kills of a campaign: what is done to a command that is to begin in its folder, and whether it was hit."""
    task, rng = TASKS[name], random.Random(f"kills of {name}")
    touches = _touches(name, made, place)
    started = Started(task.words, task.set_up(made, place))
    started.wait().fine(*task.codes)
    seconds = started.seconds
    for _ in range(FAULTS // 2):
        moment = rng.uniform(0.0, 1.02 * seconds)
        yield "at a moment", lambda moment=moment: Started(task.words, place).kill_after(moment)
    for number in sorted(rng.sample(range(touches), min(touches, FAULTS - FAULTS // 2))):
        fault = DieAtFile(number, place / "out")
        yield "at a file", lambda fault=fault: run(task.words, place, fault).code == -9


def _touches(name: str, made: Path, place: Path) -> int:
    """How often an undisturbed run touches a file."""
    task, tally = TASKS[name], place.with_name("tally")
    tally.write_bytes(b"")
    run(task.words, task.set_up(made, place), DieAtFile(0, place / "out", tally)).fine(*task.codes)
    return tally.stat().st_size
