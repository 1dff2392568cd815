"""Signals end a command in good order: what was finished is kept, no process is left, and the repeat is identical."""

from __future__ import annotations

import os
import pty
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import TASKS
from tests.faults.harness import AtStep, Fault, Send, Started, run
from tests.faults.repeats import check_repeat

INT, TERM, HUP, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
Undisturbed = Callable[[str], dict[str, str]]


def check_stopped(made: Path, place: Path, wanted: dict[str, str], *faults: Fault) -> None:
    """A training with loader workers saves its state and says so; its repeat goes on there and is identical."""
    task = TASKS["train-long"]
    started = Started(task.words, task.set_up(made, place), faults)
    ended = started.wait().fine(130)
    assert re.search(r"interrupted: stopped at step 5; --resume continues out", ended.said)
    started.until_gone()
    assert check_repeat(task, made, place, wanted).redone == 0


def test_sigterm_to_all_processes_of_a_training(made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """The loader workers must not die of it: the training needs them until the end of its step."""
    check_stopped(made, place, undisturbed("train-long"), AtStep(5, Send((TERM,), "group")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "to"),
    [((TERM,), "self"), ((INT,), "group"), ((USR1,), "group"), ((HUP,), "group"), ((HUP,), "self")],
    ids=str,
)
def test_other_signals_to_a_training(
    made: Path, place: Path, undisturbed: Undisturbed, signals: tuple[int, ...], to: str
) -> None:
    check_stopped(made, place, undisturbed("train-long"), AtStep(5, Send(signals, to)))


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(INT, INT), (TERM, TERM), (INT,) * 5, (TERM, INT)], ids=str)
def test_signals_without_patience(made: Path, place: Path, undisturbed: Undisturbed, signals: tuple[int, ...]) -> None:
    """A second one ends the training at once, from the last saved state on."""
    task = TASKS["train-long"]
    started = Started(task.words, task.set_up(made, place), [AtStep(5, Send(signals, "group"))])
    assert started.wait().code == 130
    started.until_gone()
    check_repeat(task, made, place, undisturbed("train-long"))


@pytest.mark.slow
def test_the_trainer_alone_is_killed(made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """Its loader workers end by themselves."""
    task = TASKS["train-long"]
    started = Started(task.words, task.set_up(made, place), [AtStep(5, Send((signal.SIGKILL,)))])
    assert started.wait().code == -9
    started.until_gone()
    check_repeat(task, made, place, undisturbed("train-long"))


class InTerminal:
    """Put the process into a terminal of its own, which is closed when the given fault happens."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self) -> None:
        """Make the terminal, and the fault that closes it."""
        import fcntl
        import termios

        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for stream in (0, 1, 2):
            os.dup2(slave, stream)
        os.close(slave)
        os.set_inheritable(master, False)
        AtStep(self.step, CloseAll(master))()


class CloseAll:
    """Close the terminal's other end, which the loader workers hold, too: they are forked copies of this process."""

    def __init__(self, master: int) -> None:
        self.master = master

    def __call__(self) -> None:
        os.close(self.master)


@pytest.mark.slow
def test_a_terminal_is_closed(made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """Nothing can be printed any more; the training saves its state nevertheless."""
    task = TASKS["train"]
    ended = run(task.words, task.set_up(made, place), InTerminal(2))
    assert ended.code == 130
    state = place / "out" / "checkpoints" / "state.pt"
    assert state.is_file()
    resumed = run([*task.words, *task.again], place).fine()
    assert "train 3/4" in resumed.said
    check_repeat(task, made, place, undisturbed("train"))


@pytest.mark.slow
def test_nohup_is_respected(made: Path, place: Path, undisturbed: Undisturbed) -> None:
    """A hangup that was ignored before the command began stays ignored."""
    task = TASKS["train"]
    run(task.words, task.set_up(made, place), IgnoreHangup(), AtStep(2, Send((HUP,)))).fine()
    check_repeat(task, made, place, undisturbed("train"))


class IgnoreHangup:
    """What `nohup` does."""

    def __call__(self) -> None:
        signal.signal(HUP, signal.SIG_IGN)


@pytest.mark.slow
@pytest.mark.parametrize("number", [INT, TERM, HUP])
@pytest.mark.parametrize("name", ["prepare", "predict", "evaluate", "attack", "cv", "search", "harden", "report"])
def test_signals_to_other_commands(made: Path, place: Path, undisturbed: Undisturbed, name: str, number: int) -> None:
    """At three moments; each ends with the exit code of an interruption, or had ended before."""
    task, wanted = TASKS[name], undisturbed(name)
    started = Started(task.words, task.set_up(made, place))
    started.wait().fine(*task.codes)
    for share in (0.2, 0.5, 0.8):
        begun = place.with_name("begun")
        begun.unlink(missing_ok=True)
        disturbed = Started(task.words, task.set_up(made, place), [Touch(begun)])
        while not begun.exists():
            disturbed.process.join(0.01)
        disturbed.process.join(0.1 + share * started.seconds)
        if disturbed.process.is_alive():
            disturbed.signal_group(number)
        ended = disturbed.wait()
        if ended.code != -number or ended.said:  # it may just have begun to read its arguments
            ended.fine(130, *task.codes)
        check_repeat(task, made, place, wanted)


class Touch:
    """Make a file, to say that the command begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> None:
        self.path.touch()
