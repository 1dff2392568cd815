"""What the commands that are disturbed work on, made once; and what each gives if nothing disturbs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import TASKS, make_needs
from tests.faults.folders import contents
from tests.faults.harness import run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the dataset and the run, and with the attack once a command needs it."""
    return make_needs(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which every command runs: its path is in some results."""
    return tmp_path_factory.mktemp("place") / "work"


@pytest.fixture(scope="session")
def undisturbed(made: Path, place: Path) -> Callable[[str], dict[str, str]]:
    """A function from a command's name in TASKS to what it writes if nothing disturbs it."""
    known: dict[str, dict[str, str]] = {}

    def result(name: str) -> dict[str, str]:
        if name not in known:
            task = TASKS[name]
            run(task.words, task.set_up(made, place)).fine(*task.codes)
            known[name] = contents(place / "out")
        return known[name]

    return result
