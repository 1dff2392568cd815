"""A full disk ends a command with one sentence; with more room the same command goes on, and the result is identical.

VOXWARD_FAULTS sets how many sizes of the disk are tried for each command.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import TASKS
from tests.faults.harness import run
from tests.faults.mounts import ReadOnly, WithoutPrivileges, enlarge, needs_root, small_disk
from tests.faults.repeats import check_repeat

FAULTS = int(os.environ.get("VOXWARD_FAULTS", "4"))
Undisturbed = Callable[[str], dict[str, str]]
_FULL = "No space left on device"


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_full(name: str, made: Path, place: Path, undisturbed: Undisturbed) -> None:
    task, wanted, tally = TASKS[name], undisturbed(name), Counter[str]()
    needed, rng = _kib(place / "out"), random.Random(f"disks of {name}")
    for _ in range(FAULTS):
        task.set_up(made, place)
        with small_disk(place / "out", max(8, int(needed * rng.uniform(0.02, 1.1)))) as disk:
            ended = run(task.words, place).fine(1, 2, *task.codes)
            tally["tried"] += 1
            tally["full"] += _FULL in ended.said
            assert _FULL in ended.said or ended.code in task.codes, ended.said
            enlarge(disk, 4 * needed + 4096)
            kept = check_repeat(task, made, place, wanted)
            assert kept.redone <= 1
            tally["identical"] += 1
    print(f"\n{name}: {dict(tally)}")


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("fault", ["read-only", "no permission"])
def test_every_command_refuses_what_cannot_be_written(name: str, fault: str, made: Path, place: Path) -> None:
    check_refused(name, fault, made, place)


def check_refused(name: str, fault: str, made: Path, place: Path) -> None:
    """The first line that a command prints is the error, which names the folder."""
    task = TASKS[name]
    task.set_up(made, place)
    locked = place / "locked"
    locked.mkdir()
    words = [word.replace("out", "locked/out") if word.startswith("out") else word for word in task.words]
    locked.chmod(0o555)
    ended = run(words, place, ReadOnly(locked) if fault == "read-only" else WithoutPrivileges()).fine(2)
    lines = [line for line in ended.said.splitlines() if line.strip() and not line.startswith("warning: ")]
    assert len(lines) == 1, ended.said
    assert lines[0].startswith("error: ")
    assert "locked" in lines[0]
    assert list(locked.iterdir()) == []


def _kib(folder: Path) -> int:
    return int(subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[0])
