"""Run commands of voxward in child processes that can be killed at any moment.

A server imports everything once and then forks, so that a command begins within milliseconds and is killed while it
works, not while it imports.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxward.data.loader import PatchBatch

ROOT = Path(__file__).parents[2]
LIMIT = 120.0
"""Seconds after which a command has hung."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTEXT = multiprocessing.get_context("forkserver")

Fault = Callable[[], object]
"""Something that is done in the child before its command begins; it must be picklable."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; -9 if it was killed.
        said: What it printed, without colours.
    """

    code: int
    said: str

    def fine(self, *codes: int) -> Ended:
        """Return this if the command ended with one of the codes (0 if none is named), and without a traceback."""
        assert self.code in (codes or (0,)), f"exit code {self.code}: {self.said}"
        assert "Traceback" not in self.said, self.said
        return self


class Started:
    """A command that runs in a process group of its own, in a folder.

    Args:
        words: The words after `voxward`.
        folder: The folder in which it runs; what it prints goes beside it, into FOLDER.log.
        faults: What is done in the child first.
    """

    def __init__(self, words: Sequence[str], folder: Path, faults: Sequence[Fault] = ()) -> None:
        self._log = folder.with_name(f"{folder.name}.log")
        self._log.write_bytes(b"")
        self.process = _CONTEXT.Process(target=_child, args=(list(words), folder, self._log, tuple(faults)))
        assert isinstance(self.process, ForkServerProcess)
        with _importable():
            self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        self.began, self.seconds = time.monotonic(), 0.0

    @property
    def said(self) -> str:
        """Return what it has printed so far, without colours."""
        return _COLOUR.sub("", self._log.read_text(encoding="utf-8", errors="replace"))

    def wait(self, seconds: float = LIMIT) -> Ended:
        """Return how it ended; one that still runs after so many seconds has hung, which fails the test."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"still running after {seconds:g} s: {self.said}")
        self.seconds = time.monotonic() - self.began
        return Ended(self.process.exitcode, self.said)

    def kill_after(self, seconds: float) -> bool:
        """Kill it and all its children after so many seconds; return False if it had ended before."""
        self.process.join(max(0.0, self.began + seconds - time.monotonic()))
        if self.process.exitcode is not None:
            return False
        self.kill()
        return self.process.exitcode == -signal.SIGKILL

    def kill(self) -> None:
        """Kill it and its children at once, and wait until they are gone."""
        self.signal_group(signal.SIGKILL)
        self.process.join(LIMIT)

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its children, as a terminal or a cluster does."""
        # The child makes its group at once, but not before it is started.
        while self.process.is_alive():
            try:
                os.killpg(self.pid, number)
                return
            except ProcessLookupError:
                time.sleep(0.001)

    def group(self) -> list[int]:
        """Return the numbers of the living processes of its group."""
        return [number for number, _, group in _processes() if group == self.pid]

    def until_gone(self, seconds: float = 30.0) -> None:
        """Wait until no process of its group is left; fail if one stays."""
        end = time.monotonic() + seconds
        while left := self.group():
            assert time.monotonic() < end, f"processes that stay: {left}"
            time.sleep(0.05)


def run(words: Sequence[str], folder: Path, *faults: Fault) -> Ended:
    """Run a command to its end.

    Args:
        words: The words after `voxward`.
        folder: The folder in which it runs.
        faults: What is done in the child first.
    """
    return Started(words, folder, faults).wait()


@dataclass(frozen=True)
class DieAtFile:
    """Kill the process at its n-th touch of a file: just before it opens one for writing, renames or removes one.

    Attributes:
        number: n, from 0.
        below: The folder in which files count.
        tally: A file that gets a byte for every touch, so that a run can be counted; nothing is killed then.
    """

    number: int
    below: Path
    tally: Path | None = None

    def __call__(self) -> None:
        """Install the fault in this process."""
        touches = 0
        below, mine = str(self.below), None if self.tally is None else self.tally.open("ab", buffering=0)

        def note(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal touches
            if not _touches(event, arguments, below):
                return
            touches += 1
            if mine is not None:
                mine.write(b".")
            elif touches > self.number:
                os.killpg(os.getpid(), signal.SIGKILL)

        sys.addaudithook(note)


@dataclass(frozen=True)
class AtStep:
    """Do something just before a training does a step.

    Attributes:
        step: The number of the step, from 1.
        act: What is done; it must be picklable.
    """

    step: int
    act: Fault

    def __call__(self) -> None:
        """Install the fault in this process."""
        from voxward.training.loop import TrainingSitting

        learn, steps = TrainingSitting._learn, count(1)

        def learnt(sitting: TrainingSitting, batch: PatchBatch) -> None:
            if next(steps) == self.step:
                self.act()
            learn(sitting, batch)

        TrainingSitting._learn = learnt  # type: ignore[method-assign]


@dataclass(frozen=True)
class Send:
    """Send signals.

    Attributes:
        signals: Their numbers, in their order.
        to: `self`: to this process; `group`: to this process and its children; `child`: to one of its children.
    """

    signals: tuple[int, ...]
    to: str = "self"

    def __call__(self) -> None:
        """Send them."""
        for number in self.signals:
            if self.to == "group":
                os.killpg(os.getpid(), number)
            elif self.to == "child":
                os.kill(next(child for child, parent, _ in _processes() if parent == os.getpid()), number)
            else:
                os.kill(os.getpid(), number)


def _touches(event: str, arguments: tuple[object, ...], below: str) -> bool:
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        return bool(writes) and _is_below(path, below)
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and _is_below(arguments[0], below)


def _is_below(path: object, below: str) -> bool:
    try:
        return os.path.abspath(os.fsdecode(path)).startswith(below)  # type: ignore[call-overload]
    except TypeError:
        return False  # a descriptor


def _child(words: list[str], folder: Path, log: Path, faults: Sequence[Fault]) -> None:
    os.setsid()
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # the default again, as in an ordinary process
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_APPEND)):
        os.dup2(os.open(name, flags), number)
    os.dup2(1, 2)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    for fault in faults:
        fault()
    from voxward.cli import main

    sys.exit(main(words))


@contextmanager
def _importable():
    """Let the server find this package; it is started with the first command."""
    before = os.environ.get("PYTHONPATH"), os.environ.get("OMP_NUM_THREADS")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), before[0])))
    os.environ["OMP_NUM_THREADS"] = "1"  # a process that has threads cannot be forked
    _CONTEXT.set_forkserver_preload(["tests.faults.imported"])
    try:
        yield
    finally:
        for name, value in zip(("PYTHONPATH", "OMP_NUM_THREADS"), before, strict=True):
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _processes() -> list[tuple[int, int, int]]:
    """The number, the parent and the group of every living process."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if words[0] not in "ZX":
                found.append((int(path.name), int(words[1]), int(words[2])))
    return found
